"""workers=auto: processes for MuJoCo's own tasks, as many as have a core and four environments each."""

import pytest

from rlopt.config import options, read_config
from rlopt.errors import UserError


@pytest.mark.parametrize(("cores", "overrides", "processes"), [
    (2, ["env=hopper", "env.num_envs=8"], 2),
    (8, ["env=hopper", "env.num_envs=16", "batch_size=2048"], 4),
    (8, ["env=hopper", "env.num_envs=4"], 1),
    (1, ["env=hopper", "env.num_envs=16"], 1),
    (8, ["env=hopper", "env.num_envs=16", "env.backend=sync"], 1),
    (8, ["env=cartpole", "env.num_envs=16"], 1),
    (1, ["env=cartpole", "env.num_envs=16", "workers=3"], 3),
])  # fmt: skip
def test_auto_goes_by_cores_and_environments(monkeypatch, cores, overrides, processes):
    monkeypatch.setattr(options, "own_cores", lambda: cores)
    assert read_config(overrides).processes == processes


@pytest.mark.parametrize("workers", ["no", "1.5", "null", "true", "0"])
def test_other_values_are_refused_with_what_is_possible(workers):
    with pytest.raises(UserError, match="workers must be a whole number, 1 or above, or auto; got"):
        read_config([f"workers={workers}"])

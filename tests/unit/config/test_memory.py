"""The estimate of a run's memory."""

import pytest

from rlopt.config import memory, read_config
from rlopt.errors import UserError


@pytest.mark.parametrize(
    ("typed", "needed"),
    [
        (["batch_size=1000", "env.num_envs=10"], 1000 * (2 * 7 + 4) * 4 + 10 * 4096),
        (["batch_size=1000", "env.num_envs=10", "workers=2"], 2 * 1000 * (2 * 7 + 4) * 4 + 10 * 4096),
        (["batch_size=1000", "env.num_envs=10", "reuse.batches=4"], 4 * 1000 * (2 * 7 + 4) * 4 + 10 * 4096),
        (["batch_size=1000", "env.num_envs=1000", "dtype=float64"], 1000 * (2 * 7 + 4) * 8 + 1000 * 4096),
    ],
)
def test_a_run_beyond_the_memory_is_refused(monkeypatch, typed, needed):
    config = read_config(typed)
    monkeypatch.setattr(memory, "memory", lambda: float(needed))
    memory.check_memory(config, 7)
    monkeypatch.setattr(memory, "memory", lambda: needed - 1.0)
    with pytest.raises(UserError, match="^the run does not fit into memory: batch_size=1000 transitions of 7 numbers"):
        memory.check_memory(config, 7)


def test_this_machine_says_how_much_memory_it_has():
    assert memory.memory() > 2**28

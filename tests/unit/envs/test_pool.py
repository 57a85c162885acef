"""EnvPool's own environments: their spaces, seeds, and what is said of an id that it does not have."""

import numpy as np
import pytest

from rlopt.envs.pool import EnvPoolEnv, check_id
from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError
from tests.support.training import make_trainer

pytest.importorskip("envpool", reason="wants the extra envpool")
OWN = ["env.id=Catch-v0", "env.backend=envpool"]  # which Gymnasium does not have


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("ALE/Pong-v5", "EnvPool has no env.id=ALE/Pong-v5; it has Pong-v5: type env.id=Pong-v5, or env.backend=sync"),
        ("Ponk-v5", "it has Pong-v5"),
        ("mine/Xyzzy-v0", "EnvPool has no env.id=mine/Xyzzy-v0; choose env.backend=sync"),
    ],
)
def test_an_id_that_it_does_not_have_is_one_line(id, said):
    with pytest.raises(UserError, match=said):
        check_id(id)
    spec = EnvSpec(name="any", id=id, num_envs=2, backend="envpool", timeout=None, kwargs={})
    with pytest.raises(UserError, match=said):
        spec.make()


def test_a_games_spaces_are_envpools():
    spec = EnvSpec(name="any", id="Pong-v5", num_envs=2, backend="envpool", timeout=None, kwargs={})
    observations, actions = spec.spaces()
    assert observations.shape == (4, 84, 84) and observations.dtype == np.uint8 and actions.n == 6
    envs = spec.make_vector()
    assert envs.single_observation_space == observations and envs.single_action_space == actions
    assert envs.reset(seed=1)[0].shape == (2, 4, 84, 84)
    envs.close()


def test_one_of_them_is_that_of_the_pool():
    """The same seed gives the same episode; a reset without one begins another."""
    spec = EnvSpec(name="any", id="Catch-v0", num_envs=3, backend="envpool", timeout=None, kwargs={})
    pool, alone = spec.make_vector(), EnvPoolEnv("Catch-v0")
    seen = [pool.reset(seed=[4, 5, 6])[0][1]], [alone.reset(seed=5)[0]]
    rewards: tuple[list[float], list[float]] = [], []
    for action in (0, 2, 2, 1, 0):
        o, r, *_ = pool.step(np.full(3, action))
        seen[0].append(o[1]), rewards[0].append(float(r[1]))
        o, r, *_ = alone.step(action)
        seen[1].append(o), rewards[1].append(r)
    assert np.array_equal(seen[0], seen[1]) and rewards[0] == rewards[1]
    pool.close(), alone.close()


def test_it_trains_and_is_evaluated(tmp_path):
    run = make_trainer(*OWN, "algo=ppo", "batch_size=200", "total_steps=400", "evaluation.episodes=4",
                       f"run_dir={tmp_path}")  # fmt: skip
    summary = run.run()
    assert summary["env"] == "Catch-v0" and -1 <= summary["evaluation_return"] <= 1

"""The mujoco backend: states that are saved, training as by the sync backend, and whom it serves."""

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from rlopt.envs.mujoco import task_of
from rlopt.envs.replay import Script
from rlopt.envs.spec import EnvSpec
from tests.support.building import resolve, trainer
from tests.support.mujoco import make, random_actions
from tests.support.traces import same, tree_of
from tests.support.training import scalars


@pytest.mark.parametrize("task", ["HalfCheetah", "Hopper", "Ant", "Humanoid", "Reacher"])
def test_a_saved_state_goes_on_to_the_bit(task):
    """In other environments, in the middle of an episode and through the next ones."""
    one, other = (make(f"{task}-v5", "mujoco", 2, max_episode_steps=9) for _ in range(2))
    act = random_actions(one, 1)
    observations, _ = one.reset(seed=[1, 2])
    other.reset(seed=[8, 9])
    for _ in range(13):
        observations = one.step(act(observations))[0]
    states = one.saved_states()
    scripts = [Script(None, (), observations[e], 5, saved=state) for e, state in enumerate(states)]
    assert all(replayed.exact for replayed in other.replay(scripts))
    for _ in range(20):
        actions = act(observations)
        for x, y in zip(one.step(actions)[:4], other.step(actions)[:4], strict=True):
            assert np.array_equal(x, y)


def test_a_state_of_another_kind_begins_a_new_episode():
    envs = make("Hopper-v5", "mujoco", 2)
    first = envs.reset(seed=5)[0][0].copy()
    scripts = [Script({"seed": 3}, (), np.zeros(11), 5), Script(None, (), np.zeros(11), 6, saved={"state": {}})]
    found = envs.replay(scripts)
    assert [replayed.exact for replayed in found] == [False, False]
    assert np.array_equal(found[0].observation, first)


SMALL = ["algo=trpo", "env=hopper", "env.num_envs=4", "batch_size=200", "total_steps=1000", "policy.hidden=[8]",
         "critic.hidden=[8]", "evaluation.episodes=3"]  # fmt: skip


@pytest.mark.parametrize("more", [[], ["workers=2"]], ids=["one process", "two workers"])
def test_training_is_that_of_the_sync_backend(tmp_path, more):
    """Theta and every average after five updates, and the evaluation; it alone knows how long MuJoCo took."""
    trees = []
    for backend in ("sync", "auto"):
        run = trainer(resolve([*SMALL, *more, f"env.backend={backend}", f"run_dir={tmp_path / backend}"]))
        summary = run.run()
        run.collector.close()
        trees.append({"agent": tree_of(tmp_path / backend)["agent"], "return": summary["evaluation_return"]})
    assert same(*trees)
    assert "time/physics" not in scalars(tmp_path / "sync")
    shares = [share for _, share in scalars(tmp_path / "auto")["time/physics"]]
    assert len(shares) == 5 and all(0 < share < 1 for share in shares)


class Mine(HalfCheetahEnv):
    """Another task by the same code."""


def test_only_gymnasiums_own_tasks_are_taken(monkeypatch):
    spec = gym.envs.registration.EnvSpec("Mine-v5", entry_point=Mine)
    wrapped = deepcopy(gym.spec("Hopper-v5"))
    wrapped.id, wrapped.additional_wrappers = "Wrapped-v5", (gym.envs.registration.WrapperSpec("a", "b:c", {}),)
    monkeypatch.setitem(gym.registry, "Mine-v5", spec)
    monkeypatch.setitem(gym.registry, "Wrapped-v5", wrapped)
    for id in ("Mine-v5", "Wrapped-v5", "HalfCheetah-v4", "CartPole-v1"):
        assert task_of(id) is None
        assert EnvSpec("other", id, 1, "auto", None, {}).steps_by == "sync"
        with pytest.raises(ValueError, match=f"HalfCheetah-v5, .*, and {id} is none of them; type env.backend=sync"):
            EnvSpec("other", id, 1, "mujoco", None, {})
    assert EnvSpec("own", "Hopper-v5", 1, "auto", None, {}).steps_by == "mujoco"

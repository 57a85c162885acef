"""The mujoco backend against Gymnasium's own environments, to the bit."""

from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from rlopt.envs.mujoco import MujocoEnvs, task_of
from rlopt.envs.replay import Script
from rlopt.envs.spec import EnvSpec
from rlopt.envs.vector import SyncEnvs
from tests.support.building import resolve, trainer
from tests.support.traces import same, tree_of

TASKS = [
    "HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid", "HumanoidStandup", "Swimmer", "Reacher", "Pusher",
    "InvertedPendulum", "InvertedDoublePendulum",
]  # fmt: skip
PARTS = ("observations", "rewards", "terminations", "truncations")
OPTIONS = {
    "HalfCheetah": {"exclude_current_positions_from_observation": False, "frame_skip": 2, "ctrl_cost_weight": 1},
    "Hopper": {"terminate_when_unhealthy": False, "healthy_state_range": [-3.0, 3.0], "reset_noise_scale": 0.1},
    "Walker2d": {"healthy_z_range": [1.1, 1.3], "healthy_reward": 2.5, "forward_reward_weight": 3},
    "Ant": {"include_cfrc_ext_in_observation": False, "contact_force_range": [-0.5, 0.5], "main_body": 2},
    "Humanoid": {"include_cinert_in_observation": False, "contact_cost_weight": 0.01, "contact_cost_range": [0, 1]},
    "HumanoidStandup": {"include_cvel_in_observation": False, "impact_cost_weight": 0.1, "max_episode_steps": 30},
    "Pusher": {"reward_near_weight": 2.0, "max_episode_steps": 7},
    "Reacher": {"reward_control_weight": 0.5},
    "InvertedDoublePendulum": {"healthy_reward": 3},
}


def make(id: str, backend: str, count: int, **kwargs: object) -> SyncEnvs | MujocoEnvs:
    envs = EnvSpec("a task", id, count, backend, None, dict(kwargs)).make_vector()
    assert isinstance(envs, SyncEnvs | MujocoEnvs)
    return envs


def random_actions(envs: SyncEnvs | MujocoEnvs, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    generator, space = np.random.default_rng(seed), envs.single_action_space
    assert isinstance(space, gym.spaces.Box)
    return lambda _: generator.uniform(space.low, space.high, (envs.num_envs, *space.shape)).astype(np.float32)


def compare(id: str, count: int, episodes: int, steps: int, **kwargs: object) -> int:
    """Step both backends until ``episodes`` have ended, ``steps`` at most; how many did. All must be equal."""
    theirs, own = (make(id, backend, count, **kwargs) for backend in ("sync", "mujoco"))
    act, ended = random_actions(own, 0), 0
    first = [envs.reset(seed=[3 * e for e in range(count)])[0] for envs in (theirs, own)]
    assert np.array_equal(*first)
    for t in range(steps):
        actions = act(first[0])
        (*found, info), (*wanted, expected) = own.step(actions), theirs.step(actions)
        for part, x, y in zip(PARTS, found, wanted, strict=True):
            assert np.array_equal(x, y), f"{part} at step {t}"
        assert ("final_obs" in info) == ("final_obs" in expected)
        for x, y in zip(info.get("final_obs", ()), expected.get("final_obs", ()), strict=True):
            assert (x is None and y is None) or np.array_equal(x, y)
            ended += x is not None
        if ended >= episodes:
            break
    return ended


@pytest.mark.parametrize("task", TASKS)
def test_every_number_is_gymnasiums(task):
    assert compare(f"{task}-v5", 3, 9, 60, max_episode_steps=25) >= 6


@pytest.mark.parametrize("task", OPTIONS)
def test_options_mean_what_they_do_in_gymnasium(task):
    compare(f"{task}-v5", 2, 4, 60, **OPTIONS[task])


@pytest.mark.fuzz
@pytest.mark.parametrize("task", TASKS)
def test_two_hundred_episodes_are_gymnasiums(task):
    assert compare(f"{task}-v5", 8, 200, 10**6) >= 200


@pytest.mark.parametrize("task", TASKS)
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


@pytest.mark.parametrize("task", TASKS)
def test_tensors_give_what_arrays_give(task):
    envs = make(f"{task}-v5", "mujoco", 3)
    assert isinstance(envs, MujocoEnvs)
    envs.reset(seed=1)
    act = random_actions(envs, 2)
    for _ in range(5):
        envs.step(actions := act(np.empty(0)).astype(np.float64))
    s = envs.physics
    tensors = SimpleNamespace(**{name: torch.from_numpy(x.copy()) for name, x in vars(s).items()})
    speed, healthy = np.linspace(-1, 1, 3), envs.task.healthy(s)
    their_healthy = envs.task.healthy(tensors)
    pairs = [
        (envs.task.place(s), envs.task.place(tensors)),
        (envs.task.observe(s), envs.task.observe(tensors)),
        (
            envs.task.reward(s, actions, speed, healthy),
            envs.task.reward(tensors, torch.from_numpy(actions), torch.from_numpy(speed), their_healthy),
        ),
    ]
    for x, y in pairs:
        assert isinstance(y, torch.Tensor)
        np.testing.assert_allclose(y.numpy(), x, rtol=1e-12, atol=1e-12)
    assert healthy is None or np.array_equal(healthy, their_healthy.numpy())


SMALL = ["algo=trpo", "env=hopper", "env.num_envs=4", "batch_size=200", "total_steps=1000", "policy.hidden=[8]",
         "critic.hidden=[8]", "evaluation.episodes=3"]  # fmt: skip


@pytest.mark.parametrize("more", [[], ["workers=2"]], ids=["one process", "two workers"])
def test_training_is_that_of_the_sync_backend(tmp_path, more):
    """Theta and every average after five updates, and the evaluation."""
    trees = []
    for backend in ("sync", "auto"):
        run = trainer(resolve([*SMALL, *more, f"env.backend={backend}", f"run_dir={tmp_path / backend}"]))
        summary = run.run()
        run.collector.close()
        tree = tree_of(tmp_path / backend)
        trees.append(
            {"state": tree["agent"] if "agent" in tree else tree["state"], "return": summary["evaluation_return"]}
        )
    assert same(*trees)


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

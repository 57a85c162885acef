"""Every task against Gymnasium's own environment, to the bit, and on tensors."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

import rlopt
from rlopt.envs.mujoco import MujocoEnvs, task_of
from rlopt.envs.mujoco.ant import Ant
from rlopt.envs.mujoco.half_cheetah import HalfCheetah
from rlopt.envs.mujoco.hopper import Hopper
from rlopt.envs.mujoco.humanoid import Humanoid
from rlopt.envs.mujoco.humanoid_standup import HumanoidStandup
from rlopt.envs.mujoco.inverted_double_pendulum import InvertedDoublePendulum
from rlopt.envs.mujoco.inverted_pendulum import InvertedPendulum
from rlopt.envs.mujoco.pusher import Pusher
from rlopt.envs.mujoco.reacher import Reacher
from rlopt.envs.mujoco.swimmer import Swimmer
from rlopt.envs.mujoco.task import Task
from rlopt.envs.mujoco.walker2d import Walker2d
from rlopt.policy.policy import Policy
from tests.support.mujoco import make, random_actions

CLASSES: list[type[Task]] = [
    HalfCheetah, Hopper, Walker2d, Ant, Humanoid, HumanoidStandup, Swimmer, Reacher, Pusher, InvertedPendulum,
    InvertedDoublePendulum,
]  # fmt: skip
TASKS = [task.__name__ for task in CLASSES]
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


def compare(
    id: str, count: int, episodes: int, steps: int, policy: Policy | None = None, **kwargs: object
) -> tuple[list[str], int]:
    """Step both backends until ``episodes`` have ended, ``steps`` at most: what differs, and how many have ended.

    Actions are random, or drawn from the ``policy``.
    """
    theirs, own = (make(id, backend, count, **kwargs) for backend in ("sync", "mujoco"))
    act, ended, differing = random_actions(own, 0), 0, []
    if policy is not None:
        act = partial(policy.sample, generator=np.random.default_rng(0))
    first = [envs.reset(seed=[3 * e for e in range(count)])[0] for envs in (theirs, own)]
    if not np.array_equal(*first):
        differing.append("first observations")
    observed = first[0]
    for t in range(steps):
        actions = act(observed)
        (*found, info), (*wanted, expected) = own.step(actions), theirs.step(actions)
        observed, pairs = found[0], list(zip(PARTS, found, wanted, strict=True))
        lasts = [envs_info.get("final_obs", [None] * count) for envs_info in (info, expected)]
        pairs += [
            ("last observations", *pair) for pair in zip(*lasts, strict=True) if any(last is not None for last in pair)
        ]
        differing += [f"{part} at step {t}" for part, x, y in pairs if not np.array_equal(x, y)]
        ended += sum(last is not None for last in lasts[0])
        if ended >= episodes:
            break
    return differing, ended


@pytest.mark.parametrize("task", CLASSES)
def test_ids_are_known(task):
    assert task_of(f"{task.__name__}-v5") is task


@pytest.mark.parametrize("task", TASKS)
def test_every_number_is_gymnasiums(task):
    differing, ended = compare(f"{task}-v5", 3, 9, 60, max_episode_steps=25)
    assert differing == [] and ended >= 6


@pytest.mark.parametrize("task", OPTIONS)
def test_options_mean_what_they_do_in_gymnasium(task):
    assert compare(f"{task}-v5", 2, 4, 60, **OPTIONS[task])[0] == []


@pytest.mark.fuzz
@pytest.mark.parametrize("task", TASKS)
def test_two_hundred_episodes_are_gymnasiums(task):
    differing, ended = compare(f"{task}-v5", 8, 200, 10**6)
    assert differing == [] and ended >= 200


@pytest.mark.learning
@pytest.mark.parametrize("task", TASKS)
def test_fifty_episodes_of_a_trained_policy_agree(task, tmp_path):
    run_dir, _ = rlopt.train("algo=trpo", f"env.id={task}-v5", "total_steps=100000", f"run_dir={tmp_path}/run",
                             "evaluation.episodes=0")  # fmt: skip
    differing, ended = compare(f"{task}-v5", 8, 50, 10**6, rlopt.load(run_dir))
    assert differing == [] and ended >= 50


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


@pytest.mark.parametrize("task", TASKS)
def test_float32_agrees_to_1e_6(task):
    """Of the largest number in the row, or of 1: what `env.backend=warp` computes of the same state."""
    envs = make(f"{task}-v5", "mujoco", 3)
    assert isinstance(envs, MujocoEnvs)
    envs.reset(seed=1)
    act = random_actions(envs, 2)
    for _ in range(20):
        envs.step(actions := act(np.empty(0)).astype(np.float64))
    s, speed = envs.physics, np.linspace(-1, 1, 3)
    wanted = envs.task.observe(s), envs.task.reward(s, actions, speed, healthy := envs.task.healthy(s))
    single = SimpleNamespace(**{name: torch.from_numpy(x).float() for name, x in vars(s).items()})
    envs.task.prepare(torch.empty(0))
    of_single = envs.task.healthy(single)
    seen = envs.task.observe(single)
    reward = envs.task.reward(single, torch.from_numpy(actions).float(), torch.from_numpy(speed).float(), of_single)
    assert seen.dtype == reward.dtype == envs.task.place(single).dtype == torch.float32
    size = np.maximum(np.abs(wanted[0]).max(1), 1)
    assert (np.abs(seen.double().numpy() - wanted[0]).max(1) <= 1e-6 * size).all()
    assert (np.abs(reward.double().numpy() - wanted[1]) <= 1e-6 * size).all()
    assert healthy is None or np.array_equal(healthy, of_single.numpy())


@pytest.mark.parametrize("task", TASKS)
def test_tensors_begin_as_gymnasium_does(task):
    """The same distribution of every position and velocity, by Kolmogorov and Smirnov's test of 3,000 of both."""
    envs = make(f"{task}-v5", "mujoco", 1)
    assert isinstance(envs, MujocoEnvs)
    generator, count, begin = np.random.default_rng(0), 3000, envs._begin
    drawn = [envs.task.draw(generator, *begin) for _ in range(count)]
    noise = torch.as_tensor(generator.random((count, envs.task.start_size)))
    started = envs.task.start(noise, *(torch.as_tensor(x) for x in begin))
    for theirs, own in zip(map(np.stack, zip(*drawn, strict=True)), started, strict=True):
        assert own.shape == theirs.shape
        for x, y in zip(theirs.T, own.numpy().T, strict=True):
            constant = np.ptp(x) == 0
            assert np.array_equal(x, y) if constant else ks_2samp(x, y).pvalue > 1e-4
    one = envs.task.start(noise[0].float(), *(torch.as_tensor(x).float() for x in begin))
    assert torch.allclose(one[0].double(), started[0][0], atol=1e-6) and one[1].dtype == torch.float32

"""Every task against Gymnasium's own environment: 1,000 trajectories, states copied, in float64."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlopt.envs.spec import EnvSpec
from rlopt.envs.tensor.acrobot import Acrobot
from rlopt.envs.tensor.cartpole import CartPole
from rlopt.envs.tensor.lqr import LinearQuadratic
from rlopt.envs.tensor.making import configure, task_of
from rlopt.envs.tensor.mountain_car_continuous import MountainCarContinuous
from rlopt.envs.tensor.pendulum import Pendulum
from rlopt.envs.tensor.protocol import saves
from rlopt.errors import UserError
from tests.support.tensors import CPU, Drift

CLOSE = 1e-9
SYSTEM = {"A": [[0.9, 0.3], [-0.2, 0.8]], "B": [[0.0], [1.0]], "Q": [[2.0, 0.5], [0.5, 1.0]], "R": [[0.3]]}
TASKS = {  # id: class, widths of random states, options
    "CartPole-v1": (CartPole, (2.4, 3.0, 0.25, 3.0), {}),
    "Pendulum-v1": (Pendulum, (20.0, 8.0), {}),
    "Acrobot-v1": (Acrobot, (3.1, 3.1, 9.0, 20.0), {}),
    "MountainCarContinuous-v0": (MountainCarContinuous, (0.6, 0.07), {}),
    "rlopt/LQR-v0": (LinearQuadratic, (2.0, 2.0), SYSTEM),
}
OPTIONS = {"CartPole-v1": {"sutton_barto_reward": True}, "Pendulum-v1": {"g": 3.0}, "Acrobot-v1": {},
           "MountainCarContinuous-v0": {"goal_velocity": 0.01}, "rlopt/LQR-v0": {"dimension": 3, "A": 0.9}}  # fmt: skip
COUNT, STEPS = 1000, 40


def state_of(env) -> str:
    return "_state" if hasattr(env, "_state") else "state"


def compare(id: str, options: dict, widths, count: int, steps: int) -> SimpleNamespace:
    """The worst differences of ``count`` environments over ``steps`` steps, each from Gymnasium's own state."""
    task = task_of(id)(**options)
    task.prepare(torch.empty(0, dtype=torch.float64))
    envs = [gym.make(id, disable_env_checker=True, **options).unwrapped for _ in range(count)]
    generator, worst, ends = np.random.default_rng(3), 0.0, 0
    for e, env in enumerate(envs):
        env.reset(seed=e)
        if e % 2:  # half of them begin anywhere
            setattr(env, state_of(env), generator.uniform(-1, 1, len(widths)) * widths)
    rounded = id.startswith("MountainCar")  # Gymnasium's to float32
    for _ in range(steps):
        states = np.array([getattr(env, state_of(env)) for env in envs], np.float64)
        for env, state in zip(envs, states, strict=True):
            setattr(env, state_of(env), state)
        space = envs[0].action_space
        if isinstance(space, gym.spaces.Discrete):
            actions = generator.integers(space.n, size=count)
        else:
            actions = generator.uniform(-2.5, 2.5, (count, *space.shape))
        given = torch.from_numpy(states), torch.from_numpy(actions), torch.empty(count, 0)
        following, reward, terminated = task.step(*given)
        seen = task.observe(following).numpy()
        for e, env in enumerate(envs):
            observation, paid, over, _, _ = env.step(actions[e])
            here = following[e].float().double().numpy() if rounded else following[e].numpy()
            worst = max(worst, np.abs(here - getattr(env, state_of(env))).max(), abs(float(reward[e]) - paid))
            assert bool(terminated[e]) == over
            assert observation == pytest.approx(seen[e], rel=1e-6, abs=1e-7)
            if over:
                ends += 1
                env.reset()
    return SimpleNamespace(worst=worst, ends=ends)


@pytest.mark.parametrize("count", [COUNT // 10, pytest.param(COUNT, marks=pytest.mark.learning)])  # the rest takes long
@pytest.mark.parametrize("id", TASKS)
def test_trajectories_are_those_of_gymnasium(id, count):
    cls, widths, options = TASKS[id]
    assert task_of(id) is cls
    found = compare(id, options, np.array(widths), count, STEPS)
    assert found.worst <= CLOSE
    assert found.ends or id in ("Pendulum-v1", "rlopt/LQR-v0")


@pytest.mark.parametrize("id", TASKS)
def test_options_mean_what_they_mean_in_gymnasium(id):
    widths = (2.0, 2.0, 2.0) if "LQR" in id else TASKS[id][1]
    assert compare(id, OPTIONS[id], np.array(widths), 50, 20).worst <= CLOSE


@pytest.mark.parametrize("id", TASKS)
def test_beginnings_have_gymnasiums_distribution(id):
    """Mean and standard deviation of 4,000; of LQR with a covariance that is not diagonal."""
    options = {**SYSTEM, "start_variance": [[1.0, 0.5], [0.5, 2.0]]} if "LQR" in id else {}
    spec = EnvSpec("a task", id, 4000, "tensor", None, options)
    envs = spec.make_tensors(CPU, torch.float64)
    assert saves(envs)
    ours = envs.reset(5).numpy()
    one = spec.make()
    theirs = np.array([one.reset(seed=e)[0] for e in range(4000)])
    spread = theirs.std(0).max()
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() <= 6 * spread / np.sqrt(4000)
    assert np.abs(np.cov(ours.T) - np.cov(theirs.T)).max() <= 0.1 * spread**2 + 1e-12
    assert np.abs(ours).max() <= 1.01 * np.abs(theirs).max() or "LQR" in id


@pytest.mark.parametrize(("id", "limit"), [
    ("CartPole-v1", 500), ("Pendulum-v1", 200), ("Acrobot-v1", 500),
    ("MountainCarContinuous-v0", 999), ("rlopt/LQR-v0", 7),
])  # fmt: skip
def test_the_time_limit_is_that_of_the_id(id, limit):
    kwargs = {"horizon": 7} if "LQR" in id else {}
    envs = EnvSpec("a task", id, 2, "tensor", None, kwargs).make_tensors(CPU, torch.float64)
    assert envs.limit == limit
    if id == "Pendulum-v1":
        envs.reset(0)
        cuts = [envs.step(torch.zeros(2, 1)).truncated.tolist() for _ in range(2 * limit)]
        assert [t for t, cut in enumerate(cuts) if any(cut)] == [limit - 1, 2 * limit - 1]


def test_noise_of_an_lqr_has_its_covariance():
    kwargs = {**SYSTEM, "noise_std": [0.1, 0.4]}
    envs = EnvSpec("lqr", "rlopt/LQR-v0", 20000, "tensor", None, kwargs).make_tensors(CPU, torch.float64)
    state = envs.reset(0).numpy()
    noise = envs.step(torch.zeros(20000, 1)).last.numpy() - state @ np.array(SYSTEM["A"]).T
    assert np.allclose(np.cov(noise.T), np.diag([0.01, 0.16]), atol=4 * np.sqrt(2 / 20000) * 0.16)


def test_staggered_environments_end_at_times_of_their_own():
    """Their first episodes alone are cut off early, at times that depend on seed and number."""
    whole, part = (EnvSpec("pendulum", "Pendulum-v1", n, "tensor", None, {}, stagger=True) for n in (64, 16))
    ends = []
    for spec, first in ((whole, 0), (part, 16)):
        envs = spec.make_tensors(CPU, torch.float32)
        envs.reset(3, first)
        cut = torch.stack([envs.step(torch.zeros(envs.num_envs, 1)).truncated for _ in range(400)])
        ends.append([cut[:, e].nonzero().flatten().tolist() for e in range(envs.num_envs)])
    assert ends[1] == ends[0][16:32]
    times = [own[0] for own in ends[0]]
    assert all(own[1] == own[0] + 200 for own in ends[0])
    assert len(set(times)) > 40 and min(times) < 20 and max(times) > 180


def test_only_tasks_with_a_limit_are_staggered():
    with pytest.raises(ValueError, match="stagger must be false"):
        EnvSpec("pendulum", "Pendulum-v1", 2, "sync", None, {}, stagger=True)
    with pytest.raises(UserError, match="with a time limit"):
        configure(Drift.envs(2, CPU, torch.float32), True, False)

"""The environment: its dynamics, its reward, its ends, and training in it with every algorithm."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlopt.config import choices as catalogue
from rlopt.core.heads import DiagonalGaussian
from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError
from rlopt.tasks.lqr_env import LQREnv
from tests.support.building import resolve, trainer

A, B = [[0.9, 0.3], [-0.2, 0.8]], [[0.0], [1.0]]
Q, R = [[2.0, 0.5], [0.5, 1.0]], [[0.3]]
NOISY = {"A": A, "B": B, "Q": Q, "R": R, "start_variance": [[1.0, 0.5], [0.5, 2.0]], "noise_std": [0.1, 0.4]}


def made(**values) -> LQREnv:
    env = gym.make("rlopt/LQR-v0", disable_env_checker=True, **values).unwrapped
    assert isinstance(env, LQREnv)
    return env


def test_a_step_without_noise_is_the_equation():
    env = made(**{**NOISY, "noise_std": 0.0})
    state, _ = env.reset(seed=3)
    for action in np.array([[0.7], [-1000.0], [0.0]]):  # large ones too: nothing is clipped
        following, reward, terminated, truncated, _ = env.step(action)
        assert following == pytest.approx(np.array(A) @ state + np.array(B) @ action, rel=1e-12)
        assert reward == pytest.approx(-(state @ np.array(Q) @ state + action @ np.array(R) @ action))
        assert not terminated and not truncated
        state = following


def test_start_and_noise_have_the_given_covariances():
    env = made(**NOISY)
    starts = [env.reset(seed=0)[0], *(env.reset()[0] for _ in range(19999))]
    noise = []
    for _ in range(20000):
        state, _ = env.reset()
        noise.append(env.step(np.zeros(1))[0] - np.array(A) @ state)
    # a covariance's standard error is at most sqrt(2) times the variances' geometric mean over sqrt(N)
    assert np.allclose(np.cov(np.transpose(starts)), NOISY["start_variance"], atol=4 * np.sqrt(2 / 20000) * 2)
    assert np.allclose(np.cov(np.transpose(noise)), np.diag([0.01, 0.16]), atol=4 * np.sqrt(2 / 20000) * 0.16)


def test_an_episode_is_truncated_at_the_horizon():
    env = made(horizon=3)
    for _ in range(2):
        env.reset(seed=1)
        ends = [env.step(np.ones(1))[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]
    assert made().horizon == 200


def test_the_seed_alone_decides_an_episode():
    def episode(seed):
        env = made(**NOISY)
        return [env.reset(seed=seed)[0], *(env.step(np.ones(1))[0] for _ in range(4))]

    assert np.array_equal(episode(5), episode(5))
    assert not np.array_equal(episode(5), episode(6))


def test_a_state_that_was_handed_out_stays_as_it_was():
    env = made(noise_std=1.0)
    seen = [env.reset(seed=0)[0]]
    kept = [seen[0].copy()]
    for _ in range(3):
        seen.append(env.step(np.ones(1))[0])
        kept.append(seen[-1].copy())
    assert np.array_equal(seen, kept)


def test_the_environment_carries_its_closed_forms():
    env = made(**NOISY, gamma=0.9)
    assert env.system.gamma == 0.9 and np.array_equal(env.system.matrices.A, A)
    assert env.observation_space.shape == (2,) and env.action_space.shape == (1,)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"gamma": 2.0}, "env.kwargs.gamma must be above 0 and below 1; got 2.0"),
        ({"horizon": 0}, "env.kwargs.horizon must be"),
        ({"R": -1.0}, "env.kwargs.R must be symmetric and positive definite"),
        ({"mass": 1.0}, "do not suit env.id=rlopt/LQR-v0"),
    ],
)
def test_the_user_is_told_which_value_is_wrong(kwargs, message):
    environment = EnvSpec(name="lqr", id="rlopt/LQR-v0", num_envs=1, backend="sync", timeout=None, kwargs=kwargs)
    with pytest.raises(UserError, match=message):
        environment.make()


def test_environment_and_trainer_discount_alike():
    config = resolve(["env=lqr", "gamma=0.8"])
    assert config["gamma"] == config["env"]["kwargs"]["gamma"] == 0.8
    assert resolve(["env=lqr"])["gamma"] == 0.95
    assert not config["observations"]["normalise"] and not config["rewards"]["scale"]


@pytest.mark.parametrize("scale", ["sigma", "log_sigma"])
@pytest.mark.parametrize("algo", catalogue.choices("algo"))
def test_every_algorithm_trains_a_linear_policy(algo, scale):
    overrides = [f"algo={algo}", "env=lqr", "policy=linear", f"policy.scale={scale}", "policy.initial_sigma=0.5"]
    small = ["env.num_envs=4", "batch_size=800", "env.kwargs.dimension=2", "env.kwargs.noise_std=0.1"]
    run = trainer(resolve([*overrides, *small]))
    before = run.state["actor"]["theta"].clone()
    try:
        state = run.state
        for _ in range(5 if algo == "svrpg" else 1):  # which collects four rollouts for its first step
            batch = run.collector.collect(run.agent.policy(state))
            state, lesson = run.agent.learn(state, batch, run.minibatches)
    finally:
        run.collector.close()
    after = state["actor"]["theta"]
    assert isinstance(run.agent.head, DiagonalGaussian) and run.agent.head.scale == scale
    assert after.shape == (2 * 2 + 2,)  # K and one scale per action: no bias
    assert before[4:].tolist() == pytest.approx([0.5, 0.5] if scale == "sigma" else np.log([0.5, 0.5]))
    assert lesson.failure is None and after.isfinite().all() and not torch.equal(after, before)

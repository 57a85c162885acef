"""Learning depends neither on the unit of rewards nor on that of observations, with any preset.

Units are powers of two, by which floating-point numbers are multiplied without rounding.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlopt.config.choices import choices
from tests.support.probes import make_trainer

UNITS = [2.0**-20, 2.0**20]
SMALL = ["env.num_envs=4", "batch_size=240", "total_steps=480", "policy.hidden=[8]", "critic.hidden=[8]",
         "dtype=float64", "evaluation.episodes=0", "env.id=Unit-v0", "record.tensorboard=false"]  # fmt: skip


class Unit(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole or Pendulum, with rewards and observations times a number."""

    def __init__(self, name: str, reward: float = 1.0, observation: float = 1.0, render_mode: str | None = None):
        super().__init__(gym.make(name))
        self.reward, self.unit = reward, observation
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, self.env.observation_space.shape, np.float64)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return observation * np.float64(self.unit), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation * np.float64(self.unit), reward * self.reward, terminated, truncated, info


@pytest.fixture(autouse=True, scope="module")
def registered():
    gym.register("Unit-v0", Unit)
    yield
    del gym.registry["Unit-v0"]


def trained(folder: Any, *overrides: str) -> Tensor:
    """Theta of both networks after two updates."""
    run = make_trainer(*SMALL, f"run_dir={folder}", *overrides)
    run.run()
    assert run.updates == 2 and run.skipped == 0
    return torch.cat([run.state[name]["theta"] for name in run.agent.learners])


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("algo", choices("algo"))
def test_theta_does_not_depend_on_the_unit(algo, name, what, tmp_path):
    given = [f"algo={algo}", f"env.kwargs.name={name}"]
    if algo == "enac":  # which learns from whole episodes
        given += ["env.num_envs=2", "batch_size=1200", "total_steps=2400"]
    plain = trained(tmp_path / "plain", *given)
    for i, unit in enumerate([*UNITS, 2.0**-60, 2.0**40] if algo == "trpo" else UNITS):
        theta = trained(tmp_path / str(i), *given, f"env.kwargs.{what}={unit!r}")
        torch.testing.assert_close(theta, plain, rtol=1e-7, atol=1e-9)


def test_the_first_rollouts_rewards_are_scaled_too(tmp_path):
    """With targets of one reward's size the critic learns; with raw ones of 10^6 its loss would be 10^12."""
    run = make_trainer(
        *SMALL, f"run_dir={tmp_path}", "algo=trpo", "env.kwargs.name=CartPole-v1", "env.kwargs.reward=1e6"
    )
    rollout = run.collector.collect(run.agent.policy(run.state))
    _, result = run.agent.learn(run.state, rollout, run.minibatches)
    run.collector.close()
    assert result.scalars["critic/loss"] < 100


def test_other_units_are_other_problems_where_nothing_is_scaled(tmp_path):
    given = "algo=trpo", "env.kwargs.name=CartPole-v1", "rewards.scale=false"
    plain, other = (trained(tmp_path / str(u), *given, f"env.kwargs.reward={u}") for u in (1.0, 1024.0))
    assert not torch.allclose(plain, other, rtol=1e-3)

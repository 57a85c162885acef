"""Environments of an id that has tensors alone are made once for a run, where it runs."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlopt.envs.tensor import Task
from rlopt.errors import UserError
from tests.support.building import resolve, trainer
from tests.support.tensors import Course

SMALL = ["env.id=test/Once-v0", "env.num_envs=4", "batch_size=80", "dtype=float64", "algo=a2c"]


class Pictures(Task):
    """A small image, whose bytes change with the state."""

    observation_space = gym.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def start(self, noise):
        return 255 * noise

    def observe(self, state):
        return state.to(torch.uint8)[..., None, None].expand(*state.shape[:-1], 36, 36, 1)

    def step(self, state, actions, noise):
        return (state + 1) % 255, state[:, 0] / 255, state[:, 0] > 250


@pytest.fixture
def made():
    """(num_envs, device, dtype) of every environment that is made of the id test/Once-v0."""
    found = []

    def point(**options):
        found.append((options["num_envs"], options["device"].type, options["dtype"]))
        return made.task.envs(**options)

    made = point
    made.task, made.found = Course, found
    gym.register("test/Once-v0", vector_entry_point=point, max_episode_steps=7)
    yield made
    del gym.registry["test/Once-v0"]


def test_they_are_made_once_for_spaces_and_rollouts(made, tmp_path):
    run = trainer(resolve([*SMALL, "policy.hidden=[4]", "critic.hidden=[4]"]), tmp_path / "run")
    run.state, result = run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
    run.collector.close()
    assert made.found == [(4, "cpu", torch.float64)] and result.failure is None


def test_they_are_closed_where_a_run_is_refused(made, monkeypatch):
    closed = []
    monkeypatch.setattr("rlopt.envs.tensor.task.TaskEnvs.close", lambda self: closed.append(self.num_envs))
    with pytest.raises(UserError, match="policy"):
        trainer(resolve([*SMALL, "policy=nature_cnn", "critic=mlp"]))
    assert closed == [4]


def test_bytes_that_are_images_stay_bytes(made, tmp_path):
    made.task = Pictures
    run = trainer(resolve([*SMALL, "policy=nature_cnn", "critic=nature_cnn"]), tmp_path / "run")
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    assert batch.inputs.dtype == batch.observations.dtype == torch.uint8
    run.state, result = run.agent.learn(run.state, batch, run.minibatches)
    assert result.failure is None

"""The frozen policy of self-play: when it is replaced, what it draws, and that a checkpoint holds it whole."""

import copy

import numpy as np
import pytest
import torch

from rlopt.rollout.env_state import with_arrays, with_tensors
from rlopt.rollout.self_play import FrozenOpponents
from tests.support.command_line import chosen
from tests.support.games import Higher, make_trainer

pytestmark = pytest.mark.usefixtures("elsewhere")
SMALL = ("algo=ppo", "env.num_envs=4", "batch_size=80", "total_steps=800", "policy.hidden=[8]", "critic.hidden=[8]",
         "evaluation.episodes=0", "self_play.every=3")  # fmt: skip


@pytest.fixture
def run():
    return make_trainer(Higher, *SMALL)


def theta(run) -> torch.Tensor:
    return run.collector.envs.opponents._policy.theta


def test_it_is_the_policy_of_the_last_update_divisible_by_every(run):
    policies, frozen = [], []
    for update in range(8):
        policies.append(run.state["actor"]["theta"].clone())
        rollout = run.collector.collect(run.agent.policy(run.state))
        frozen.append(theta(run).clone())
        run.state, _ = run.agent.learn(run.state, rollout, run.minibatches)
        assert torch.equal(frozen[update], policies[3 * (update // 3)])
    assert len({tuple(t.tolist()) for t in frozen}) == 3


def test_its_normaliser_is_frozen_with_it(run):
    for _ in range(2):
        rollout = run.collector.collect(run.agent.policy(run.state))
        run.state, _ = run.agent.learn(run.state, rollout, run.minibatches)
    kept = run.collector.envs.opponents._policy.shift_and_scale
    assert (kept[1] == 0).all()  # of the first rollout, before anything was seen
    assert (run.agent.policy(run.state).shift_and_scale[1] != 0).any()


def test_it_draws_by_the_policys_probabilities(run):
    policy = run.agent.policy(run.state)
    opponents = run.collector.envs.opponents
    opponents.meet(policy)
    rows = np.tile(np.array([[0.25, 1.0]], np.float32), (20_000, 1))
    said = np.bincount(opponents.act(rows), minlength=5) / len(rows)
    raw = torch.from_numpy(rows[:1])
    p = policy.outputs(policy.normalise(raw, out=torch.empty_like(raw))).softmax(1)[0].numpy()
    assert abs(said - p).max() < 0.015


def test_one_that_is_restored_goes_on_to_the_bit(run):
    opponents, policy = run.collector.envs.opponents, run.agent.policy(run.state)
    opponents.meet(policy)
    rows = np.random.default_rng(0).random((64, 2)).astype(np.float32)
    opponents.act(rows)
    saved = with_arrays(with_tensors(copy.deepcopy(opponents.state())))
    space, actions = run.collector.envs.single_observation_space, run.collector.envs.single_action_space
    other = FrozenOpponents(run.agent.head, space, actions, 3, 99, torch.float32)
    other.restore(saved)
    newer = policy.with_parameters(policy.theta + 1, policy.shift_and_scale)
    for made in (opponents, other):
        made.meet(newer)
    assert torch.equal(other._policy.theta, policy.theta)
    assert np.array_equal(opponents.act(rows), other.act(rows))
    for _ in range(2):
        other.meet(newer)
    assert torch.equal(other._policy.theta, newer.theta)


@pytest.mark.learning
def test_the_dominant_action_is_learned(tmp_path):
    """The highest number wins or draws against all: the policy says it, and no longer gains from its frozen copy."""
    more = "batch_size=400", "total_steps=40000", "optimizer.lr=3e-3", f"run_dir={tmp_path}/x"
    run = make_trainer(Higher, *chosen(*SMALL, *more))
    run.run()
    policy = run.agent.evaluated_policy(run.state)
    raw = torch.tensor([[0.0, 1.0], [0.75, 1.0]])
    z = policy.outputs(policy.normalise(raw, out=torch.empty_like(raw)))
    assert (z.softmax(1)[:, 4] > 0.95).all()

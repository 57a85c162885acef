"""Importance weights: exact on a small Markov decision process, and equal to their definition by autograd."""

import itertools

import pytest
import torch
from torch import nn

from rlopt.core import heads
from rlopt.core.importance import Batch, Weights
from rlopt.core.network import Network
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.samples import Samples
from tests.support.oracles import make_case, randn
from tests.support.weighing import ENTROPY, OBJECTIVE, weighted_gradient

pytestmark = pytest.mark.usefixtures("double_precision")
KINDS = ["trajectory", "decision"]
STEPS, STATES, GAMMA = 3, 3, 0.9
START = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
TO = randn(STATES, 2, STATES, seed=1).softmax(2)  # [s, a, s'] probabilities
REWARD = randn(STATES, 2, STATES, seed=2)
V = randn(STATES, seed=3)  # a baseline that is no value function of anything
POLICY = Network(nn.Linear(STATES, 2, bias=False, dtype=torch.float64))


def trajectories(theta, trace):
    """Every trajectory as an episode whose weight is its probability under theta (P,), and J(theta) ()."""
    logits = theta.view(2, STATES).T  # [s, a]
    chosen = logits.log_softmax(1)
    rows, J = [], 0.0
    for path in itertools.product(range(STATES), *[range(2), range(STATES)] * STEPS):
        s, a, following = path[:-1:2], path[1::2], path[2::2]
        p, rewards = START[s[0]], [REWARD[s[t], a[t], following[t]] for t in range(STEPS)]
        for t in range(STEPS):
            p = p * chosen[s[t], a[t]].exp() * TO[s[t], a[t], following[t]]
        J = J + p * sum(GAMMA**t * r for t, r in enumerate(rewards))
        deltas = [rewards[t] + GAMMA * V[following[t]] * (t < STEPS - 1) - V[s[t]] for t in range(STEPS)]
        for t in range(STEPS):
            advantage = sum(trace ** (k - t) * deltas[k] for k in range(t, STEPS))
            rows.append((s[t], a[t], p.detach(), advantage, len(rows) // STEPS, t))
    s, a, p, advantages, episode, time = (torch.tensor(column) for column in zip(*rows, strict=True))
    inputs = torch.eye(STATES, dtype=torch.float64)[s]
    z = logits.detach()[s]
    old = heads.Categorical(2).log_prob(z, a)
    return Samples(inputs, a, p * GAMMA**time, advantages, z, old, time, episode), J


def batch(samples, objective=OBJECTIVE, trace=GAMMA):
    return Batch(POLICY, heads.Categorical(2), objective, samples, trace)


@pytest.mark.parametrize("trace", [GAMMA, 0.6])
@pytest.mark.parametrize("kind", KINDS)
def test_the_expectation_is_the_other_policys(kind, trace):
    """All trajectories at once, each as likely as the acting policy makes it, give the other policy's gradient."""
    acted, other = randn(2 * STATES, seed=4), randn(2 * STATES, seed=5)
    here, there = (trajectories(theta, trace)[0] for theta in (acted, other))
    expected, _ = batch(there, trace=trace).gradient_at(other, Weights(kind, None, False))
    found, scalars = batch(here, trace=trace).gradient_at(other, Weights(kind, None, False))
    assert (found - expected).abs().max() < 1e-10
    assert float(scalars["estimator/weight"]) == pytest.approx(1, abs=1e-10)
    assert 0 < scalars["estimator/effective_share"] < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_expectation_is_the_returns_gradient(kind):
    acted, other = randn(2 * STATES, seed=4), randn(2 * STATES, seed=5).requires_grad_()
    samples, _ = trajectories(acted, GAMMA)
    found, _ = batch(samples, LogProb(0.0)).gradient_at(other.detach(), Weights(kind, None, False))
    (exact,) = torch.autograd.grad(trajectories(other, GAMMA)[1], other)
    assert (found * sum(GAMMA**t for t in range(STEPS)) - exact).abs().max() < 1e-10


def test_decisions_vary_less_than_trajectories():
    """The spread of one trajectory's estimate about the exact gradient."""
    acted, other = randn(2 * STATES, seed=4), randn(2 * STATES, seed=5)
    samples, _ = trajectories(acted, GAMMA)
    spread = {}
    for kind in KINDS:
        log_ratio = heads.Categorical(2).log_prob(other.view(2, STATES).T[samples.inputs.argmax(1)], samples.actions)
        w, advantages = Weights(kind, None, False).of(log_ratio - samples.old_log_prob, samples, GAMMA)
        probability = samples.weight.view(-1, STEPS)[:, 0]
        each = (w * advantages * GAMMA**samples.time).view(-1, STEPS).sum(1)
        spread[kind] = float(probability @ each**2 - (probability @ each) ** 2)
    assert 0 < spread["decision"] < 0.8 * spread["trajectory"]


@pytest.mark.parametrize("self_normalise", [False, True])
@pytest.mark.parametrize("clip", [None, 1.1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["categorical", "log_sigma", "multi_categorical"])
def test_the_gradient_is_its_definition_by_autograd(head, kind, clip, self_normalise):
    case = make_case(head)
    theta = case.theta + 0.2 * randn(len(case.theta), seed=9)
    weights = Weights(kind, clip, self_normalise)
    found, _ = Batch(case.network, case.head, OBJECTIVE, case.samples, 0.8).gradient_at(theta, weights)
    assert (found - weighted_gradient(case, theta, kind, clip, self_normalise, 0.8)).abs().max() < 1e-10


@pytest.mark.parametrize("objective", [Surrogate(ENTROPY), Clipped(0.2, ENTROPY)])
def test_objectives_with_a_ratio_give_the_same(objective):
    case = make_case("log_sigma")
    theta = case.theta + 0.2 * randn(len(case.theta), seed=9)
    plain, other = (
        Batch(case.network, case.head, o, case.samples, 0.8).gradient_at(theta, Weights("decision", None, False))[0]
        for o in (OBJECTIVE, objective)
    )
    assert torch.allclose(plain, other, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_policy_that_acted_it_is_the_plain_gradient(kind):
    case = make_case("categorical")
    found, scalars = Batch(case.network, case.head, OBJECTIVE, case.samples, 0.8).gradient_at(
        case.theta, Weights(kind, 1.0, True)
    )
    _, dz = OBJECTIVE.values_and_gradient(case.head, case.tape.outputs, case.samples)
    assert torch.allclose(found, case.tape.vjp(dz * case.samples.share[:, None]), rtol=1e-12)
    assert float(scalars["estimator/effective_share"]) == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_row_is_no_part_of_an_episode(kind):
    """A row of weight 0 stands where an environment was reset, with the time and episode of the row after it."""
    case = make_case("categorical", weights="uniform", count=10)
    rows = torch.tensor([0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9])
    longer = case.samples.take(rows)
    spoiled = longer.replacing(
        weight=longer.weight.index_fill(0, torch.tensor([5]), 0.0),
        advantages=longer.advantages.index_fill(0, torch.tensor([5]), 1e3),
        old_log_prob=longer.old_log_prob.index_fill(0, torch.tensor([5]), -9.0),
    )
    theta = case.theta + 0.2 * randn(len(case.theta), seed=9)
    found, expected = (
        Batch(case.network, case.head, OBJECTIVE, samples, 0.8).gradient_at(theta, Weights(kind, None, True))[0]
        for samples in (spoiled, case.samples)
    )
    assert torch.allclose(found, expected, rtol=1e-12)


def test_a_batch_without_weight_is_no_error():
    case = make_case("categorical")
    empty = case.samples.replacing(weight=torch.zeros_like(case.samples.weight))
    w, advantages = Weights("decision", None, True).of(torch.ones(len(empty)), empty, 0.8)
    assert not w.any() and torch.equal(advantages, empty.advantages)


@pytest.mark.parametrize("options, named", [(("step", None, True), "weights"), (("decision", 0.0, True), "clip")])
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        Weights(*options)

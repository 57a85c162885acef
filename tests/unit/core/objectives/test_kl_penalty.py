"""PPO's adaptive KL penalty: gradient and Hessian against autograd, the rule for beta, and when it is applied."""

from dataclasses import replace

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.identity import Identity as Euclidean
from rlopt.core.objectives.joint import JointObjective
from rlopt.core.objectives.kl_penalty import KLPenalty
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from tests.support import densities, oracles
from tests.support.oracles import HEADS, POLICIES, close, make_case, randn, seeded

PENALTY = KLPenalty(target=0.01, beta=0.7, tolerance=1.5, factor=2.0, smallest=0.1, largest=8.0, entropy=0.02)


def values_of(case, beta, z):
    """(B,) r A - beta KL(old || new) + c H by torch.distributions, at outputs z."""
    kl = densities.kl(case.head, case.samples.old_outputs, z)
    return oracles.sample_values(case, "surrogate", z, entropy=0.02) - beta * kl


def updating(case, objective=PENALTY, rate=0.5):
    return Update(case.network, case.head, objective, Euclidean(), Identity(), Constant(0.0), Fixed(rate))


@pytest.mark.parametrize("head", POLICIES)
def test_the_step_is_along_the_penalised_gradient_at_beta(head):
    case = make_case(head, weights="masked", moved=0.3)
    update = updating(case)
    state = {**update.init(case.theta), "objective": {"beta": 3.0}}
    theta, after, report = update(case.theta, state, case.samples)
    leaf = case.theta.clone().requires_grad_()
    z = oracles.outputs(case.module, leaf, case.samples.inputs)
    value = oracles.share(case.samples) @ values_of(case, 3.0, z)
    (g,) = torch.autograd.grad(value, leaf)
    assert close(theta - case.theta, 0.5 * g, 1e-12)
    assert float(report.scalars["objective/value"]) == pytest.approx(value.item(), rel=1e-12)
    assert report.scalars["objective/beta"] == 3.0 and after["objective"] == {"beta": 3.0}


@pytest.mark.parametrize("head", HEADS)
def test_hessians_of_kl_and_penalised_surrogate_are_autograds(head):
    case = make_case(head, moved=0.3, count=5)
    old, z = case.samples.old_outputs, case.tape.outputs
    for found, f in (
        (case.head.kl_hessian(old, z), lambda z: densities.kl(case.head, old, z)),
        (PENALTY.hessian(case.head, z, case.samples), lambda z: values_of(case, PENALTY.beta, z)),
    ):
        full = oracles.hessian(lambda z, f=f: f(z).sum(), z)
        assert close(found, torch.stack([full[b, :, b] for b in range(len(z))]), 1e-11)


@pytest.mark.parametrize(
    ("beta", "kl", "then"),
    [(1, 0.0151, 2), (1, 0.0149, 1), (1, 0.0067, 1), (1, 0.0066, 0.5), (5, 1, 8), (8, 1, 8), (0.15, 0, 0.1), (0.1, 0, 0.1)],
)  # fmt: skip
def test_beta_doubles_above_and_halves_below_within_its_bounds(beta, kl, then):
    assert PENALTY.adapt({"beta": beta}, kl) == {"beta": then}


@pytest.mark.parametrize("head", ["log_sigma", "joint_categorical"])
def test_beta_changes_once_an_update_by_the_whole_batchs_kl(head):
    case = make_case(head, weights="masked")
    objective = PENALTY if head == "log_sigma" else JointObjective(PENALTY, 1.0)
    learner = Learner(updating(case, objective, rate=1.0), Schedule(3, 8, None))
    samples = case.samples
    if head != "log_sigma":  # the actions' log-probability is the policy's alone
        _, actions = case.head.unpack(samples.actions)
        samples = samples.replacing(old_log_prob=case.head.policy.log_prob(samples.old_outputs[:, 1:], actions))
    before = learner.init(case.theta)
    theta, state, outcome = learner.run(case.theta, before, samples, seeded(0), epochs=3)
    assert state["objective"] == {"beta": 0.7} and outcome.steps == 6
    measured = learner.measure(theta, state, samples)
    own = slice(0, None) if head == "log_sigma" else slice(1, None)
    z = oracles.outputs(case.module, theta, samples.inputs)[:, own]
    kl = oracles.share(samples) @ densities.kl(learner.policy, samples.old_outputs[:, own], z)
    assert kl > 0.015
    assert learner.advance(state, measured)["objective"] == {"beta": 1.4}
    assert learner.advance(state)["objective"] == {"beta": 0.7}  # nothing measured, nothing learned


def test_the_improvement_that_is_measured_counts_the_penalty():
    case = make_case("categorical", moved=0.5)
    learner = Learner(updating(case), Schedule(1, None, None))
    state, theta = {**learner.init(case.theta), "objective": {"beta": 5.0}}, case.theta + 0.1 * randn(len(case.theta))
    z, old = oracles.outputs(case.module, theta, case.samples.inputs), case.samples.old_outputs
    gain = oracles.share(case.samples) @ (values_of(case, 5.0, z) - values_of(case, 5.0, old))
    found = learner.measure(theta, state, case.samples)["step/improvement"]
    assert float(found) == pytest.approx(float(gain), rel=1e-10)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"target": 0.0}, "target must be a finite number above 0; got 0.0"),
        ({"beta": 9.0}, "beta must be between smallest and largest; got 9.0"),
        ({"tolerance": 1.0}, "tolerance must be a finite number above 1; got 1.0"),
        ({"factor": float("inf")}, "factor must be a finite number above 1; got inf"),
        ({"entropy": -1.0}, "entropy must be a finite number, 0 or above; got -1.0"),
    ],
)
def test_options_outside_their_range_are_refused(option, says):
    with pytest.raises(ValueError, match=says):
        replace(PENALTY, **option)

"""Rates that follow the KL of every epoch: the rule, what a learner and each kind of step do by it, and refusals."""

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import kl_adaptive_step
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.kl_adaptive import KLAdaptiveLR
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.scheduled import Scheduled
from rlopt.core.update import Update
from tests.support.building import resolve, trainer
from tests.support.oracles import make_case, mean_kl, seeded
from tests.support.stepping import CONSTANT, configured
from tests.support.training import equal

RULE = {"_target_": "rlopt.core.steps.kl_adaptive.KLAdaptiveLR", "target": 0.01, "tolerance": 2.0, "factor": 1.5,
        "smallest": 0.2, "largest": 5.0}  # fmt: skip
OPTIONS = {name: value for name, value in RULE.items() if name != "_target_"}


def made(optimizer: str = "Adam", scheduler: dict | None = None) -> Optimizer:
    return Optimizer(configured(optimizer), scheduler or RULE, None)


def learning(case, step, epochs: int) -> Learner:
    update = Update(case.network, case.head, Surrogate(0.0), IdentityMetric(), Identity(), Constant(0.0), step)
    return Learner(update, Schedule(epochs, 10, None))


@pytest.mark.parametrize(
    ("lr", "kl", "then"),
    [
        (1.0, 0.0201, 1 / 1.5), (1.0, 0.0199, 1.0), (1.0, 0.0051, 1.0), (1.0, 0.0049, 1.5), (1.0, 0.0, 1.0),
        (0.25, 9.0, 0.2), (0.2, 9.0, 0.2), (4.0, 1e-9, 5.0), (5.0, 1e-9, 5.0), (1.0, float("nan"), 1.0),
    ],
)  # fmt: skip
def test_the_rate_falls_above_and_rises_below_within_bounds(lr, kl, then):
    schedule = KLAdaptiveLR(torch.optim.SGD([torch.zeros(1)], lr=0.1), **OPTIONS)
    found = schedule.adapted({"lr": 0.1 * lr, "initial_lr": 0.1, "momentum": 0.9}, kl)
    assert found == {"lr": pytest.approx(0.1 * then, rel=1e-12), "initial_lr": 0.1, "momentum": 0.9}


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_learner_adapts_after_every_epoch_by_the_whole_batch(optimizer):
    """Each epoch is that of a constant rate, and the next rate the rule's by the KL that an oracle measures."""
    case, epochs = make_case("log_sigma", weights="masked", count=40), 7
    lr = first = configured(optimizer)["lr"]
    learner, generator, moments, theta, rates = learning(case, made(optimizer), epochs), seeded(1), {}, case.theta, [lr]
    for _ in range(epochs):
        fixed = learning(case, Optimizer({**configured(optimizer), "lr": lr}, CONSTANT, None), 1)
        state = fixed.init(theta)
        state["step"]["moments"] = moments
        theta, state, _ = fixed.run(theta.clone(), state, case.samples, generator, 1)
        moments, kl = state["step"]["moments"], float(mean_kl(case, theta))
        lr = max(lr / 1.5, 0.2 * first) if kl > 0.02 else min(1.5 * lr, 5 * first) if kl < 0.005 else lr
        rates.append(lr)
    found, state, _ = learner.run(case.theta.clone(), learner.init(case.theta), case.samples, seeded(1), epochs)
    assert torch.equal(found, theta)
    assert state["step"]["group"]["lr"] == pytest.approx(lr, rel=1e-12)
    assert len(set(rates)) > 2


@pytest.mark.parametrize("bad", [True, False])
def test_epochs_of_skipped_steps_leave_the_rate_as_it_is(bad):
    """Though the outputs of the policy that acted are those of another order of sums."""
    case = make_case("categorical")
    rounded = case.samples.old_outputs * (1 + 1e-6)
    advantages = case.samples.advantages * (float("nan") if bad else 1e-9)
    samples = case.samples.replacing(old_outputs=rounded, advantages=advantages)
    assert 0 < float(samples.mean(case.head.kl(rounded, case.network.outputs(case.theta, samples.inputs)))) < 1e-9
    learner = learning(case, made("SGD"), 3)
    theta, state, result = learner.run(case.theta.clone(), learner.init(case.theta), samples, seeded(1), 3)
    assert torch.equal(theta, case.theta) == bad == (result.skipped > 0)
    rate = configured("SGD")["lr"] * (1 if bad else 1.5**3)
    assert state["step"]["group"]["lr"] == pytest.approx(rate)


def test_rate_and_radius_of_a_step_follow_both():
    case = make_case("log_sigma")
    scheduled = Scheduled(KLClip(rate=0.05, radius=1e-3, momentum=0.0), RULE)
    assert kl_adaptive_step(scheduled) is scheduled and kl_adaptive_step(scheduled.unscheduled) is None
    state = scheduled.init(case.theta)
    for kl, factor in ((1e-4, 1.5), (0.01, 1.5), (0.0, 1.5), (1e-4, 2.25), (1.0, 1.5)):
        state = scheduled.adapt_to_kl(state, kl)
        rates = {name: group["lr"] for name, group in state["rates"].items()}
        assert rates == {"rate": pytest.approx(0.05 * factor), "radius": pytest.approx(1e-3 * factor)}


@pytest.mark.parametrize("step", [made(), Scheduled(KLClip(0.05, 1e-3, 0.9), RULE)], ids=["optimizer", "scheduled"])
def test_the_end_of_an_update_leaves_the_rate_as_it_is(step):
    """And nothing that a state was made of changes."""
    theta = torch.zeros(3)
    first = step.init(theta)
    adapted = step.adapt_to_kl(first, 1.0)
    assert equal(first, step.init(theta)) and not equal(adapted, first)
    then = step.advance(adapted)
    for name in ("group", "rates"):
        assert equal(then.get(name, {}), adapted.get(name, {}))


def test_other_schedules_measure_nothing():
    assert kl_adaptive_step(made(scheduler=CONSTANT)) is None
    assert kl_adaptive_step(Scheduled(KLClip(0.05, 1e-3, 0.9), {**CONSTANT, "factor": 0.5})) is None


@pytest.mark.parametrize("where", ["", "critic."])
@pytest.mark.parametrize("algo", ["ppo", "trpo", "acktr"])
def test_it_is_chosen_for_any_algorithm_and_network(algo, where, tmp_path):
    typed = [f"algo={algo}", "env=cartpole", f"{where}scheduler=kl_adaptive", f"{where}scheduler.target=1e-9",
             "batch_size=40", "total_steps=160", "policy.hidden=[4]", "critic.hidden=[4]", "env.num_envs=2",
             f"run_dir={tmp_path}/run"]  # fmt: skip
    run = trainer(resolve(typed))
    name = "critic" if where else "actor"
    learner = run.agent.learners[name]
    batch = run.collector.collect(run.agent.policy(run.state))
    state, result = run.agent.learn(run.state, batch, run.minibatches)
    run.collector.close()
    before, after = run.state[name]["parts"]["step"], state[name]["parts"]["step"]
    groups = [(before["group"], after["group"])] if "group" in before else []
    groups += [(before["rates"][n], after["rates"][n]) for n in before.get("rates", {})]
    shares = {round(b["lr"] / a["lr"], 6) for a, b in groups}
    epochs = learner.schedule.epochs
    assert result.failure is None and shares == {round(max(1.5**-epochs, 0.03), 6)}


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"target": 0.0}, "target must be a finite number above 0; got 0.0"),
        ({"tolerance": 1.0}, "tolerance must be a finite number above 1; got 1.0"),
        ({"factor": float("inf")}, "factor must be a finite number above 1; got inf"),
        ({"smallest": 0.0}, "smallest must be above 0, and at most 1; got 0.0"),
        ({"largest": 0.5}, "largest must be a finite number, 1 or above; got 0.5"),
    ],
)
def test_options_outside_their_range_are_refused(option, says):
    for make in (lambda rule: made(scheduler=rule), lambda rule: Scheduled(KLClip(0.1, 0.1, 0.0), rule)):
        with pytest.raises(ValueError, match=says):
            make({**RULE, **option})

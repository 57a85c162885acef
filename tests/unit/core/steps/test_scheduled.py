"""Rates and radii by a scheduler: every step with every schedule against the formula, states, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch

from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.scheduled import RATES, Scheduled, follow
from rlopt.core.steps.trust_region import TrustRegion
from tests.support.building import resolve, trainer
from tests.support.oracles import close, gradient, make_case
from tests.support.stepping import CONSTANT, take
from tests.support.training import equal

N = 6
OF_TORCH = "torch.optim.lr_scheduler"
SCHEDULES = {  # scheduler -> the factor after k updates
    "linear": (
        {"_target_": f"{OF_TORCH}.LinearLR", "start_factor": 1.0, "end_factor": 0.0, "total_iters": N},
        lambda k: 1 - k / N,
    ),
    "cosine": ({"_target_": f"{OF_TORCH}.CosineAnnealingLR", "T_max": N}, lambda k: (1 + math.cos(math.pi * k / N)) / 2),
    "inverse": ({"_target_": "rlopt.core.steps.optimizer.InverseLR", "decay": 0.5}, lambda k: 1 / (1 + 0.5 * k)),
    "half": ({"_target_": f"{OF_TORCH}.ConstantLR", "factor": 0.5, "total_iters": 2}, lambda k: 0.5 if k < 2 else 1.0),
}  # fmt: skip
STEPS = {
    "fixed": Fixed(rate=0.02),
    "armijo": Armijo(rate=2.0, shrink=0.5, backtracks=20, c=1e-4),
    "trust_region": TrustRegion(radius=0.01, largest=100.0),
    "kl_clip": KLClip(rate=0.05, radius=1e-3, momentum=0.9),
    "kl_line_search": KLLineSearch(radius=0.01, shrink=0.8, backtracks=10, accept_ratio=0.0, largest=100.0),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize(("scheduler", "factor"), SCHEDULES.values(), ids=SCHEDULES)
def test_each_update_is_the_steps_own_at_the_schedules_rate(step, scheduler, factor):
    case = make_case("log_sigma")
    x = gradient(case, "surrogate")
    scheduled = Scheduled(step, scheduler)
    theta, state, inner, there = case.theta, scheduled.init(case.theta), step.init(case.theta), case.theta
    for k in range(N):
        at = {name: getattr(step, name) * factor(k) for name in RATES if hasattr(step, name)}
        slope = float(x @ x)
        there, inner, expected = take(replace(step, **at), case, x, inner, there, quadratic=slope, slope=slope)
        theta, state, found = take(scheduled, case, x, state, theta, quadratic=slope, slope=slope)
        assert close(theta, there, 1e-12)
        assert {name: found[f"step/{name}"] for name in at} == pytest.approx(at, rel=1e-12)
        assert float(found["step/size"]) == pytest.approx(float(expected["step/size"]), rel=1e-9)
        state = scheduled.advance(state)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_at_the_end_of_a_line_theta_stays(step):
    case = make_case("log_sigma")
    scheduled = Scheduled(step, SCHEDULES["linear"][0])
    state = scheduled.init(case.theta)
    for _ in range(N + 2):
        state = scheduled.advance(state)
    theta, _, scalars = take(scheduled, case, gradient(case, "surrogate"), state)
    assert torch.equal(theta, case.theta) and scalars["step/size"] == 0


@pytest.mark.parametrize("scheduler", [s for s, _ in SCHEDULES.values()], ids=SCHEDULES)
def test_the_state_is_all_that_a_schedule_knows(scheduler):
    """A new object with the state of another goes on to the bit, and no call changes the state that it was given."""
    first = Scheduled(STEPS["kl_clip"], scheduler)
    theta = torch.zeros(3)
    states = [first.init(theta)]
    for _ in range(5):
        states.append(first.advance(states[-1]))
    for before, after in zip(states, states[1:], strict=False):
        assert equal(Scheduled(STEPS["kl_clip"], scheduler).advance(before), after)
    assert equal(first.init(theta), states[0])


def test_a_constant_schedule_is_the_step_itself():
    assert follow(STEPS["fixed"], CONSTANT) is STEPS["fixed"]
    assert isinstance(follow(STEPS["fixed"], SCHEDULES["half"][0]), Scheduled)


@pytest.mark.parametrize(
    ("step", "scheduler", "said"),
    [
        (STEPS["fixed"], {"_target_": f"{OF_TORCH}.Linear"}, r"scheduler\._target_ must be one of"),
        (STEPS["fixed"], {**CONSTANT, "foo": 1}, "scheduler must be ConstantLR with arguments out of factor"),
        (STEPS["fixed"], {"_target_": f"{OF_TORCH}.LinearLR", "end_factor": 7.0}, "scheduler cannot work so: Ending"),
        (object(), SCHEDULES["linear"][0], "constant with a step that has no rate and no radius"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(step, scheduler, said):
    with pytest.raises(ValueError, match=said):
        follow(step, scheduler)


@pytest.mark.parametrize("where", ["", "critic."])
@pytest.mark.parametrize("scheduler", ["linear", "cosine", "inverse"])
@pytest.mark.parametrize("step", STEPS)
def test_a_scheduler_is_chosen_for_any_step(step, scheduler, where):
    """The course is that of the run: its 4 updates."""
    typed = [f"{where}step={step}", f"{where}scheduler={scheduler}", f"{where}schedule=whole_batch", "batch_size=40"]
    plain = resolve([*typed, "algo=vpg", "total_steps=160", "policy.hidden=[4]", "critic.hidden=[4]"])
    run = trainer(plain)
    run.collector.close()
    learner = run.agent.critic if where else run.agent.actor
    assert isinstance(learner.update.step, Scheduled)
    state, rates = run.state["critic" if where else "actor"]["parts"]["step"], []
    for _ in range(4):
        rates.append({name: state["rates"][name]["lr"] for name in learner.update.step.names})
        state = learner.update.step.advance(state)
    factor = {"linear": lambda k: 1 - k / 4, "cosine": lambda k: (1 + math.cos(math.pi * k / 4)) / 2,
              "inverse": lambda k: 1 / (1 + 0.1 * k)}[scheduler]  # fmt: skip
    for k, found in enumerate(rates):
        assert found == pytest.approx({name: rates[0][name] * factor(k) for name in found}, rel=1e-12)

import copy
import math
import re
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.curvature import PullBack
from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Outcome, Schedule, host
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.network import Network
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.parts import EUCLIDEAN, PRODUCT, ROOT
from rlopt.core.samples import Samples
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from rlopt.core.update import Report, Update
from tests import oracles
from tests.oracles import HEADS, POLICIES, TAPES, Case, bits, close, eye, fisher, make_case, mean_kl, randn, seeded

cg = partial(CG, preconditioner=None, start="cold", decay=0.0)
LINEAR = {"name": "LinearLR", "start_factor": 1.0, "end_factor": 0.1, "total_iters": 8}
OBJECTIVES = {
    "log_prob": LogProb(entropy=0.0),
    "surrogate": Surrogate(entropy=0.0),
    "clipped": Clipped(clip=0.2, entropy=0.0),
    "value": Value(),
}


def adam() -> Optimizer:
    return Optimizer({"name": "Adam", "lr": 0.02}, LINEAR, max_norm=0.5)


def line_search(radius: float = 0.01, accept_ratio: float = 0.0) -> KLLineSearch:
    return KLLineSearch(radius, shrink=0.8, backtracks=10, accept_ratio=accept_ratio, largest=1e6)


@dataclass(frozen=True)
class Counting:
    """A part whose state counts how often it was used, around a part that has none."""

    part: object
    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, ROOT, EUCLIDEAN})
    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT})
    measures: ClassVar[bool] = False

    def init(self):
        return {"used": torch.zeros(2, dtype=torch.float64)}

    def bind(self, state, *arguments):
        return self.part.bind({}, *arguments)[0], {"used": state["used"] + 1}

    def prepare(self, state, curvature, damping):
        return self.part.prepare({}, curvature, damping)[0], {"used": state["used"] + 1}

    def current(self, state):
        return self.part.current({})

    def adapt(self, state, scalars):
        return {"used": state["used"] + 1}


class Watching:
    """A step that takes none and keeps the direction it was given."""

    whole_batch = adaptive = False

    def init(self, theta):
        return {}

    def step(self, state, theta, solution, slope, problem):
        self.x, self.slope = solution.x, slope
        return theta, state, {"step/size": 0.0, "step/accepted": 0.0}


class Downhill(Identity):
    """The direction of steepest descent, which no search can accept."""

    def prepare(self, state, curvature, damping):
        solve, state = Identity.prepare(self, state, curvature, damping)
        return lambda g: replace(solve(g), x=-g), state


PRESETS = {
    "vpg": lambda: (LogProb(0.01), IdentityMetric(), Identity(), Constant(0.0), adam()),
    "npg": lambda: (Surrogate(0.0), Fisher(None, 0), cg(10, 1e-10), Constant(1e-3), TrustRegion(0.01, 1e3)),
    "npg_dense": lambda: (Surrogate(0.0), Fisher(None, 0), Dense("refuse"), Constant(1e-3), Fixed(0.1)),
    "trpo": lambda: (Surrogate(0.0), Fisher(None, 0), cg(10, 1e-10), Constant(1e-3), line_search()),
    "ppo": lambda: (Clipped(0.2, 0.01), IdentityMetric(), Identity(), Constant(0.0), adam()),
}
every_preset = pytest.mark.parametrize("preset", PRESETS)


def make_update(case: Case, *parts) -> Update:
    return Update(case.network, case.head, *parts)


def make_preset(case: Case, preset: str) -> Update:
    """The preset with every part but the step counting in its state what it was used for."""
    objective, metric, solver, damping, step = PRESETS[preset]()
    return make_update(case, objective, Counting(metric), Counting(solver), Counting(damping), step)


def used(state) -> tuple[int, int, int]:
    return tuple(int(state[part]["used"][0]) for part in ("metric", "solver", "damping"))


def direction(case: Case, objective, metric, solver, damping: float = 0.0) -> Tensor:
    """x as the update hands it to its step."""
    step = Watching()
    update = make_update(case, objective, metric, solver, Constant(damping), step)
    _, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.failure is None
    return step.x


def gradient(case: Case, objective) -> Tensor:
    return direction(case, objective, IdentityMetric(), Identity())


# --- g


@pytest.mark.parametrize("weights", ["uniform", "masked"])
@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("objective", ["log_prob", "surrogate", "clipped"])
@pytest.mark.parametrize("head", POLICIES)
def test_g_is_the_gradient_of_the_weighted_objective(head, objective, tape, weights):
    case = make_case(head, tape, weights, moved=0.1)
    assert close(gradient(case, OBJECTIVES[objective]), oracles.gradient(case, objective), 1e-12)


@pytest.mark.parametrize("tape", TAPES)
def test_g_of_the_value_objective_is_that_of_the_weighted_squared_error(tape):
    case = make_case("value", tape, "masked")
    assert close(gradient(case, Value()), oracles.gradient(case, "value"), 1e-12)


@pytest.mark.parametrize("objective", ["log_prob", "surrogate", "clipped"])
@pytest.mark.parametrize("head", POLICIES)
def test_g_holds_the_entropy_bonus(head, objective):
    case = make_case(head, weights="masked", moved=0.1)
    with_bonus = replace(OBJECTIVES[objective], entropy=0.3)
    assert close(gradient(case, with_bonus), oracles.gradient(case, objective, entropy=0.3), 1e-12)
    assert not close(gradient(case, with_bonus), gradient(case, OBJECTIVES[objective]), 1e-6)


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_values_alone_are_those_beside_the_gradient(objective, entropy):
    case = make_case("value" if objective == "value" else "sigma", moved=0.3)
    part = OBJECTIVES[objective] if objective == "value" else replace(OBJECTIVES[objective], entropy=entropy)
    z = case.tape.outputs
    values, _ = part.values_and_gradient(case.head, z, case.samples)
    assert close(part.values(case.head, z, case.samples), values, 1e-14)
    options = {} if objective == "value" else {"entropy": entropy}
    assert close(case.samples.mean(values), oracles.objective(case, objective, case.theta, **options), 1e-12)


def test_some_ratios_of_those_cases_are_clipped_and_some_are_not():
    case = make_case("sigma", weights="masked", moved=0.3)
    ratio = (case.head.log_prob(case.tape.outputs, case.samples.actions) - case.samples.old_log_prob).exp()
    outside = (ratio - 1).abs() > 0.2
    assert 0 < int(outside.sum()) < len(ratio)
    assert not close(gradient(case, OBJECTIVES["clipped"]), gradient(case, OBJECTIVES["surrogate"]), 1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Clipped(0.0, 0.0), "clip must be"),
        (lambda: Clipped(0.2, -1.0), "entropy must be"),
        (lambda: LogProb(-1.0), "entropy must be a finite number, 0 or above; got -1.0"),
        (lambda: Surrogate(math.nan), "entropy must be"),
        (lambda: Constant(-1e-3), "value must be"),
    ],
)
def test_objectives_and_damping_refuse_numbers_outside_their_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# --- the whole equation


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", POLICIES)
@pytest.mark.parametrize("solver", [cg(200, 1e-12), Dense("refuse")], ids=["cg", "dense"])
def test_one_update_is_the_equation(solver, head, tape):
    case = make_case(head, tape, "masked", count=30)
    g, F = oracles.gradient(case, "surrogate"), fisher(case)
    x = torch.linalg.solve(F + 1e-2 * eye(len(g)), g)
    assert close(direction(case, OBJECTIVES["surrogate"], Fisher(None, 0), solver, 1e-2), x, 1e-8)


@every_preset
def test_a_taken_step_reports_and_moves_every_state(preset):
    case = make_case("log_sigma", weights="masked")
    update = make_preset(case, preset)
    state = update.init(case.theta)
    assert used(state) == (0, 0, 0)
    before = case.theta.clone()
    theta, state, report = update(case.theta, state, case.samples)
    assert report.failure is None and report.scalars["step/accepted"] == 1
    assert used(state) == (1, 1, 1)
    assert not torch.equal(theta, before)
    name = {"vpg": "log_prob", "ppo": "clipped"}.get(preset, "surrogate")
    options = {"entropy": 0.01} if preset in ("vpg", "ppo") else {}
    at_start = replace(case, theta=before)
    g = oracles.gradient(at_start, name, **options)
    assert float(report.scalars["objective/value"]) == pytest.approx(
        float(oracles.objective(at_start, name, before, **options)), rel=1e-10
    )
    assert float(report.scalars["objective/gradient_norm"]) == pytest.approx(float(g.norm()), rel=1e-10)
    assert report.scalars["damping/value"] == update.damping.part.value
    assert (report.scalars["solver/iterations"] > 0) == (preset in ("npg", "trpo"))
    assert (report.read()["solver/residual"] > 0) == (preset in ("npg", "trpo", "npg_dense"))
    assert report.scalars["step/size"] > 0


@pytest.mark.parametrize("preset", ["npg", "npg_dense", "trpo"])
def test_an_update_changes_neither_its_samples_nor_the_theta_it_was_given(preset):
    case = make_case("sigma", weights="masked")
    update = make_preset(case, preset)
    before = bits((case.theta, vars(case.samples)))
    update(case.theta, update.init(case.theta), case.samples)
    given = {field.name: getattr(case.samples, field.name) for field in fields(Samples)}
    assert bits((case.theta, given)) == before


# --- accepted and rejected steps


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    head=st.sampled_from(POLICIES),
    tape=st.sampled_from(TAPES),
    weights=st.sampled_from(oracles.WEIGHTS),
    count=st.integers(7, 40),
    radius=st.floats(1e-5, 3.0),
    accept_ratio=st.sampled_from([0.0, 0.3, 0.9]),
    spread=st.floats(1e-3, 1e3),
    moved=st.sampled_from([0.0, 0.3]),
    natural=st.booleans(),
)
def test_an_accepted_line_search_keeps_kl_within_radius_and_improves_and_a_rejected_one_changes_nothing(
    seed, head, tape, weights, count, radius, accept_ratio, spread, moved, natural
):
    case = make_case(head, tape, weights, count=count, seed=seed, moved=moved)
    case = replace(case, samples=replace(case.samples, advantages=spread * case.samples.advantages))
    geometry = (Fisher(None, 0), cg(10, 1e-10)) if natural else (IdentityMetric(), Identity())
    metric, solver = map(Counting, geometry)
    step = line_search(radius, accept_ratio)
    update = make_update(case, Surrogate(0.0), metric, solver, Constant(1e-4), step)
    state = update.init(case.theta)
    before = bits((case.theta, state))

    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure is None
    assert bits((case.theta, state)) == before
    if report.scalars["step/accepted"]:
        assert mean_kl(case, theta) <= radius * (1 + 1e-9)
        start = oracles.objective(case, "surrogate", case.theta)
        improvement = oracles.objective(case, "surrogate", theta) - start
        assert improvement > -1e-12 * spread
        predicted = (theta - case.theta) @ oracles.gradient(case, "surrogate")
        assert improvement >= accept_ratio * predicted - 1e-9 * (abs(predicted) + spread * 1e-3)
    else:
        assert theta is case.theta
        assert bits(new_state) == bits(state)


@pytest.mark.parametrize("head", POLICIES)
def test_natural_line_searches_are_usually_accepted(head):
    accepted = 0
    for seed in range(6):
        case = make_case(head, weights="masked", seed=seed)
        update = make_preset(case, "trpo")
        _, _, report = update(case.theta, update.init(case.theta), case.samples)
        accepted += report.scalars["step/accepted"]
    assert accepted >= 5


@pytest.mark.parametrize(
    ("solver", "step"),
    [
        (Downhill(), line_search()),
        (Identity(), line_search(radius=1e-40)),
        (Identity(), KLLineSearch(1e4, shrink=0.9, backtracks=2, accept_ratio=0.999, largest=1e6)),
    ],
    ids=["downhill", "tiny_radius", "too_much_asked"],
)
def test_a_rejected_line_search_leaves_theta_and_every_state_to_the_bit(solver, step):
    case = make_case("log_sigma", weights="masked")
    update = make_update(
        case, Surrogate(0.0), Counting(IdentityMetric()), Counting(solver), Counting(Constant(0.1)), step
    )
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure is None and report.scalars["step/accepted"] == 0
    assert theta is case.theta and bits((theta, state)) == before
    for part in ("metric", "solver", "step"):
        assert bits(new_state[part]) == bits(state[part])
    assert used(new_state) == (0, 0, 1)  # damping alone may learn from a rejection


SGD = Optimizer({"name": "SGD", "lr": 1e3}, LINEAR, max_norm=None)


@pytest.mark.parametrize("step", [Fixed(1e3), TrustRegion(1e3, 1e3), SGD], ids=["fixed", "trust_region", "sgd"])
def test_a_step_out_of_the_domain_leaves_theta_and_every_state_to_the_bit(step):
    case = make_case("sigma", weights="masked")
    sign = -oracles.gradient(case, "log_prob")[-1].sign()  # so that the last sigma falls
    case = replace(case, samples=replace(case.samples, advantages=sign * case.samples.advantages))
    update = make_update(
        case, LogProb(0.0), Counting(IdentityMetric()), Counting(Identity()), Counting(Constant(0.0)), step
    )
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure is None and report.scalars["step/accepted"] == 0
    assert theta is case.theta and bits((theta, state)) == before
    assert bits(new_state["step"]) == bits(state["step"])
    assert used(new_state) == (0, 0, 1)


# --- numbers that are not finite


def poisoned(case: Case, where: str, bad: float) -> Case:
    if where == "theta":
        theta = case.theta.clone()
        theta[-1] = bad
        return replace(case, theta=theta)
    values = getattr(case.samples, where).clone()
    values.view(-1)[4] = bad
    return replace(case, samples=replace(case.samples, **{where: values}))


BAD = [(where, math.nan) for where in ("advantages", "inputs", "theta", "weight", "actions")]
BAD += [("advantages", math.inf), ("advantages", -math.inf), ("weight", math.inf)]


@pytest.mark.parametrize(("where", "bad"), BAD)
@every_preset
def test_a_number_that_is_not_finite_changes_nothing_and_is_named(preset, where, bad):
    case = make_case("log_sigma")
    update = make_preset(case, preset)
    theta = case.theta.clone()
    theta, state, report = update(theta, update.init(theta), case.samples)
    assert report.failure is None

    bad_case = poisoned(replace(case, theta=theta), where, bad)
    before = bits((bad_case.theta, state))
    after, new_state, report = update(bad_case.theta, state, bad_case.samples)
    assert report.failure == "objective"
    assert after is bad_case.theta and new_state is state
    assert bits((after, new_state)) == before
    assert "step/accepted" not in report.scalars


@every_preset
def test_training_goes_on_after_a_skipped_step_as_if_it_had_not_been(preset):
    case = make_case("log_sigma")
    bad = poisoned(case, "advantages", math.nan).samples

    def run(batches):
        update = make_preset(case, preset)
        theta = case.theta.clone()
        state = update.init(theta)
        for batch in batches:
            theta, state, _ = update(theta, state, batch)
        return bits((theta, state))

    good = case.samples
    assert run([good, bad, good, good]) == run([good, good, good])


def test_the_gradient_is_named_when_the_objective_is_finite():
    module = nn.Linear(3, 2, dtype=torch.float64)
    case = make_case(heads.DiagonalGaussian(2), hidden=())
    case = replace(case, module=module, network=Network(module, 2))
    inputs = torch.full_like(case.samples.inputs, 1e308)
    theta = torch.zeros_like(case.theta)  # so that the outputs are 0 whatever the inputs
    advantages = torch.full_like(case.samples.advantages, 1e3)
    case = replace(case, theta=theta, samples=replace(case.samples, inputs=inputs, advantages=advantages))
    update = make_preset(case, "npg")
    state = update.init(theta)
    after, new_state, report = update(theta, state, case.samples)
    assert report.failure == "gradient"
    assert after is theta and new_state is state


class Broken:
    """A metric whose products are ``value``."""

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT})
    value = math.nan

    def init(self):
        return {}

    def bind(self, state, tape, head, samples, objective):
        return PullBack(tape, samples.share, lambda t: t * self.value), state


class Negative(Broken):
    value = -1e9


@pytest.mark.parametrize(
    ("metric", "solver", "says"),
    [
        (Broken(), cg(5, 0.0), "^direction$"),
        (Broken(), Dense("refuse"), "not finite"),
        (Negative(), Dense("refuse"), "Cholesky factorisation failed"),
    ],
)
def test_a_direction_that_cannot_be_found_changes_nothing_and_says_why(metric, solver, says):
    case = make_case("categorical")
    update = make_update(case, LogProb(0.0), metric, solver, Constant(1e-3), adam())
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure and re.search(says, report.failure)
    assert theta is case.theta and new_state is state and bits((theta, state)) == before


def test_the_objective_is_named_before_the_factorisation_that_it_made_fail():
    case = poisoned(make_case("categorical"), "theta", math.nan)
    update = make_preset(case, "npg_dense")
    _, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.failure == "objective"


# --- weights


def taken(samples: Samples, index: Tensor) -> Samples:
    values = {field.name: getattr(samples, field.name) for field in fields(Samples)}
    return Samples(**{name: None if v is None else v[index] for name, v in values.items()})


def directions(case: Case) -> list[Tensor]:
    objective = OBJECTIVES["value" if isinstance(case.head, heads.Value) else "surrogate"]
    return [gradient(case, objective), direction(case, objective, Fisher(None, 0), Dense("refuse"), 1e-3)]


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", HEADS)
def test_a_sample_of_weight_zero_changes_nothing(head, tape):
    case = make_case(head, tape, "masked")
    masked = case.samples.weight == 0
    assert masked.any()
    without = replace(case, samples=taken(case.samples, (~masked).nonzero().squeeze(1)))
    other = case.samples.inputs.clone()
    other[masked] = 5.0
    moved = replace(case, samples=replace(case.samples, inputs=other))
    for expected, a, b in zip(directions(case), directions(without), directions(moved), strict=True):
        assert close(a, expected, 1e-10)
        assert close(b, expected, 1e-10)


@pytest.mark.parametrize("head", HEADS)
def test_doubling_a_weight_is_duplicating_the_sample(head):
    case = make_case(head)
    weight = case.samples.weight.clone()
    weight[[2, 5]] *= 2
    doubled = replace(case, samples=replace(case.samples, weight=weight))
    index = torch.cat([torch.arange(len(weight)), torch.tensor([2, 5])])
    duplicated = replace(case, samples=taken(case.samples, index))
    for a, b, plain in zip(directions(doubled), directions(duplicated), directions(case), strict=True):
        assert close(a, b, 1e-10)
        assert not close(a, plain, 1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_the_scale_of_all_weights_changes_nothing(head):
    case = make_case(head)
    scaled = replace(case, samples=replace(case.samples, weight=8 * case.samples.weight))
    for a, b in zip(directions(scaled), directions(case), strict=True):
        assert torch.equal(a, b)  # a power of two is exact


# --- invariance


def in_sigma(case: Case) -> tuple[Case, Case]:
    """The same policy and samples, with the scale as log sigma and as sigma."""
    head = replace(case.head, scale="sigma")
    theta = case.theta.clone()
    theta[-2:] = theta[-2:].exp()
    return case, replace(case, head=head, theta=theta)


@pytest.mark.parametrize("hidden", [(), (4,)])
@pytest.mark.parametrize("solver", [cg(500, 1e-13), Dense("refuse")], ids=["cg", "dense"])
def test_the_natural_direction_does_not_depend_on_the_parameters_of_the_scale_and_the_vanilla_one_does(solver, hidden):
    log_sigma, sigma = in_sigma(make_case("log_sigma", weights="masked", count=40, hidden=hidden))
    jacobian = torch.ones_like(sigma.theta)
    jacobian[-2:] = sigma.theta[-2:]  # d sigma / d log sigma
    surrogate = OBJECTIVES["surrogate"]
    natural = direction(log_sigma, surrogate, Fisher(None, 0), solver) * jacobian
    assert close(direction(sigma, surrogate, Fisher(None, 0), solver), natural, 1e-6)
    vanilla = gradient(log_sigma, surrogate) * jacobian
    assert (gradient(sigma, surrogate) - vanilla)[-2:].abs().max() > 0.1 * vanilla[-2:].abs().max()


def test_the_natural_direction_does_not_depend_on_the_coordinates_of_the_inputs_and_the_vanilla_one_does():
    case = make_case("categorical", weights="masked", count=40, hidden=())
    A = randn(3, 3, seed=11) + 2 * eye(3)  # z = W s = (W A^-1) (A s)
    W, b = case.theta[:9].view(3, 3), case.theta[9:]
    theta = torch.cat([(W @ A.inverse()).reshape(-1), b])
    other = replace(case, theta=theta, samples=replace(case.samples, inputs=case.samples.inputs @ A.T))
    assert close(other.tape.outputs, case.tape.outputs, 1e-12)

    def moved(case: Case, x: Tensor) -> Tensor:
        return case.network.tape(case.theta, case.samples.inputs).jvp(x)  # of every logit, whatever the coordinates

    surrogate = OBJECTIVES["surrogate"]
    natural = [moved(c, direction(c, surrogate, Fisher(None, 0), cg(100, 1e-12))) for c in (case, other)]
    vanilla = [moved(c, gradient(c, surrogate)) for c in (case, other)]
    p = case.tape.outputs.softmax(1)
    centred = [x - (p * x).sum(1, keepdim=True) for x in natural]  # logits are defined up to a constant
    assert close(centred[0], centred[1], 1e-8)
    assert (vanilla[0] - vanilla[1]).abs().max() > 0.1 * vanilla[0].abs().max()


# --- schedules


@pytest.mark.parametrize(("count", "size"), [(40, 8), (41, 8), (47, 8), (17, 5), (9, 4), (5, 5), (5, 7), (5, None)])
def test_minibatches_hold_every_sample_once_and_the_last_takes_in_the_rest(count, size):
    ids = torch.arange(count, dtype=torch.float64)
    samples = Samples(inputs=ids[:, None], actions=ids, weight=torch.ones_like(ids), advantages=-ids)
    batches = list(samples.minibatches(size, seeded(0)))
    assert sorted(torch.cat([b.actions for b in batches]).tolist()) == ids.tolist()
    sizes = [len(b) for b in batches]
    if size is None or size >= count:
        assert sizes == [count] and torch.equal(batches[0].actions, ids)
    else:
        assert sizes == [size] * (count // size - 1) + [size + count % size]
        assert not torch.equal(torch.cat([b.actions for b in batches]), ids)
    for b in batches:
        assert torch.equal(b.inputs[:, 0], b.actions) and torch.equal(b.advantages, -b.actions)
        assert b.old_outputs is None and float(b.share.sum()) == pytest.approx(1)


def test_every_epoch_shuffles_anew_and_a_seed_repeats_it():
    ids = torch.arange(20, dtype=torch.float64)
    samples = Samples(inputs=ids[:, None], actions=ids, weight=torch.ones_like(ids))

    def epochs(seed: int) -> list[list[float]]:
        generator = seeded(seed)
        return [torch.cat([b.actions for b in samples.minibatches(5, generator)]).tolist() for _ in range(2)]

    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0) == epochs(0) != epochs(1)


@pytest.mark.parametrize("preset", ["vpg", "ppo", "npg", "npg_dense"])
def test_a_learner_is_its_update_over_every_minibatch_of_every_epoch(preset):
    case = make_case("log_sigma", weights="masked", count=23)
    update = make_preset(case, preset)
    learner = Learner(update, Schedule(epochs=3, minibatch=5))
    theta = case.theta.clone()
    theta, state, outcome = learner.run(theta, learner.init(theta), case.samples, seeded(1), epochs=3)
    assert outcome.steps == 3 * 4 and outcome.skipped == 0 and outcome.failure is None

    update, generator, expected = make_preset(case, preset), seeded(1), case.theta.clone()
    expected_state = update.init(expected)
    for _ in range(3):
        for batch in case.samples.minibatches(5, generator):
            expected, expected_state, report = update(expected, expected_state, batch)
    assert bits((theta, state)) == bits((expected, expected_state))
    assert bits(dict(outcome.last.scalars)) == bits(dict(report.scalars))


@every_preset
def test_training_twice_gives_the_same_bits(preset):
    def train():
        case = make_case("sigma", weights="masked", count=40)
        learner = Learner(make_preset(case, preset), Schedule(epochs=2, minibatch=None if preset == "trpo" else 8))
        theta, generator = case.theta.clone(), seeded(3)
        state = learner.init(theta)
        for _ in range(3):
            theta, state, _ = learner.run(theta, state, case.samples, generator, epochs=2)
            state = learner.advance(state)
        return bits((theta, state)), bits(learner.measure(theta, state, case.samples))

    assert train() == train()


@every_preset
def test_training_from_a_copied_state_in_new_objects_gives_the_same_bits(preset):
    case = make_case("log_sigma", weights="masked", count=40)

    def learner() -> Learner:
        return Learner(make_preset(case, preset), Schedule(epochs=1, minibatch=None if preset == "trpo" else 8))

    def train(learner, theta, state, seeds):
        for seed in seeds:
            theta, state, _ = learner.run(theta, state, case.samples, seeded(seed), epochs=1)
            state = learner.advance(state)
        return theta, state

    first, theta = learner(), case.theta.clone()
    theta, state = train(first, theta, first.init(theta), range(3))
    copied = theta.clone(), copy.deepcopy(state)
    assert bits(train(first, theta, state, range(3, 6))) == bits(train(learner(), *copied, range(3, 6)))


def test_a_learner_counts_skipped_steps_and_trains_on_the_others():
    case = make_case("log_sigma", count=20)
    bad = poisoned(case, "advantages", math.nan).samples
    learner = Learner(make_preset(case, "ppo"), Schedule(epochs=1, minibatch=4))
    theta = case.theta.clone()
    theta, state, outcome = learner.run(theta, learner.init(theta), bad, seeded(0), epochs=2)
    assert (outcome.steps, outcome.skipped, outcome.failure) == (10, 2, "objective")
    assert theta.isfinite().all() and used(state) == (8, 8, 8)


class Scripted:
    """An update that gives these reports in turn."""

    step = Watching()

    def __init__(self, *reports: Report):
        self.reports = iter(reports)

    def __call__(self, theta, state, samples):
        return theta, state, next(self.reports)


def test_an_outcome_names_the_first_failure_and_keeps_the_last_good_report():
    good = [Report(scalars={"step/size": float(i)}) for i in range(3)]
    samples, theta = make_case("categorical").samples, torch.zeros(1)

    def outcome(*reports: Report) -> Outcome:
        learner = Learner(Scripted(*reports), Schedule(epochs=1, minibatch=None))
        return learner.run(theta, {}, samples, seeded(0), epochs=len(reports))[2]

    first = outcome(good[0], Report("objective"), good[1], Report("gradient"))
    assert (first.steps, first.skipped, first.failure) == (4, 2, "objective") and first.last is good[1]
    fine, none = outcome(good[2]), outcome(Report("direction"))
    assert fine.failure is None and fine.last is good[2]
    assert (first + fine).last is good[2] and (fine + none).last is good[2]
    assert (first + none).failure == "objective" and (fine + none).failure == "direction"
    assert ((first + fine).steps, (first + none).skipped) == (5, 3)


def test_kl_line_search_refuses_minibatches():
    case = make_case("categorical")
    update = make_preset(case, "trpo")
    with pytest.raises(ValueError, match=r"schedule\.minibatch must be null with step=KLLineSearch.*; got 64"):
        Learner(update, Schedule(epochs=1, minibatch=64))
    Learner(update, Schedule(epochs=2, minibatch=None))


@pytest.mark.parametrize(("epochs", "minibatch"), [(0, None), (1, 0), (-1, 8)])
def test_a_schedule_refuses_what_is_no_count(epochs, minibatch):
    with pytest.raises(ValueError, match="must be a whole number, 1 or above"):
        Schedule(epochs, minibatch)


@pytest.mark.parametrize("head", POLICIES)
def test_a_learner_measures_against_the_policy_that_acted_on_the_whole_batch(head):
    case = make_case(head, weights="masked", moved=0.1)
    learner = Learner(make_preset(case, "trpo"), Schedule(epochs=1, minibatch=None))
    theta = case.theta + 0.05 * randn(len(case.theta), seed=20)
    measured = learner.measure(theta, learner.init(theta), case.samples)
    z, share = oracles.outputs(case.module, theta, case.samples.inputs), oracles.share(case.samples)
    old = case.samples.old_outputs
    assert float(measured["step/kl"]) == pytest.approx(float(share @ oracles.kl(case.head, old, z)), rel=1e-9)
    improvement = oracles.objective(case, "surrogate", theta) - share @ case.samples.advantages
    assert float(measured["step/improvement"]) == pytest.approx(float(improvement), rel=1e-9)
    policy = getattr(case.head, "policy", case.head)  # of a joint head its own, behind the value
    own = z[:, z.shape[1] - policy.network_outputs - policy.constants :]
    entropy = share @ oracles.distribution(policy, own).entropy()
    assert float(measured["policy/entropy"]) == pytest.approx(float(entropy), rel=1e-9)
    assert ("policy/kl" in measured) == (policy is not case.head)
    if policy is not case.head:
        kl = share @ oracles.kl(policy, old[:, 1:], own)
        assert float(measured["policy/kl"]) == pytest.approx(float(kl), rel=1e-9)


def test_scalars_come_to_the_host_as_numbers_under_their_names():
    scalars = {"a": torch.tensor(1.5), "b": 2.0, "c": torch.tensor(True), "d": torch.tensor([3], dtype=torch.float64)}
    assert host(scalars) == {"a": 1.5, "b": 2.0, "c": 1.0, "d": 3.0}
    assert host({}) == {}

"""What an update does not depend on: the scale of the weights, and, if it is natural, the coordinates."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from rlopt.core import heads
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.samples import Samples
from rlopt.core.solvers.dense import Dense
from tests.support.oracles import HEADS, TAPES, Case, close, eye, make_case, randn
from tests.support.updates import OBJECTIVES, cg, direction, gradient


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


def in_sigma(case: Case) -> tuple[Case, Case]:
    """The same policy and samples, with the scale as log sigma and as sigma."""
    head = replace(case.head, scale="sigma")
    theta = case.theta.clone()
    theta[-2:] = theta[-2:].exp()
    return case, replace(case, head=head, theta=theta)


@pytest.mark.parametrize("hidden", [(), (4,)])
@pytest.mark.parametrize("solver", [cg(500, 1e-13), Dense("refuse")], ids=["cg", "dense"])
def test_only_the_natural_direction_ignores_how_scale_is_written(solver, hidden):
    log_sigma, sigma = in_sigma(make_case("log_sigma", weights="masked", count=40, hidden=hidden))
    jacobian = torch.ones_like(sigma.theta)
    jacobian[-2:] = sigma.theta[-2:]  # d sigma / d log sigma
    surrogate = OBJECTIVES["surrogate"]
    natural = direction(log_sigma, surrogate, Fisher(None, 0), solver) * jacobian
    assert close(direction(sigma, surrogate, Fisher(None, 0), solver), natural, 1e-6)
    vanilla = gradient(log_sigma, surrogate) * jacobian
    assert (gradient(sigma, surrogate) - vanilla)[-2:].abs().max() > 0.1 * vanilla[-2:].abs().max()


def test_only_the_natural_direction_ignores_input_coordinates():
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

"""Several thetas' records as one: products and layer records against each theta's own Jacobian."""

import pytest
import torch

from rlopt.core import network as network_module
from rlopt.core.tapes import joined
from rlopt.core.tapes.joined import JoinedTape
from rlopt.core.tapes.mlp import MLPTape
from rlopt.inspection.memory import NewTensors
from tests.support.curvatures import positions
from tests.support.oracles import TAPES, Case, close, jacobian, make_case, outputs, randn

COUNTS = (7, 2, 9)


def cases(tape: str) -> list[Case]:
    """One network at three thetas, each with samples of its own; the head has constants."""
    first = make_case("log_sigma", tape)
    return [
        Case(first.module, first.network, first.head, first.theta + 0.3 * randn(len(first.theta), seed=i), samples)
        for i, samples in enumerate(make_case("log_sigma", count=n, seed=20 + n).samples for n in COUNTS)
    ]


@pytest.mark.parametrize("kind", TAPES)
def test_products_are_those_of_each_samples_own_theta(kind):
    found = cases(kind)
    tape, J = JoinedTape([case.tape for case in found]), torch.cat([jacobian(case) for case in found])
    z = torch.cat([outputs(case.module, case.theta, case.samples.inputs) for case in found])
    u, v = randn(*z.shape, seed=1), randn(tape.size, seed=2)
    assert close(tape.outputs, z, 1e-14) and tape.counts == list(COUNTS) and not tape.chain
    assert close(tape.jvp(v), J @ v, 1e-12)
    assert close(tape.vjp(u), torch.einsum("bo,bop->p", u, J), 1e-12)
    own = [case.tape.hvp(part, v) for case, part in zip(found, u.split(COUNTS), strict=True)]
    assert close(tape.hvp(u, v), sum(own), 1e-12)


@pytest.mark.parametrize("rows", [3, 8, 100])
@pytest.mark.parametrize("kind", TAPES)
def test_layers_and_parts_give_the_same_gradients(kind, rows):
    found = cases(kind)
    tape, J = JoinedTape([case.tape for case in found]), torch.cat([jacobian(case) for case in found])
    U = randn(2, *tape.outputs.shape, seed=3)
    own = torch.einsum("kbo,bop->kbp", U, J)
    seen = []
    for at, part in [*tape.parts(rows), (slice(None), tape)]:
        layers = part.layers(U[:, at, : tape.width], U[:, at, tape.width :])
        rebuilt = []
        for layer in layers:
            D = torch.einsum("kblj,bli->kbji", layer.signals, layer.inputs)
            rebuilt.append(torch.cat([D[..., :-1].flatten(2), D[..., -1]], 2))
        assert close(torch.cat(rebuilt, 2), own[:, at], 1e-12)
        seen += list(range(len(own[0])))[at]
    assert seen == 2 * list(range(sum(COUNTS)))
    assert [layer.weight for layer in tape.layers(U)] == [None] * len(layers)


def test_layers_with_positions_are_joined():
    case = positions()
    tape = JoinedTape([case.tape, case.tape])
    records = tape.layers(randn(1, *tape.outputs.shape))
    assert [record.activations.shape for record in records] == [(34, 3, 3), (34, 1, 4)]


@pytest.mark.parametrize("kind", TAPES)
def test_a_record_is_made_again_at_another_theta(kind):
    a, b, _ = cases(kind)
    for tape in (a.tape, JoinedTape([a.tape, b.tape])):
        made = tape.at(b.theta, b.samples.inputs)
        assert torch.equal(made.outputs, b.tape.outputs) and torch.equal(made.theta(), b.theta)
    copy = a.tape.theta()
    copy.zero_()
    assert torch.equal(a.tape.theta(), a.theta)
    with pytest.raises(ValueError, match="no one theta"):
        JoinedTape([a.tape, b.tape]).theta()


def test_a_large_batch_is_cut_into_slices_that_change_nothing(monkeypatch):
    """Products, layers and records of a sliced tape are those of one tape of all samples."""
    case = make_case("log_sigma", count=23)
    whole, u, v = case.tape, randn(23, 4, seed=1), randn(case.tape.size, seed=2)
    monkeypatch.setattr(network_module, "SLICE", 23)
    assert isinstance(case.network.tape(case.theta, case.samples.inputs), MLPTape)
    monkeypatch.setattr(network_module, "SLICE", 22)
    monkeypatch.setattr(joined, "SLICE", 7)
    tape = case.network.tape(case.theta, case.samples.inputs)
    assert isinstance(tape, JoinedTape) and tape.counts == [7, 7, 7, 2] and tape.chain
    assert close(tape.outputs, whole.outputs, 1e-14) and torch.equal(tape.theta(), case.theta)
    for _ in range(2):  # the second time with what was kept
        assert close(tape.jvp(v), whole.jvp(v), 1e-13)
        assert close(tape.vjp(u), whole.vjp(u), 1e-13)
        assert close(tape.hvp(u, v), whole.hvp(u, v), 1e-13)
    for own, other in zip(tape.layers(u[None]), whole.layers(u[None]), strict=True):
        assert close(own.signals, other.signals, 1e-13) and close(own.inputs, other.inputs, 1e-13)
        assert (own.derivative is None) == (other.derivative is None)
        assert own.derivative is None or close(own.derivative, other.derivative, 1e-13)


def test_slices_share_one_workspace(monkeypatch):
    """So that products take no memory that grows with the batch, other than their results."""
    case = make_case("log_sigma", count=64, hidden=(50, 50))
    monkeypatch.setattr(network_module, "SLICE", 8)
    monkeypatch.setattr(joined, "SLICE", 8)
    tape, v = case.network.tape(case.theta, case.samples.inputs), randn(case.tape.size)
    with NewTensors() as memory:
        tape.jvp(v)
    assert memory.peak < 64 * 50 * 8  # one hidden layer of all samples

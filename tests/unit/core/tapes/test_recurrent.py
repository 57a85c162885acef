"""Products through time, against a loop that is written out row by row, in float64."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.func import jacrev

from rlopt.config.catalogue import make_part
from rlopt.core import curvature
from rlopt.core.curvature import PullBack, factored
from rlopt.core.heads import Categorical, DiagonalGaussian
from rlopt.core.requirements import Incompatible
from rlopt.core.solvers.kronecker.factors import factors
from rlopt.core.tapes.autograd import AutogradTape
from rlopt.core.tapes.recurrent import RecurrentTape
from tests.support.oracles import close, randn
from tests.support.remembering import KINDS, LENGTH, SEQUENCES, network, rows, written_out

TAPES = [RecurrentTape, AutogradTape]


def made(kind, tape, head=None):
    head = head or DiagonalGaussian(2)
    net = network(kind, head.network_outputs, head.constants)
    theta, given = 0.5 * randn(net.layout.size, seed=1), rows(kind)
    built = net.tape(theta, given)
    assert type(built) is RecurrentTape
    if tape is AutogradTape:
        built = AutogradTape(net.module, net.layout, theta, given)
    return built, net, theta, given


def jacobian(kind, net, theta, given):
    return jacrev(lambda at: written_out(kind, net, at, given))(theta)  # (B, O, P)


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_a_loop_over_rows(kind, tape):
    built, net, theta, given = made(kind, tape)
    J = jacobian(kind, net, theta, given)
    u, v = randn(*J.shape[:2], seed=2), randn(len(theta), seed=3)
    assert close(built.outputs, written_out(kind, net, theta, given), 1e-12)
    assert close(built.outputs, net.outputs(theta, given), 1e-12)
    assert close(built.vjp(u), torch.einsum("bop,bo->p", J, u), 1e-12)
    assert close(built.jvp(v), J @ v, 1e-12)
    at = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad((written_out(kind, net, at, given) * u).sum(), at, create_graph=True)
    assert close(built.hvp(u, v), torch.autograd.grad(torch.dot(g, v), at)[0], 1e-10)


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", [Categorical(3), DiagonalGaussian(2)], ids=lambda h: type(h).__name__)
def test_fisher_products_are_those_of_the_jacobian(kind, tape, head):
    built, net, theta, given = made(kind, tape, head)
    J, v = jacobian(kind, net, theta, given), randn(len(theta), seed=3)
    share = torch.full((len(given),), 1 / len(given), dtype=torch.float64)
    F = PullBack(built, share, head.fisher_product(built.outputs))
    U = head.fisher_root(built.outputs)
    rooted = torch.einsum("kbo,bop->kbp", U, J)
    dense = torch.einsum("kbp,kbq->pq", rooted, rooted) / len(given)
    assert close(F.product(v), dense @ v, 1e-10) and close(F.dense(), dense, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_that_is_no_chain_has_the_same_products(kind):
    """Its loop has silus and a layer normalisation of its own, and episodes begin inside two sequences."""
    net = network(kind, 2, hidden=(6, 5), silu=True)
    theta, given = 0.5 * randn(net.layout.size, seed=1), rows(kind)
    tape = net.tape(theta, given)
    assert type(tape) is AutogradTape and tape.sequence == LENGTH
    J, u, v = jacobian(kind, net, theta, given), randn(len(given), 2, seed=2), randn(len(theta), seed=3)
    assert close(tape.outputs, written_out(kind, net, theta, given), 1e-12)
    assert close(tape.vjp(u), torch.einsum("bop,bo->p", J, u), 1e-12)
    assert close(tape.jvp(v), J @ v, 1e-12)


def own_signals(net, theta, given, u):
    """What sample b alone, with u_b, sends to the layer's application at each row: hidden-to-gates (B, B, G), and h."""
    tape = AutogradTape(net.module, net.layout, theta, given)
    found = []
    for b in range(len(given)):
        alone = torch.zeros_like(u)
        alone[b] = u[b]
        layer = next(each for each in tape.layers(alone[None]) if each.weight_name == "hidden.weight")
        found.append(layer.signals[0].flatten(0, 1))
    return torch.stack(found), layer.activations.flatten(0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_kronecker_factors_are_their_definition_in_expectation(kind, monkeypatch):
    """A = mean of a a^T over applications, G = mean_b sum over earlier times of d d^T: over all signs of a sequence."""
    net = network(kind, 1)
    theta, given = randn(net.layout.size, seed=1), rows(kind)[:LENGTH]
    u, B = randn(LENGTH, 1, seed=2), LENGTH
    share = torch.full((B,), 1 / B, dtype=torch.float64)
    d, a = own_signals(net, theta, given, u)
    later = torch.arange(B) > torch.arange(B)[:, None]
    assert (d[later] == 0).all() and (d[2:, :2] == 0).all() and (d[4, 3] != 0).any()  # an episode begins at row 2
    expected = a.t() @ a / B, torch.einsum("blg,blh->gh", d, d) / B

    found = []
    for signs in itertools.product((-1.0, 1.0), repeat=B):
        flip = torch.tensor(signs, dtype=torch.float64)[None, :, None]
        monkeypatch.setattr(curvature, "_signed", lambda signals, tape, flip=flip: signals * flip)
        M = factored(net.tape(theta, given), share, u[None])
        names = [layer.weight_name for layer in M.tape.layers(u[None])]
        found.append(M.layer_mean(factors)[names.index("hidden.weight")])
    for i in range(2):
        assert close(torch.stack([pair[i] for pair in found]).mean(0), expected[i], 1e-10)


def test_layer_records_add_up_to_the_gradient_and_signs_repeat():
    built, net, theta, given = made("gru", RecurrentTape)
    u = randn(len(given), 4, seed=2)
    parts = net.layout.views(built.vjp(u))
    for layer in built.layers(u[None])[:-1]:  # the last is the head's
        assert layer.activations.shape[:2] == (SEQUENCES, LENGTH)
        own = torch.einsum("kblj,bli->ji", layer.signals, layer.activations)
        assert close(own, parts[layer.weight_name], 1e-12)
    once, again = (curvature._signed(u[None, :, :2], built) for _ in range(2))
    moved = curvature._signed(u[None, :, :2], net.tape(theta + 0.1, given))
    assert torch.equal(once, again) and not torch.equal(once, moved)
    assert torch.equal(once.abs(), u[None, :, :2].abs()) and (once / u[None, :, :2]).unique().tolist() == [-1, 1]


BY_SAMPLE = ["gram", "diagonal", "low_rank"]


@pytest.mark.parametrize("solver", [*BY_SAMPLE, "block", "ekfac"])
def test_solvers_of_samples_refuse_and_others_solve(solver):
    """Alone, in the library, too: they would take sequences for samples."""
    built, *_, given = made("gru", RecurrentTape)
    head, part = DiagonalGaussian(2), make_part("solver", solver)
    part = replace(part, remainder="mean") if solver == "low_rank" else part
    share = torch.full((len(given),), 1 / len(given), dtype=torch.float64)
    F = factored(built, share, head.fisher_root(built.outputs))
    g = randn(F.size, seed=5)
    if solver in BY_SAMPLE:
        with pytest.raises(Incompatible, match="no sample has its own"):
            part.prepare(part.init(), F, 0.1)[0](g)
        assert part.requirements.reads_samples
    else:
        assert torch.dot(part.prepare(part.init(), F, 0.1)[0](g).x, g) > 0


def test_the_encoder_may_have_no_layers():
    net = network("lstm", 2, hidden=())
    theta, given = randn(net.layout.size, seed=1), rows("lstm")
    tape = net.tape(theta, given)
    assert type(tape) is RecurrentTape and close(tape.outputs, written_out("lstm", net, theta, given), 1e-12)

"""Second derivatives, of which curvature is made: of heads and objectives in z, and of the outputs in theta."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rlopt.core.heads import Categorical, DiagonalGaussian, Joint
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.spo import SPO
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.tapes.activations import ACTIVATIONS, known_activation
from rlopt.core.tapes.autograd import AutogradTape
from rlopt.core.tapes.mlp import MLPTape
from tests.support.densities import distribution, log_prob
from tests.support.modules import CHAINS, OTHERS, setup
from tests.support.oracles import (
    HEADS,
    MORE_HEADS,
    close,
    draw,
    hessian,
    make_case,
    outputs,
    points,
    randn,
    sample_values,
)

B = 6
ALL = {**HEADS, **MORE_HEADS, "one_action": Categorical(1), "one_number": DiagonalGaussian(1, scale="sigma"),
       "joint_log_sigma": Joint(DiagonalGaussian(2), 0.4)}  # fmt: skip
every_head = pytest.mark.parametrize("name", ALL)


def by_sample(f, z: torch.Tensor) -> torch.Tensor:
    """(B, O, O) Hessians of f: (B, O) -> (B,), by differentiating the sum, whose samples do not mix."""
    full = hessian(lambda z: f(z).sum() + 0 * (z**2).sum(), z)  # f may be constant in z
    return torch.stack([full[b, :, b] for b in range(len(z))])


@every_head
def test_log_prob_hessian_is_that_of_torch(name):
    head = ALL[name]
    z = points(head, B)
    actions = draw(head, z, 1)
    assert close(head.log_prob_hessian(z, actions), by_sample(lambda z: log_prob(head, z, actions), z), 1e-11)


@every_head
def test_entropy_hessian_is_that_of_torch(name):
    head = ALL[name]
    z = points(head, B)
    assert close(head.entropy_hessian(z), by_sample(lambda z: distribution(head, z).entropy(), z), 1e-11)


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_squashed_entropy_hessian_is_that_of_its_quadrature(scale):
    head = DiagonalGaussian(2, scale=scale, squash=True, per_state=True)
    z = points(head, B)
    H = head.entropy_hessian(z)
    assert close(H, by_sample(head.entropy, z), 1e-7)
    assert (H[:, :2, :2].diagonal(dim1=1, dim2=2) < 0).all()  # the mean now matters: entropy falls away from 0


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("name", ["log_prob", "surrogate", "clipped", "spo", "value"])
@pytest.mark.parametrize("head", HEADS)
def test_an_objectives_hessian_is_that_of_its_definition(head, name, entropy):
    case = make_case(head, moved=0.3, count=30)
    objective = {
        "log_prob": LogProb(entropy),
        "surrogate": Surrogate(entropy),
        "clipped": Clipped(0.2, entropy),
        "spo": SPO(0.2, entropy),
        "value": Value(),
    }[name]
    z = outputs(case.module, case.theta, case.samples.inputs).detach()
    expected = by_sample(lambda z: sample_values(case, name, z, 0.2, entropy), z)
    H = objective.hessian(case.head, z, case.samples)
    assert close(H, expected, 1e-10)
    assert close(H, H.mT, 1e-14)
    flat = (Clipped(0.2, 0.0).hessian(case.head, z, case.samples) == 0).all((1, 2)).sum()
    assert 3 <= flat <= 27  # samples on both sides of the clip, or the case shows nothing


@pytest.mark.parametrize("make", [*ACTIVATIONS, nn.GELU, lambda: nn.GELU("tanh"), lambda: nn.LeakyReLU(0.3)])
def test_derivatives_of_activations_are_those_of_autograd(make):
    s = (3 * randn(50)).requires_grad_()
    h, known = make()(s), known_activation(make())
    (first,) = torch.autograd.grad(h.sum(), s, create_graph=True)
    second = torch.zeros_like(s)
    if first.requires_grad:
        (second,) = torch.autograd.grad(first.sum(), s)
    read = (s if known.of_input else h).detach()
    assert close(known.apply_(s.detach().clone()), h.detach(), 1e-14)
    assert close(known.backward_(torch.full_like(s, 2).detach(), read), 2 * first.detach(), 1e-12)
    assert close(known.derivative(read), first.detach(), 1e-12)
    assert close(known.second(read), second, 1e-12)


def bend(module: nn.Module, theta, inputs, u):
    """(P, P) the Hessian in theta of sum u z."""
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.jacrev(torch.func.grad(lambda theta: (u * outputs(module, theta, inputs)).sum()))(theta)


@pytest.mark.parametrize("constants", [0, 2])
@pytest.mark.parametrize("make", {**CHAINS, **OTHERS}.values(), ids={**CHAINS, **OTHERS})
def test_hvp_is_the_outputs_second_derivative_on_both_tapes(make, constants):
    module, network, theta, inputs = setup(make, constants)
    tapes = [AutogradTape(module, network.layout, theta, inputs)]
    if isinstance(tape := network.tape(theta, inputs), MLPTape):
        tapes.append(tape)
    us, vs = randn(2, *tape.outputs.shape, seed=4), randn(2, len(theta), seed=5)
    kept = us.clone(), vs.clone()
    expected = [H @ v for H in (bend(module, theta, inputs, u) for u in us) for v in vs]
    for t in tapes:
        products = [t.hvp(u, v) for u in us for v in vs]
        t.jvp(vs[0]), t.vjp(us[0])  # share the tape's workspace, but no result
        assert all(close(a, b, 1e-11) and not a.requires_grad for a, b in zip(products, expected, strict=True))
    assert torch.equal(us, kept[0]) and torch.equal(vs, kept[1])


@pytest.mark.parametrize("tape", ["mlp", "autograd"])
def test_hvp_is_symmetric_and_0_in_last_bias_and_constants(tape):
    case = make_case("log_sigma", tape)
    u, v, w = randn(17, 4, seed=1), randn(len(case.theta), seed=2), randn(len(case.theta), seed=3)
    Hv, Hw = case.tape.hvp(u, v), case.tape.hvp(u, w)
    assert abs(w @ Hv - v @ Hw) < 1e-12 * abs(w @ Hv)
    assert (Hv[-4:] == 0).all() and Hv[:-4].abs().min() > 0


@pytest.mark.parametrize("tape", ["mlp", "autograd"])
def test_a_single_linear_layer_does_not_bend(tape):
    case = make_case("categorical", tape, hidden=())
    assert (case.tape.hvp(randn(17, 3), randn(len(case.theta))) == 0).all()

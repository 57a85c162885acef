"""Tapes against the dense Jacobian of torch.func: products with it, and the records of layers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rlopt.core.curvature import factored
from rlopt.core.flat import Layout
from rlopt.core.solvers.diagonal import exact_diagonal
from rlopt.core.tapes.autograd import AutogradTape
from rlopt.core.tapes.mlp import MLPTape
from tests.support.modules import CHAINS, OTHERS, B, Scaled, double, setup, tied_weights
from tests.support.oracles import Wrapped, close, mlp, outputs, randn


def jacobian(module: nn.Module, theta: Tensor, inputs: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.jacrev(lambda t: outputs(module, t, inputs))(theta)


def assert_products_are_the_jacobian(tape, J: Tensor):
    us, vs = randn(3, *J.shape[:2], seed=4), randn(3, J.shape[2], seed=5)
    kept = us.clone(), vs.clone()
    products = [(tape.jvp(v), tape.vjp(u)) for u, v in zip(us, vs, strict=True)]  # none may overwrite another
    for u, v, (along, back) in zip(*kept, products, strict=True):
        assert close(along, J @ v, 1e-12)
        assert close(back, torch.einsum("bo,bop->p", u, J), 1e-12)
    assert torch.equal(us, kept[0]) and torch.equal(vs, kept[1])
    assert tape.size == J.shape[2]


def assert_layers_are_the_vjp(tape, layout: Layout, factors: int = 3):
    U = randn(factors, *tape.outputs.shape, seed=6)
    kept = U.clone()
    layers = tape.layers(U)
    tape.layers(2 * U), tape.jvp(randn(layout.size)), tape.vjp(U[0])  # nor may what follows overwrite the records
    assert torch.equal(U, kept)
    covered = [name for layer in layers for name in (layer.weight_name, layer.bias_name) if name]
    assert set(covered) == set(layout.names)
    for k in range(factors):
        g = tape.vjp(U[k])
        for layer in layers:
            by_weight = torch.einsum("blj,bli->ji", layer.signals[k], layer.inputs)
            if layer.bias_name:
                assert close(by_weight[:, -1], g[layout.slices[layer.bias_name]], 1e-12)
                assert (layer.inputs[..., -1] == 1).all()
            if layer.weight is not None:
                by_weight = by_weight[:, : layer.weight.shape[1]]
                assert close(by_weight.reshape(-1), g[layout.slices[layer.weight_name]], 1e-12)
    starts = [layout.slices[layer.weight_name].start for layer in layers]
    assert starts == sorted(starts)


@pytest.mark.parametrize("constants", [0, 2])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_is_taped_by_hand_and_equals_jacrev(chain, constants):
    module, network, theta, inputs = setup(CHAINS[chain], constants)
    tape = network.tape(theta, inputs)
    assert isinstance(tape, MLPTape)
    z = outputs(module, theta, inputs)
    assert z.shape == (B, 2 + constants)
    assert close(tape.outputs, z, 1e-12)
    assert close(network.outputs(theta, inputs), z, 1e-12)
    assert_products_are_the_jacobian(tape, jacobian(module, theta, inputs))
    assert_layers_are_the_vjp(tape, network.layout)


@pytest.mark.parametrize("constants", [0, 2])
@pytest.mark.parametrize("chain", CHAINS)
def test_both_tapes_agree_on_a_chain(chain, constants):
    module, network, theta, inputs = setup(CHAINS[chain], constants)
    by_hand, by_autograd = network.tape(theta, inputs), AutogradTape(module, network.layout, theta, inputs)
    assert close(by_autograd.outputs, by_hand.outputs, 1e-12)
    v, u = randn(by_hand.size, seed=4), randn(*by_hand.outputs.shape, seed=5)
    assert close(by_autograd.jvp(v), by_hand.jvp(v), 1e-12)
    assert close(by_autograd.vjp(u), by_hand.vjp(u), 1e-12)
    records = zip(by_autograd.layers(u[None]), by_hand.layers(u[None]), strict=True)
    for a, b in records:
        assert (a.weight_name, a.bias_name) == (b.weight_name, b.bias_name)
        assert close(a.inputs, b.inputs, 1e-12)
        assert close(a.signals, b.signals, 1e-12)
        assert a.weight is b.weight is None or torch.equal(a.weight, b.weight)


@pytest.mark.parametrize("constants", [0, 2])
@pytest.mark.parametrize("other", OTHERS)
def test_any_other_module_is_taped_by_autograd_and_equals_jacrev(other, constants):
    module, network, theta, inputs = setup(OTHERS[other], constants)
    tape = network.tape(theta, inputs)
    assert isinstance(tape, AutogradTape)
    z = outputs(module, theta, inputs)
    assert close(tape.outputs, z, 1e-12)
    assert close(network.outputs(theta, inputs), z, 1e-12)
    assert_products_are_the_jacobian(tape, jacobian(module, theta, inputs))
    assert_layers_are_the_vjp(tape, network.layout)


def test_tied_weights_have_the_jacobian_of_one_parameter():
    module, network, theta, inputs = setup(tied_weights, 0)
    tape = network.tape(theta, inputs)
    assert close(tape.outputs, outputs(module, theta, inputs), 1e-12)
    assert_products_are_the_jacobian(tape, jacobian(module, theta, inputs))
    assert_layers_are_the_vjp(tape, network.layout)


def test_positions_of_a_sequence_stay_apart():
    _, network, theta, inputs = setup(OTHERS["sequence"], 0)
    token, mix, out = network.tape(theta, inputs).layers(randn(3, B, 2))
    assert token.inputs.shape == (B, 6, 4) and token.signals.shape == (3, B, 6, 4)
    assert mix.inputs.shape == (B, 6, 4) and mix.bias_name is None
    assert out.inputs.shape == (B, 1, 5) and out.signals.shape == (3, B, 1, 2)


@pytest.mark.parametrize("chain", ["tanh", "relu", "elu", "sigmoid", "ends_in_activation"])
def test_a_record_holds_the_activation_derivative(chain):
    module, network, theta, inputs = setup(CHAINS[chain], 0)
    layers = network.tape(theta, inputs).layers(randn(1, B, 2))
    children, h, i = list(module), inputs, 0
    for layer in layers:
        s = children[i](h).detach().requires_grad_()
        i += 1
        if i == len(children):
            assert layer.derivative is None
            break
        h = children[i](s)
        (expected,) = torch.autograd.grad(h.sum(), s)
        assert close(layer.derivative, expected, 1e-12)
        i += 1
    assert i >= len(children)


@pytest.mark.parametrize("make", [CHAINS["tanh"], OTHERS["skip"]])
def test_tapes_return_detached_tensors_and_change_nothing(make):
    module, network, theta, inputs = setup(make, 2)
    kept, parameters = theta.clone(), [p.detach().clone() for p in module.parameters()]
    tape = network.tape(theta * 1.5, inputs)
    returned = [tape.outputs, tape.jvp(theta), tape.vjp(tape.outputs), tape.layers(tape.outputs[None])[0].signals]
    assert not any(x.requires_grad for x in returned)
    assert torch.equal(theta, kept) and not theta.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), parameters, strict=True))


def test_a_large_parameter_of_another_layer_is_refused():
    _, network, theta, inputs = setup(lambda: double(nn.Sequential(Scaled(3, 4097), nn.Linear(3, 2))), 0)
    tape = network.tape(theta, inputs)
    with pytest.raises(ValueError, match=r"at most 4096 numbers; not for 0\.scale of 4097"):
        tape.layers(randn(1, B, 2))
    assert close(tape.jvp(theta), jacobian(network.module, theta, inputs) @ theta, 1e-11)


def test_what_vmap_cannot_do_is_refused_with_its_reason():
    class Branching(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum().item() > 0 else super().forward(-x)

    _, network, theta, inputs = setup(lambda: double(nn.Sequential(Branching(3, 3), nn.Linear(3, 2))), 0)
    with pytest.raises(ValueError, match=r"0\.scale are of no Linear or Conv2d layer, and torch\.func\.vmap cannot"):
        network.tape(theta, inputs).layers(randn(1, B, 2))


def test_a_long_parameter_is_several_layers():
    _, network, theta, inputs = setup(lambda: double(nn.Sequential(Scaled(3, 600), nn.Linear(3, 2))), 0)
    tape = network.tape(theta, inputs)
    names = [layer.weight_name for layer in tape.layers(randn(2, B, 2))]
    assert names == ["0.scale[0:]", "0.scale[512:]", "1.weight"]
    curvature = factored(tape, torch.full((B,), 1 / B).double(), randn(2, B, 2))
    assert close(exact_diagonal(curvature, 3), curvature.dense().diagonal(), 1e-12)


def test_views_of_theta_are_read_anew_when_theta_is_another():
    module, network, theta, inputs = setup(CHAINS["tanh"], 2)
    for scale in (1.0, 2.0, 1.0):
        point = theta * scale
        assert close(network.outputs(point, inputs), outputs(module, point, inputs), 1e-12)
    theta.mul_(3)  # in place, as an optimizer does
    assert close(network.outputs(theta, inputs), outputs(module, theta, inputs), 1e-12)


def test_layout_is_the_modules_parameters_then_the_constants():
    module = Wrapped(mlp((3, 4, 2)))
    layout = Layout.of(module, 2)
    assert layout.names == (*(name for name, _ in module.named_parameters()), "constants")
    assert layout.size == sum(p.numel() for p in module.parameters()) + 2
    constants = randn(2)
    theta = layout.flatten(module, constants)
    views = layout.views(theta)
    for name, p in module.named_parameters():
        assert torch.equal(views[name], p)
        assert torch.equal(theta[layout.slices[name]], p.reshape(-1))
        assert views[name].untyped_storage().data_ptr() == theta.untyped_storage().data_ptr()
    assert torch.equal(views["constants"], constants)


def test_a_parameter_with_the_name_of_head_constants_is_refused():
    module = nn.Linear(3, 2)
    module.register_parameter("constants", nn.Parameter(torch.zeros(2)))
    with pytest.raises(ValueError, match="constants"):
        Layout.of(module)

"""A network's outputs, with and without autograd, in rows and whole, against the module itself."""

import pytest
import torch
from torch import nn

from rlopt.core import network as module
from rlopt.core.network import Network
from rlopt.core.tapes.autograd import AutogradTape
from rlopt.core.tapes.mlp import MLPTape

CHAIN = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
OTHER = nn.Sequential(nn.Linear(3, 4), nn.Hardtanh(), nn.Linear(4, 2)).double()


def inputs(rows: int = 7) -> torch.Tensor:
    return torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("net", "kind"), [(CHAIN, MLPTape), (OTHER, AutogradTape)], ids=["chain", "other"])
@pytest.mark.parametrize("constants", [0, 2])
def test_outputs_are_the_modules_with_the_constants_beside_them(net, kind, constants):
    network, x = Network(net, constants), inputs()
    scale = torch.tensor([0.3, 0.7], dtype=torch.float64)[:constants]
    theta = network.layout.flatten(net, scale)
    expected = torch.cat([net(x), scale.expand(len(x), -1)], 1).detach()
    tape = network.tape(theta, x)
    assert isinstance(tape, kind)
    torch.testing.assert_close(tape.outputs, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(network.outputs(theta, x), expected, rtol=1e-13, atol=0)
    assert not network.outputs(theta, x).requires_grad


def test_many_inputs_are_taken_some_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 4)
    network, x = Network(CHAIN), inputs(10)
    theta = network.layout.flatten(CHAIN)
    torch.testing.assert_close(network.outputs(theta, x), CHAIN(x).detach(), rtol=1e-13, atol=0)


def test_views_are_those_of_the_theta_that_is_asked_for():
    network = Network(CHAIN)
    theta = network.layout.flatten(CHAIN)
    first = network.views(theta)
    assert network.views(theta) is first
    other = network.views(theta + 1)
    assert torch.equal(other["0.bias"], first["0.bias"] + 1)


@pytest.mark.parametrize(("device", "parts"), [("cpu", 3), ("meta", 1)])
def test_rows_are_split_on_the_processor_alone(device, parts, monkeypatch):
    made, tape = [], module.MLPTape
    monkeypatch.setattr(module, "MLPTape", lambda *given: made.append(0) or tape(*given))
    network = Network(CHAIN)
    theta = network.layout.flatten(CHAIN, torch.empty(0, dtype=torch.float64)).to(device)
    assert network.outputs(theta, inputs(2 * module._ROWS + 1).to(device)).shape == (2 * module._ROWS + 1, 2)
    assert len(made) == parts

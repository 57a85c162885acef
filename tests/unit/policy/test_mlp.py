import dataclasses

import pytest
import torch
from gymnasium import spaces
from torch import nn

from rlopt.policy.mlp import ACTIVATIONS, MLP

PLAIN = MLP(hidden=(16, 24), activation="tanh", bias=True, gain=1.5, last_gain=0.01)


def build(mlp: MLP, seed: int = 0, inputs: int = 5, outputs: int = 3) -> nn.Sequential:
    return mlp.build(spaces.Box(-1, 1, (inputs,)), outputs, torch.Generator().manual_seed(seed))


def layers(network: nn.Sequential) -> list[nn.Linear]:
    return [m for m in network if isinstance(m, nn.Linear)]


def gains(layer: nn.Linear) -> torch.Tensor:
    return torch.linalg.svdvals(layer.weight.detach().double())


def test_every_weight_is_orthogonal_with_its_gain_and_biases_0():
    first, second, last = layers(build(PLAIN))
    for layer, gain in ((first, 1.5), (second, 1.5), (last, 0.01)):
        torch.testing.assert_close(
            gains(layer), torch.full((min(layer.weight.shape),), gain).double(), rtol=1e-5, atol=0
        )
        assert layer.bias.tolist() == [0] * len(layer.bias)


def test_layers_have_the_widths_and_activations_asked_for():
    network = build(dataclasses.replace(PLAIN, activation="relu"))
    assert [type(m) for m in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in layers(network)] == [(16, 5), (24, 16), (3, 24)]


def test_without_hidden_layers_it_is_affine_without_bias_linear():
    affine = build(dataclasses.replace(PLAIN, hidden=()))
    linear = build(dataclasses.replace(PLAIN, hidden=(), bias=False))
    assert [type(m) for m in affine] == [type(m) for m in linear] == [nn.Linear]
    assert linear[0].bias is None and affine[0].bias is not None
    torch.testing.assert_close(gains(linear[0]), torch.full((3,), 0.01).double(), rtol=1e-5, atol=0)
    assert linear(torch.zeros(1, 5)).tolist() == [[0, 0, 0]]


def test_weights_depend_on_the_generator_alone():
    state = torch.random.get_rng_state()
    one, again, other = build(PLAIN, 3), build(PLAIN, 3), build(PLAIN, 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b, c in zip(layers(one), layers(again), layers(other), strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.weight, c.weight)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_builds(activation):
    assert build(dataclasses.replace(PLAIN, activation=activation))(torch.ones(2, 5)).shape == (2, 3)


@pytest.mark.parametrize(
    "option, value, wanted",
    [
        ("hidden", (16, 0), "hidden must be a whole number, 1 or above; got 0"),
        ("activation", "tahn", "activation must be one of tanh, relu.*; got 'tahn'"),
        ("gain", 0.0, "gain must be a finite number above 0; got 0.0"),
        ("last_gain", float("nan"), "last_gain must be a finite number above 0; got nan"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(option, value, wanted):
    with pytest.raises(ValueError, match=wanted):
        dataclasses.replace(PLAIN, **{option: value})

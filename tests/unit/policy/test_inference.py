import numpy as np
import pytest
import torch
from torch import nn

from rlopt.core.heads import Bernoulli, Categorical, DiagonalGaussian, MultiCategorical
from rlopt.core.network import Network
from rlopt.policy.inference import BLOCK, FrozenPolicy, numpy_sampler
from rlopt.policy.normalisers import ObservationNormaliser

# the last is no chain that a tape knows
ACTIVATIONS = [nn.Tanh, nn.ReLU, nn.ELU, nn.Sigmoid, nn.SiLU, nn.GELU, nn.Softplus, nn.LeakyReLU, nn.Hardtanh]
NORMALISER = ObservationNormaliser(enabled=True, clip=1.5)
IDENTITY = ObservationNormaliser(enabled=False, clip=1.5)


def network(activation: type[nn.Module], outputs: int, constants: int, width: int = 12, bias: bool = True) -> Network:
    torch.manual_seed(0)
    layers = [nn.Linear(5, width, bias=bias), activation(), nn.Linear(width, width, bias=bias), activation()]
    return Network(nn.Sequential(*layers, nn.Linear(width, outputs, bias=bias)).double(), constants)


def policy(net: Network, head, normalises: bool = True) -> FrozenPolicy:
    theta = net.layout.flatten(net.module, torch.full((net_constants(net),), 0.3, dtype=torch.float64))
    state = {"count": torch.tensor(9.0, dtype=torch.float64), "mean": torch.arange(5.0, dtype=torch.float64),
             "variance": torch.linspace(0.5, 2, 5, dtype=torch.float64)}  # fmt: skip
    return FrozenPolicy(net, head, NORMALISER if normalises else IDENTITY, theta, state)


def net_constants(net: Network) -> int:
    return net.layout.size - sum(p.numel() for p in net.module.parameters())


@pytest.mark.parametrize("rows", [BLOCK, 3 * BLOCK])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_are_the_networks_at_normalised_observations(activation, rows):
    head = DiagonalGaussian(2)
    net = network(activation, 2, 2)
    acting = policy(net, head)
    raw = 3 * torch.randn(rows, 5, dtype=torch.float64)
    shifted = (raw - torch.arange(5.0)) / torch.linspace(0.5, 2, 5, dtype=torch.float64).sqrt()
    expected = torch.cat([net.module(shifted.clamp(-1.5, 1.5)), torch.full((rows, 2), 0.3)], 1)
    out = np.empty((rows, 4))
    acting.write_outputs(raw.numpy(), out)
    np.testing.assert_allclose(out, expected.detach(), rtol=1e-6, atol=1e-8)
    z = acting.outputs(acting.normalise(raw, torch.empty_like(raw)))
    assert np.array_equal(out, z.detach())
    few = acting.outputs(acting.normalise(raw, torch.empty_like(raw))[:3])
    assert np.array_equal(out[:3], few.detach())
    assert (shifted.abs() > 1.5).any()


def test_only_the_policys_outputs_of_a_shared_network():
    net = network(nn.Tanh, 3, 2)
    acting = policy(net, DiagonalGaussian(2), normalises=False)
    x = torch.randn(BLOCK, 5, dtype=torch.float64)
    expected = torch.cat([net.module(x)[:, 1:], torch.full((BLOCK, 2), 0.3)], 1)
    torch.testing.assert_close(acting.outputs(x), expected.detach())


@pytest.mark.parametrize("options", [{"eps": 0.1}, {"bias": False}, {"elementwise_affine": False}])
def test_layers_are_normalised_each_row_by_itself(options):
    torch.manual_seed(0)
    layers = [nn.Linear(5, 12), nn.LayerNorm(12, **options), nn.Tanh(), nn.Linear(12, 2), nn.LayerNorm(2, 0.5)]
    net = Network(nn.Sequential(*layers).double(), 0)
    acting, x = policy(net, Categorical(2), False), torch.randn(BLOCK, 5, dtype=torch.float64)
    theta = acting.theta + torch.randn(len(acting.theta), dtype=torch.float64) / 3
    other = acting.with_parameters(theta, None)
    torch.testing.assert_close(other.outputs(x), net.outputs(theta, x), rtol=1e-12, atol=1e-12)
    assert np.array_equal(other.outputs(x[:3]), other.outputs(x)[:3])


@pytest.mark.parametrize("bias", [True, False])
def test_wide_layers_and_layers_without_bias(bias):
    """A product of 8 x 300 x 300 goes through torch."""
    net = network(nn.Tanh, 2, 0, width=300, bias=bias)
    x = torch.randn(BLOCK, 5, dtype=torch.float64)
    torch.testing.assert_close(policy(net, Categorical(2), False).outputs(x), net.module(x).detach())


def test_a_policy_at_other_parameters_leaves_the_first_as_it_was():
    net = network(nn.Tanh, 2, 0)
    acting, x = policy(net, Categorical(2), False), torch.randn(BLOCK, 5, dtype=torch.float64)
    before = acting.outputs(x)
    shift, scale = torch.ones(5, dtype=torch.float64), torch.full((5,), 0.5, dtype=torch.float64)
    other = acting.with_parameters(acting.theta * 2, (shift, scale))
    out = np.empty((BLOCK, 2))
    other.write_outputs(x.numpy(), out)
    doubled = FrozenPolicy(net, Categorical(2), IDENTITY, acting.theta * 2, {})
    expected = doubled.outputs(((x - 1) / 2).clamp(-1.5, 1.5))
    assert np.array_equal(out, expected)
    assert torch.equal(acting.outputs(x), before)


@pytest.mark.parametrize(
    "head",
    [DiagonalGaussian(3), DiagonalGaussian(3, scale="sigma"), DiagonalGaussian(3, per_state=True), Categorical(4),
     DiagonalGaussian(3, initial_sigma=0.3, per_state=True), DiagonalGaussian(3, "softplus", 0.3, per_state=True),
     MultiCategorical((2, 3)), Bernoulli(3)],
    ids=str,
)  # fmt: skip
def test_what_is_drawn_is_what_the_head_samples(head):
    torch.manual_seed(1)
    z = torch.randn(200, head.network_outputs + head.constants, dtype=torch.float64).abs()
    noise = torch.rand(200, head.noise_size, dtype=torch.float64)
    expected = head.sample(z, noise)
    drawn = numpy_sampler(head)(z.numpy(), noise.numpy())
    assert drawn.dtype == expected.numpy().dtype
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    assert len(np.unique(drawn)) > 1


def test_a_categorical_draw_is_valid_at_the_ends_of_the_noise():
    z = np.array([[0.0, 1.0, -800.0]])
    assert numpy_sampler(Categorical(3))(z, np.array([[np.nextafter(1, 0)]])).item() == 1
    assert numpy_sampler(Categorical(3))(z, np.array([[1.0]])).item() == 2
    assert numpy_sampler(Categorical(3))(z, np.array([[0.0]])).item() == 0

import pytest
import torch
from torch import nn

from rlopt.core.heads import Categorical, DiagonalGaussian, Joint
from rlopt.core.network import Network
from rlopt.policy import device
from rlopt.policy.device import DevicePolicy
from rlopt.policy.inference import FrozenPolicy
from rlopt.policy.normalisers import ObservationNormaliser

HEADS = [Categorical(3), DiagonalGaussian(2)]


def both(head, of_network=None):
    """The policy of the host and that of the device, with the same parameters and normaliser, in float64."""
    of_network = of_network or head
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, of_network.network_outputs)).double()
    network = Network(module, of_network.constants)
    theta = network.layout.flatten(module, of_network.initial_constants().double())
    normaliser = ObservationNormaliser(True, 1.5)
    state = normaliser.merge(normaliser.init(4), 3 * torch.randn(50, 4).double() + 1)
    return [kind(network, head, normaliser, theta, state) for kind in (FrozenPolicy, DevicePolicy)]


@pytest.mark.parametrize("head", HEADS)
def test_it_is_the_policy_of_the_host(head):
    raw = 5 * torch.randn(37, 4).double()
    frozen, on_device = both(head)
    x, y = (policy.normalise(raw, out=torch.empty_like(raw)) for policy in (frozen, on_device))
    assert torch.equal(x, y) and y.abs().max() == 1.5
    torch.testing.assert_close(on_device.outputs(x), frozen.outputs(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("head", HEADS)
def test_it_leaves_out_the_values_of_a_shared_network(head):
    frozen, on_device = both(head, Joint(head, 1.0))
    inputs = torch.randn(9, 4).double()
    assert on_device.outputs(inputs).shape == (9, head.network_outputs + head.constants)
    torch.testing.assert_close(on_device.outputs(inputs), frozen.outputs(inputs), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.float16, torch.int32])
def test_observations_of_every_type_are_normalised(kind):
    _, on_device = both(HEADS[0])
    raw = (torch.randn(9, 4) > 0).to(kind)
    expected = on_device.normalise(raw.double(), out=torch.empty(9, 4).double())
    assert torch.equal(on_device.normalise(raw, out=torch.empty(9, 4).double()), expected)


def test_without_a_normaliser_observations_stay():
    network = Network(nn.Linear(2, 2))
    on_device = DevicePolicy(network, HEADS[0], ObservationNormaliser(False, 1.0), torch.zeros(6), {})
    assert torch.equal(on_device.normalise(torch.ones(3, 2), out=torch.empty(3, 2)), torch.ones(3, 2))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU, nn.Identity])
def test_many_rows_and_activations_give_the_networks_outputs(activation):
    """In slices and with numpy's activations, or as the network has it where numpy has none."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(3, 5, bias=False), activation(), nn.Linear(5, 2)).double()
    head, network = DiagonalGaussian(2), Network(module, 2)
    theta = network.layout.flatten(module, torch.tensor([0.1, -0.3]).double())
    inputs = torch.randn(2 * device._ROWS + 3, 3).double()
    policy = device.DevicePolicy(network, head, ObservationNormaliser(False, 1.0), theta, {})
    assert (policy._layers is None) == (activation in (nn.GELU, nn.Identity))
    torch.testing.assert_close(policy.outputs(inputs), network.outputs(theta, inputs), rtol=1e-13, atol=1e-13)

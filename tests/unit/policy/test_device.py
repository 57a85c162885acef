import pytest
import torch
from torch import nn

from rlopt.core.heads import Categorical, DiagonalGaussian, Joint
from rlopt.core.network import Network
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
    frozen, device = both(head)
    x, y = (policy.normalise(raw, out=torch.empty_like(raw)) for policy in (frozen, device))
    assert torch.equal(x, y) and y.abs().max() == 1.5
    torch.testing.assert_close(device.outputs(x), frozen.outputs(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("head", HEADS)
def test_it_leaves_out_the_values_of_a_shared_network(head):
    frozen, device = both(head, Joint(head, 1.0))
    inputs = torch.randn(9, 4).double()
    assert device.outputs(inputs).shape == (9, head.network_outputs + head.constants)
    torch.testing.assert_close(device.outputs(inputs), frozen.outputs(inputs), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.float16, torch.int32])
def test_observations_of_every_type_are_normalised(kind):
    _, device = both(HEADS[0])
    raw = (torch.randn(9, 4) > 0).to(kind)
    expected = device.normalise(raw.double(), out=torch.empty(9, 4).double())
    assert torch.equal(device.normalise(raw, out=torch.empty(9, 4).double()), expected)


def test_without_a_normaliser_observations_stay():
    network = Network(nn.Linear(2, 2))
    device = DevicePolicy(network, HEADS[0], ObservationNormaliser(False, 1.0), torch.zeros(6), {})
    assert torch.equal(device.normalise(torch.ones(3, 2), out=torch.empty(3, 2)), torch.ones(3, 2))

"""theta as one tensor: where each parameter lies in it, and what its views share with it."""

import pytest
import torch
from torch import nn

from rlopt.core.flat import CONSTANTS, Layout


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1, bias=False))


def test_parameters_follow_one_another_then_the_constants():
    layout = Layout.of(module(), constants=2)
    assert layout.names == ("0.weight", "0.bias", "2.weight", CONSTANTS)
    assert layout.shapes == ((2, 3), (2,), (1, 2), (2,))
    assert layout.sizes == [6, 2, 2, 2] and layout.size == 12


def test_without_constants_there_is_no_entry_for_them():
    assert Layout.of(module()).names == ("0.weight", "0.bias", "2.weight")


def test_flatten_and_views_are_inverse_to_the_bit():
    net, constants = module(), torch.tensor([0.5, -1.0])
    layout = Layout.of(net, 2)
    theta = layout.flatten(net, constants)
    views = layout.views(theta)
    assert theta.shape == (12,) and views.keys() == set(layout.names)
    for name, parameter in net.named_parameters():
        assert torch.equal(views[name], parameter)
    assert torch.equal(views[CONSTANTS], constants)


def test_views_share_theta_and_flatten_shares_nothing():
    net = module()
    layout = Layout.of(net)
    theta = layout.flatten(net)
    layout.views(theta)["0.bias"].fill_(7.0)
    assert (theta[6:8] == 7.0).all() and not (net[0].bias == 7.0).any()


def test_flatten_takes_the_dtype_of_the_parameters():
    net = module().double()
    assert Layout.of(net, 1).flatten(net, torch.ones(1)).dtype == torch.float64


def test_a_parameter_may_not_have_the_name_of_the_constants():
    net = nn.Module()
    net.register_parameter(CONSTANTS, nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match="a parameter's name"):
        Layout.of(net)

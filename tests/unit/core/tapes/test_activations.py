"""Every activation of a chain and its derivatives against autograd."""

from functools import partial

import pytest
import torch
from torch import nn

from rlopt.core.tapes.activations import ACTIVATIONS, known_activation
from tests.support.oracles import close, randn

MODULES = [*ACTIVATIONS, nn.GELU, partial(nn.GELU, approximate="tanh"), partial(nn.LeakyReLU, 0.2)]


@pytest.mark.parametrize("make", MODULES)
def test_values_and_derivatives_are_torchs(make):
    module, s = make(), randn(50).requires_grad_()
    known = known_activation(module)
    h = module(s)
    (first,) = torch.autograd.grad(h.sum(), s, create_graph=True)
    second = torch.autograd.grad(first.sum(), s)[0] if first.requires_grad else torch.zeros(50, dtype=torch.float64)
    given = (s if known.of_input else h).detach()
    assert close(known.apply_(s.detach().clone()), h.detach(), 1e-14)
    assert close(known.derivative(given), first.detach(), 1e-12)
    assert close(known.second(given), second, 1e-12)
    g = randn(50, seed=1)
    assert close(known.backward_(g.clone(), given), g * first.detach(), 1e-12)
    if known.in_numpy:
        assert close(torch.from_numpy(known.in_numpy.apply_(s.detach().numpy().copy())), h.detach(), 1e-14)
        assert close(
            torch.from_numpy(known.in_numpy.backward(g.numpy(), h.detach().numpy())), g * first.detach(), 1e-12
        )


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signals_of_several_outputs_share_an_input(make, dtype):
    """As layers' records have them: g (K, B, J) for an input (B, J)."""
    module, s, g = make(), randn(7, 5).to(dtype), randn(3, 7, 5, seed=1).to(dtype)
    known = known_activation(module)
    given = s if known.of_input else known.apply_(s.clone())
    wanted = torch.stack([known.backward_(each.clone(), given) for each in g])
    assert close(known.backward_(g.clone(), given), wanted, 1e-6 if dtype is torch.float32 else 1e-14)


@pytest.mark.parametrize("module", [nn.Softplus(2), nn.ELU(0.5), nn.Softmax(1), nn.LeakyReLU(-0.1)])
def test_what_is_not_known_has_no_derivatives(module):
    assert known_activation(module) is None

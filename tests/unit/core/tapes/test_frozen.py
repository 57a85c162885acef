"""Frozen parameters stay as they are, and the others get the update of a network that has only them."""

import pytest
import torch
from torch import nn

from rlopt.core.damping.constant import Constant
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.network import Network
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.requirements import Incompatible
from rlopt.core.samples import Samples
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.gram import Gram
from rlopt.core.solvers.kaczmarz import Kaczmarz
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update

B, HEAD = 40, DiagonalGaussian(2)
SOLVERS = {
    "dense": Dense("refuse"),
    "cg": CG(60, 1e-14, None, "cold", 0.0),
    "diagonal": Diagonal("exact", 1, 0, 256),
    "kfac": KFAC("exact", 0.0, 1, 1),
    "gram": Gram(16384, "network"),
    "gram_layer": Gram(16384, "layer"),
    "kaczmarz": Kaczmarz(20, 200, 0),
}


def module(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def step(network: Network, solver, theta: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, a, advantages = (torch.randn(B, *n, generator=generator, dtype=torch.float64) for n in ((3,), (2,), ()))
    z = network.outputs(theta, x)
    samples = Samples(x, a, torch.ones(B, dtype=torch.float64), advantages, z, HEAD.log_prob(z, a))
    update = Update(network, HEAD, Surrogate(0.0), Fisher(None, 0), solver, Constant(0.1), Fixed(0.3), l2=0.01)
    moved, _, report = update(theta, update.init(theta), samples)
    assert report.failure is None
    return moved


@pytest.mark.parametrize("name", SOLVERS)
def test_the_others_move_as_if_alone(name):
    """The same network with its first two layers as a function without parameters."""
    whole = module()
    network = Network(whole, HEAD.constants)
    network.freeze(["0.*", "2.*"])
    theta = network.layout.flatten(whole, HEAD.initial_constants().double())
    moved = step(network, SOLVERS[name], theta)

    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = module()[4]

        def forward(self, x):
            with torch.no_grad():
                h = whole[:4](x)
            return self.last(h)

    alone = Network(Alone(), HEAD.constants)
    count = alone.layout.size
    expected = step(alone, SOLVERS[name], theta[-count:].clone())
    assert torch.equal(moved[:-count], theta[:-count])
    torch.testing.assert_close(moved[-count:], expected, rtol=1e-9, atol=1e-11)
    assert (moved[-count:] - theta[-count:]).abs().max() > 1e-3


def test_products_are_those_of_the_free_columns():
    whole, generator = module(), torch.Generator().manual_seed(2)
    network, full = Network(whole, HEAD.constants), Network(whole, HEAD.constants)
    network.freeze(["2.*", "constants"])
    free = network.free.double()
    assert free.sum() == 3 * 5 + 5 + 4 * 2 + 2
    theta = network.layout.flatten(whole, HEAD.initial_constants().double())
    x, u, v = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((7, 3), (7, 4), (len(theta),)))
    tape, plain = network.tape(theta, x), full.tape(theta, x)
    assert torch.equal(tape.jvp(v), plain.jvp(v * free))
    assert torch.equal(tape.vjp(u), plain.vjp(u) * free)
    assert torch.equal(tape.hvp(u, v), plain.hvp(u, v * free) * free)


def test_half_of_a_layer_and_unknown_names_are_refused():
    network = Network(module(), HEAD.constants)
    for patterns, said in ((["9.*"], "freeze must be of 0.weight"), (["*"], "some parameters left to learn")):
        with pytest.raises(ValueError, match=said):
            network.freeze(patterns)
    network.freeze(["0.weight"])
    tape = network.tape(network.layout.flatten(network.module, torch.zeros(2).double()), torch.ones(2, 3).double())
    with pytest.raises(Incompatible, match="of 0.weight and 0.bias one is frozen"):
        tape.layers(torch.ones(1, 2, 4, dtype=torch.float64))

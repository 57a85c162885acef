"""Small modules in float64: chains that are taped by hand, others that are not, and some that are refused."""

import torch
from torch import Tensor, nn

from rlopt.core.network import Network
from tests.support.oracles import mlp, randn, randomise

B = 7


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3, 2)
        self.first = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + torch.tanh(self.first(x)))


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Linear(3, 4)
        self.mix = nn.Linear(4, 4, bias=False)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.mix(torch.tanh(self.token(x)))).mean(1))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu_(self.first(x)))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(torch.tanh(self.inner(x))))


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def double(module: nn.Module) -> nn.Module:
    module = module.double()
    randomise(module, 3)
    return module


def shared_activation() -> nn.Module:
    f = nn.Tanh()
    return double(nn.Sequential(nn.Linear(3, 5), f, nn.Linear(5, 4), f, nn.Linear(4, 2)))


def tied_weights() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    module[2].weight = module[0].weight
    return double(module)


def leaf_twice() -> nn.Module:
    layer = nn.Linear(3, 3)
    return double(nn.Sequential(layer, nn.Tanh(), layer))


CHAINS = {
    "tanh": lambda: mlp((3, 5, 4, 2), nn.Tanh),
    "relu": lambda: mlp((3, 5, 4, 2), nn.ReLU),
    "elu": lambda: mlp((3, 5, 4, 2), nn.ELU),
    "sigmoid": lambda: mlp((3, 5, 4, 2), nn.Sigmoid),
    "no_bias": lambda: mlp((3, 5, 4, 2), nn.Tanh, bias=False),
    "single_linear": lambda: mlp((3, 2)),
    "bare_linear": lambda: double(nn.Linear(3, 2)),
    "ends_in_activation": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Tanh())),
    "two_linear_in_a_row": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))),
    "relu_in_place": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))),
    "shared_activation": shared_activation,
}
OTHERS = {
    "skip": lambda: double(Skip()),
    "sequence": lambda: double(Sequence()),
    "in_place": lambda: double(InPlace()),
    "nested": lambda: double(nn.Sequential(mlp((3, 4)), nn.Tanh(), nn.Linear(4, 2, dtype=torch.float64))),
    "elu_alpha": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.ELU(alpha=0.5), nn.Linear(4, 2))),
    "gelu": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))),
    "residual_sequential": lambda: double(Residual(nn.Linear(3, 3))),
    "convolution": lambda: double(nn.Sequential(nn.Conv1d(6, 2, 3), nn.Flatten(), nn.Linear(2, 2))),
}


def setup(make, constants: int):
    """Module, network, theta and inputs; a sequence gets 6 positions a sample."""
    module = make()
    network = Network(module, constants)
    theta = network.layout.flatten(module, randn(constants, seed=9))
    inputs = randn(B, 6, 3, seed=1) if isinstance(module, Sequence) else randn(B, 3, seed=1)
    if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv1d):
        inputs = randn(B, 6, 3, seed=1)
    return module, network, theta, inputs

"""Small modules in float64: chains that are taped by hand, others that are not, and some that are refused."""

from functools import partial

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
    """Residual, with a normalisation before and a bare parameter that scales the branch."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(2, 3))
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(torch.nn.functional.gelu(self.first(self.norm(x))))
        return self.last(x + branch * self.scale[0] + self.scale[1])


class Attention(nn.Module):
    """One head over the 6 positions of a sequence, whose places have embeddings."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(6, 3))
        self.query, self.key, self.value = (nn.Linear(3, 4) for _ in range(3))
        self.norm = nn.LayerNorm(4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.places
        mixed = nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.last(self.norm(mixed).mean(1))


class MultiHead(nn.Module):
    """torch's own attention, whose projections are no layers of their own."""

    def __init__(self):
        super().__init__()
        self.mix = nn.MultiheadAttention(3, 1, batch_first=True)
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.mix(x, x, x, need_weights=False)[0].mean(1))


class Scaled(nn.Module):
    """Inputs times the first numbers of a parameter of ``size``, plus the mean of all of them squared."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[: x.shape[1]] + self.scale.square().mean()


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


def normed(activation: type[nn.Module], **options: bool) -> nn.Module:
    """Two hidden layers, each normalised before its activation; nothing is near its initial 1 or 0."""
    layers = [nn.Linear(3, 5), nn.LayerNorm(5, 0.1, **options), activation()]
    layers += [nn.Linear(5, 4), nn.LayerNorm(4, **options), activation(), nn.Linear(4, 2)]
    return double(nn.Sequential(*layers))


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
    "gelu": lambda: mlp((3, 5, 4, 2), nn.GELU),
    "gelu_tanh": lambda: mlp((3, 5, 4, 2), partial(nn.GELU, approximate="tanh")),
    "silu": lambda: mlp((3, 5, 4, 2), nn.SiLU),
    "softplus": lambda: mlp((3, 5, 4, 2), nn.Softplus),
    "leaky_relu": lambda: mlp((3, 5, 4, 2), partial(nn.LeakyReLU, 0.2)),
    "normed": lambda: normed(nn.Tanh),
    "normed_silu": lambda: normed(nn.SiLU),
    "normed_without_bias": lambda: normed(nn.ReLU, bias=False),
    "normed_without_weights": lambda: normed(nn.Tanh, elementwise_affine=False),
    "ends_in_norm": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False), nn.LayerNorm(2, 0.3))),
}
OTHERS = {
    "skip": lambda: double(Skip()),
    "sequence": lambda: double(Sequence()),
    "in_place": lambda: double(InPlace()),
    "nested": lambda: double(nn.Sequential(mlp((3, 4)), nn.Tanh(), nn.Linear(4, 2, dtype=torch.float64))),
    "elu_alpha": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.ELU(alpha=0.5), nn.Linear(4, 2))),
    "softplus_beta": lambda: double(nn.Sequential(nn.Linear(3, 4), nn.Softplus(2), nn.Linear(4, 2))),
    "residual_sequential": lambda: double(Residual(nn.Linear(3, 3))),
    "normed": lambda: double(Normed()),
    "attention": lambda: double(Attention()),
    "twice": lambda: double(Twice()),
    "leaf_twice": leaf_twice,
    "multi_head": lambda: double(MultiHead()),
    "convolution": lambda: double(nn.Sequential(nn.Conv1d(6, 2, 3), nn.Flatten(), nn.Linear(2, 2))),
}


def setup(make, constants: int):
    """Module, network, theta and inputs; a sequence gets 6 positions a sample."""
    module = make()
    network = Network(module, constants)
    theta = network.layout.flatten(module, randn(constants, seed=9))
    of_sequences = isinstance(module, Sequence | Attention | MultiHead)
    inputs = randn(B, 6, 3, seed=1) if of_sequences else randn(B, 3, seed=1)
    if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv1d):
        inputs = randn(B, 6, 3, seed=1)
    return module, network, theta, inputs

"""Kronecker factors of convolutions: against loops over places, and against curvlinops."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.envs.observations import as_image
from rlopt.policy.nature_cnn import NatureCNN
from tests.support import oracles
from tests.support.factors import (
    EKFAC_NOW,
    EXACT,
    FACTORED,
    LAMBDA,
    bind,
    blocks_of,
    inverse,
    matrix,
    output_curvature,
    spots,
)
from tests.support.oracles import Case, close, eye, fisher, make_case, randn, randomise, seeded, share

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_bias": {"bias": False},
    "stride": {"stride": 2},
    "padding": {"padding": 1},
    "dilation": {"dilation": (1, 2), "padding": (0, 1)},
    "same": {"padding": "same", "kernel_size": 2},
    "circular": {"padding": 1, "padding_mode": "circular"},
}


def convolutional(options: dict[str, Any], count: int = 6, head: heads.Head | None = None) -> Case:
    head = head or heads.Categorical(3)
    arguments = {"kernel_size": (2, 3), **options}
    first = nn.Conv2d(2, 3, dtype=torch.float64, **arguments)
    size = first(torch.zeros(1, 2, 5, 6, dtype=torch.float64)).numel()
    module = nn.Sequential(first, nn.Tanh(), nn.Flatten(), nn.Linear(size, head.network_outputs, dtype=torch.float64))
    randomise(module, 1)
    network = Network(module, head.constants)
    theta = network.layout.flatten(module, 0.3 * randn(head.constants))
    inputs = randn(count, 2, 5, 6, seed=2)
    samples = Samples(inputs=inputs, actions=torch.zeros(count), weight=oracles.make_weights("masked", count, 3))
    return Case(module, network, head, theta, samples)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolutions_record_is_its_gradient_as_weights(options):
    case = convolutional(options)
    tape, J, layer = case.tape, oracles.jacobian(case), spots(case)[0]
    U = randn(2, *tape.outputs.shape, seed=4)
    record = tape.layers(U)[0]
    assert record.inputs.shape[2] == layer.index.shape[1] and record.weight.shape[0] == layer.index.shape[0]
    by_record = torch.einsum("kblj,bli->kbji", record.signals, record.inputs)
    assert close(by_record, torch.einsum("kbo,bop->kbp", U, J)[:, :, layer.index], 1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_kfac_of_a_convolution_is_the_expand_convention(options):
    case = convolutional(options)
    conv, w = case.module[0], share(case.samples)
    (block,) = blocks_of(case, matrix(EXACT, bind(case)))[:1]
    s = conv(case.samples.inputs).detach().requires_grad_()
    C = output_curvature(case)
    dz = torch.autograd.functional.jacobian(lambda s: case.module[1:](s).sum(0), s).movedim(1, 0)  # (B, O, J, H, W)
    dz = dz.flatten(3)
    G = torch.einsum("b,bojl,bop,bpkl->jk", w, dz, C, dz).contiguous()
    a = patches(conv, case.samples.inputs)
    A = torch.einsum("b,bli,blj->ij", w, a, a).contiguous() / a.shape[1]
    assert close(block, torch.kron(G, A), 1e-10)


def patches(conv: nn.Conv2d, inputs: Tensor) -> Tensor:
    """(B, L, I) what each weight of ``conv`` is multiplied by at every position, found by its derivative."""
    probe = nn.Conv2d(
        conv.in_channels, 1, conv.kernel_size, conv.stride, conv.padding, conv.dilation, 1, conv.bias is not None,
        conv.padding_mode, dtype=torch.float64,
    )  # fmt: skip
    names, values = zip(*probe.named_parameters(), strict=True)

    def output(*values: Tensor) -> Tensor:
        return torch.func.functional_call(probe, dict(zip(names, values, strict=True)), (inputs,)).flatten(1)

    found = torch.autograd.functional.jacobian(output, values)
    return torch.cat([part.flatten(2) for part in found], 2)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "bias": False}])
def test_ekfac_of_a_convolution_squares_whole_gradients(options):
    case = convolutional(options)
    A, G = (kron_factor(case, side) for side in ("A", "G"))
    Q = torch.kron(torch.linalg.eigh(G)[1], torch.linalg.eigh(A)[1])
    F = blocks_of(case, fisher(case))[0]
    expected = Q @ (Q.T @ F @ Q).diagonal().diag() @ Q.T
    assert close(blocks_of(case, matrix(EKFAC_NOW, bind(case)))[0], expected, 1e-9)


def kron_factor(case: Case, side: str) -> Tensor:
    return EXACT.prepare(EXACT.init(), bind(case), LAMBDA)[1]["factors"]["0.weight"][side]


class Folded(nn.Module):
    """Its first layer has two rows a sample."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(x.reshape(-1, 3)).reshape(len(x), -1))


@pytest.mark.parametrize(
    ("make", "shape", "names"),
    [
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 2, groups=2), nn.Flatten(), nn.Linear(40, 3)), (2, 5, 6), ("0", "2")),
        (Folded, (2, 3), ("inner", "out")),
    ],
    ids=["grouped", "folded"],
)
def test_other_layers_have_each_samples_own_gradient(make, shape, names):
    module = make().double()
    network = Network(module)
    tape = network.tape(network.layout.flatten(module), randn(5, *shape))
    u = randn(*tape.outputs.shape)
    weight, bias, last = tape.layers(u[None])
    assert [weight.weight_name, bias.weight_name, last.weight_name] == [
        f"{names[0]}.weight", f"{names[0]}.bias", f"{names[1]}.weight",
    ]  # fmt: skip
    for b in range(5):  # of sample b alone
        g = tape.vjp(u * (torch.arange(5) == b)[:, None])
        own = torch.cat([weight.signals[0, b].flatten(), bias.signals[0, b].flatten()])
        assert close(own, g[: len(own)], 1e-12)


def of_pixels() -> Case:
    """Convolutions with the kernels and strides of Mnih et al. (2015) and fewer channels, on 36 x 36 bytes."""
    cnn = NatureCNN((2, 2, 3), (8, 4, 3), (4, 2, 1), (4,), "relu", 1.4, 1.0)
    module = cnn.build(as_image(spaces.Box(0, 255, (36, 36), np.uint8), "auto"), 3, seeded(1)).double()
    randomise(module, 1)
    network = Network(module)
    inputs = torch.randint(0, 256, (5, 36 * 36), generator=seeded(2), dtype=torch.uint8)
    samples = Samples(inputs=inputs, actions=torch.zeros(5), weight=torch.ones(5, dtype=torch.float64))
    return Case(module, network, heads.Categorical(3), network.layout.flatten(module), samples)


def evenly(case: Case) -> Case:
    return replace(case, samples=replace(case.samples, weight=torch.ones_like(case.samples.weight)))


LIKE_CURVLINOPS = {
    "linear": lambda: make_case("categorical", weights="uniform"),
    "padding": lambda: evenly(convolutional({"padding": 1})),
    "stride": lambda: evenly(convolutional({"stride": (2, 1)})),
    "dilation": lambda: evenly(convolutional({"dilation": (1, 2), "padding": (0, 1)})),
    "nature_cnn": of_pixels,
}


@pytest.mark.parametrize("make", LIKE_CURVLINOPS.values(), ids=LIKE_CURVLINOPS)
def test_kfac_and_its_damped_inverse_equal_curvlinops_type_2(make):
    curvlinops = pytest.importorskip("curvlinops")
    case = make()
    targets = torch.zeros(len(case.samples), dtype=torch.long)
    other = curvlinops.KFACLinearOperator(
        case.module, nn.CrossEntropyLoss(), list(case.module.parameters()), [(case.samples.inputs, targets)],
        fisher_type="type-2", kfac_approx="expand", separate_weight_and_bias=False, check_deterministic=False,
    )  # fmt: skip
    size = len(case.theta)
    with torch.enable_grad():
        assert close(matrix(EXACT, bind(case)), other @ eye(size), 1e-10)
        for solver, option in ((EXACT, "use_exact_damping"), (FACTORED, "use_heuristic_damping")):
            damped = curvlinops.KFACInverseLinearOperator(other, damping=LAMBDA, **{option: True})
            assert close(inverse(solver, bind(case)), damped @ eye(size), 1e-9)

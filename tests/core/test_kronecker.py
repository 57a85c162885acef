"""K-FAC, E-KFAC and KFRA against dense matrices made from torch.func's Jacobian and explicit loops."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.autograd_tape import AutogradTape
from rlopt.core.failure import NumericalFailure
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.core.solvers import kronecker
from rlopt.core.solvers.ekfac import EKFAC
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.kfra import KFRA
from rlopt.policy.nature_cnn import Image, NatureCNN
from tests import oracles
from tests.oracles import (
    HEADS,
    TAPES,
    WEIGHTS,
    Case,
    bits,
    close,
    eye,
    fisher,
    make_case,
    mlp,
    randn,
    randomise,
    seeded,
    share,
)  # fmt: skip

LAMBDA = 1e-2
EXACT, FACTORED = KFAC("exact", 0.0, 1, 1), KFAC("factored", 0.0, 1, 1)
EKFAC_NOW, KFRA_NOW = EKFAC(0.0, 0.0, 1), KFRA("exact", 0.0, 1)
ALL = {"kfac": EXACT, "factored": FACTORED, "ekfac": EKFAC_NOW, "kfra": KFRA_NOW}
every_solver = pytest.mark.parametrize("solver", ALL.values(), ids=ALL)
every_head = pytest.mark.parametrize("head", HEADS)


def bind(case: Case, tape: Any = None) -> Any:
    return Fisher(None, 0).bind({}, tape or case.tape, case.head, case.samples, None)[0]


def solve(solver: Any, curvature: Any, g: Tensor, damping: float = LAMBDA) -> Any:
    return solver.prepare(solver.init(), curvature, damping)[0](g)


def inverse(solver: Any, curvature: Any, damping: float = LAMBDA) -> Tensor:
    """(P, P) what the solver multiplies g by, one column at a time."""
    apply, _ = solver.prepare(solver.init(), curvature, damping)
    return torch.stack([apply(e).x for e in eye(curvature.size)], 1)


def matrix(solver: Any, curvature: Any) -> Tensor:
    """(P, P) the solver's own M."""
    return torch.linalg.inv(inverse(solver, curvature)) - LAMBDA * eye(curvature.size)


@dataclass(frozen=True)
class Spot:
    """One layer, by the names of its parameters: where they lie in theta, and how they make up a matrix (J, I)."""

    index: Tensor  # (J, I) places in theta, the bias in the last column
    constant: bool


def spots(case: Case) -> list[Spot]:
    order, found, place = torch.arange(len(case.theta)), [], 0
    pending: Tensor | None = None
    for name, p in case.module.named_parameters():
        here = order[place : place + p.numel()].reshape(p.shape)
        place += p.numel()
        if name.endswith("weight"):
            if pending is not None:
                found.append(Spot(pending, False))
            pending = here.flatten(1)
        else:
            assert pending is not None
            found.append(Spot(torch.cat([pending, here[:, None]], 1), False))
            pending = None
    if pending is not None:
        found.append(Spot(pending, False))
    if case.head.constants:
        found.append(Spot(order[place:, None], True))
    return found


def output_curvature(case: Case) -> Tensor:
    return oracles.output_fisher(case.head, oracles.outputs(case.module, case.theta, case.samples.inputs))


def layer_inputs(case: Case) -> list[Tensor]:
    """(B, I) of every Linear of a Sequential, with the bias's one, then the constants' one."""
    h, found = case.samples.inputs, []
    for child in case.module:
        if isinstance(child, nn.Linear):
            found.append(torch.cat([h, torch.ones(len(h), 1, dtype=h.dtype)], 1))
        h = child(h).detach()
    return [*found, torch.ones(len(h), 1, dtype=h.dtype)]


def signal_matrices(case: Case) -> list[Tensor]:
    """(B, J, J) of every layer: (dz/ds)^T C (dz/ds), s what the layer puts out; dz/ds is dz/d bias."""
    J, C = oracles.jacobian(case), output_curvature(case)
    return [
        torch.einsum("boi,bop,bpj->bij", J[:, :, spot.index[:, -1]], C, J[:, :, spot.index[:, -1]])
        for spot in spots(case)
    ]


def dense_factors(case: Case) -> list[tuple[Tensor, Tensor]]:
    w = share(case.samples)
    pairs = zip(layer_inputs(case), signal_matrices(case), strict=False)
    return [(torch.einsum("b,bi,bj->ij", w, a, a), torch.einsum("b,bij->ij", w, S)) for a, S in pairs]


def assembled(case: Case, blocks: list[Tensor]) -> Tensor:
    """(P, P) from each layer's block in the order of its matrix (J, I) read row by row."""
    M = torch.zeros(len(case.theta), len(case.theta), dtype=torch.float64)
    for spot, block in zip(spots(case), blocks, strict=True):
        place = spot.index.flatten()
        M[place[:, None], place] = block
    return M


def dense_kfac(case: Case) -> Tensor:
    return assembled(case, [torch.kron(G, A) for A, G in dense_factors(case)])


def dense_factored_inverse(case: Case, lam: float) -> Tensor:
    blocks = []
    for A, G in dense_factors(case):
        a, g = A.trace() / len(A), G.trace() / len(G)
        pi = math.sqrt(a / g) if a > 0 and g > 0 else 1.0
        damped_A, damped_G = A + pi * math.sqrt(lam) * eye(len(A)), G + math.sqrt(lam) / pi * eye(len(G))
        blocks.append(torch.linalg.inv(torch.kron(damped_G, damped_A)))
    return assembled(case, blocks)


def blocks_of(case: Case, M: Tensor) -> list[Tensor]:
    places = [spot.index.flatten() for spot in spots(case)]
    return [M[place[:, None], place] for place in places]


def dense_ekfac(case: Case) -> Tensor:
    """Q diag(Q^T F Q) Q^T of every layer's exact block, Q the eigenbasis of the dense factors."""
    blocks = []
    for (A, G), F in zip(dense_factors(case), blocks_of(case, fisher(case)), strict=True):
        Q = torch.kron(torch.linalg.eigh(G)[1], torch.linalg.eigh(A)[1])
        blocks.append(Q @ (Q.T @ F @ Q).diagonal().diag() @ Q.T)
    return assembled(case, blocks)


def dense_kfra(case: Case) -> Tensor:
    """Botev et al.'s recursion with explicit loops over units; f' by autograd, C by the head's own KL."""
    w, C, children = share(case.samples), output_curvature(case), list(case.module)
    C = torch.einsum("b,bij->ij", w, C)
    width = children[-1].weight.shape[0]
    G, found, h, slopes = C[:width, :width], [], case.samples.inputs, {}
    for i, child in enumerate(children):
        s = h.detach().requires_grad_()
        h = child(s)
        if not isinstance(child, nn.Linear):
            (slopes[i],) = torch.autograd.grad(h.sum(), s)
    for i in reversed(range(len(children))):
        child = children[i]
        if isinstance(child, nn.Linear):
            found.append(G)
            W = child.weight.detach()
            back = torch.zeros(W.shape[1], W.shape[1], dtype=torch.float64)
            for p in range(W.shape[1]):
                for q in range(W.shape[1]):
                    back[p, q] = sum(W[j, p] * G[j, k] * W[k, q] for j in range(len(W)) for k in range(len(W)))
            G = back
        else:
            f = slopes[i]
            G = G.clone()
            for p in range(len(G)):
                for q in range(len(G)):
                    G[p, q] *= sum(w[b] * f[b, p] * f[b, q] for b in range(len(w)))
    Gs = found[::-1] + ([C[width:, width:]] if case.head.constants else [])
    return assembled(case, [torch.kron(G, A) for (A, _), G in zip(dense_factors(case), Gs, strict=True)])


# --- each solver's matrix is its definition


@pytest.mark.parametrize("weights", WEIGHTS)
@every_head
def test_kfac_is_the_kronecker_product_of_its_dense_factors(head, weights):
    case = make_case(head, weights=weights, count=9)
    assert close(matrix(EXACT, bind(case)), dense_kfac(case), 1e-10)
    assert close(inverse(FACTORED, bind(case)), dense_factored_inverse(case, LAMBDA), 1e-10)


@pytest.mark.parametrize("weights", WEIGHTS)
@every_head
def test_ekfac_is_the_diagonal_of_every_block_in_kfacs_basis_and_nearer_to_it_than_kfac(head, weights):
    case = make_case(head, weights=weights, count=60)
    found = matrix(EKFAC_NOW, bind(case))
    assert close(found, dense_ekfac(case), 1e-9)
    exact = assembled(case, blocks_of(case, fisher(case)))
    assert (found - exact).norm() <= (dense_kfac(case) - exact).norm() * (1 + 1e-12)
    assert (found - dense_kfac(case)).norm() > 1e-6 * exact.norm()  # or nothing was compared


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid])
@every_head
def test_kfra_is_the_recursion_written_out_in_loops(head, activation):
    case = make_case(head, weights="masked", count=9, activation=activation)
    assert close(matrix(KFRA_NOW, bind(case)), dense_kfra(case), 1e-10)


@every_solver
@pytest.mark.parametrize("head", ["categorical", "sigma"])
def test_both_tapes_give_the_same_statistics(head, solver):
    case = make_case(head, weights="masked")
    by_autograd = AutogradTape(case.module, case.network.layout, case.theta, case.samples.inputs)
    g = randn(len(case.theta))
    if solver is KFRA_NOW:
        with pytest.raises(ValueError, match=r"activation derivatives.*solver=kfac or solver=ekfac"):
            solve(solver, bind(case, by_autograd), g)
        return
    a, b = solve(solver, bind(case, by_autograd), g), solve(solver, bind(case), g)
    assert close(a.x, b.x, 1e-10) and close(a.quadratic, b.quadratic, 1e-10)


@every_solver
@pytest.mark.parametrize("tape", TAPES)
def test_a_solution_reports_its_own_matrix(solver, tape):
    case = make_case("log_sigma", tape if solver is not KFRA_NOW else "mlp", "masked")
    M, g = (
        matrix(replace(solver, **({"damping": "exact"} if solver is FACTORED else {})), bind(case)),
        randn(len(case.theta), seed=3),
    )
    solution = solve(solver, bind(case), g)
    assert float(solution.quadratic) == pytest.approx(float(solution.x @ M @ solution.x), rel=1e-8)
    assert solution.damping == LAMBDA and solution.iterations == 0
    assert solution.residual < 1e-12
    if solver is not FACTORED:
        assert float((g - M @ solution.x - LAMBDA * solution.x).norm() / g.norm()) < 1e-9
    zero = solve(solver, bind(case), torch.zeros_like(g))
    assert (zero.x == 0).all() and zero.residual == 0 and zero.quadratic == 0


@every_solver
@every_head
def test_every_direction_points_uphill(head, solver):
    for seed in range(3):
        case = make_case(head, weights="masked", seed=seed)
        g = randn(len(case.theta), seed=seed)
        assert torch.dot(g, solve(solver, bind(case), g).x) > 0


# --- where the approximation is exact


@every_head
@pytest.mark.parametrize("solver", [EXACT, EKFAC_NOW, KFRA_NOW])
def test_one_linear_layer_and_one_sample_are_exact(head, solver):
    case = make_case(head, count=1, hidden=())
    assert close(matrix(solver, bind(case)), assembled(case, blocks_of(case, fisher(case))), 1e-10)


@pytest.mark.parametrize("solver", [EXACT, KFRA_NOW])
@pytest.mark.parametrize("head", ["log_sigma", "sigma", "value"])
def test_one_linear_layer_with_constant_output_curvature_is_the_whole_fisher_matrix(head, solver):
    case = make_case(head, weights="masked", hidden=())
    assert close(matrix(solver, bind(case)), fisher(case), 1e-10)
    g = randn(len(case.theta))
    truth = torch.linalg.solve(fisher(case) + LAMBDA * eye(len(g)), g)
    assert close(solve(solver, bind(case), g).x, truth, 1e-9)


@pytest.mark.parametrize("solver", [EXACT, KFRA_NOW])
@pytest.mark.parametrize("head", ["log_sigma", "value"])
def test_every_layers_block_of_a_deep_linear_net_with_constant_output_curvature_is_exact(head, solver):
    head = HEADS[head]
    module = mlp((3, 4, 5, head.network_outputs))
    module = nn.Sequential(*[child for child in module if isinstance(child, nn.Linear)])
    network = Network(module, head.constants)
    theta = network.layout.flatten(module, 0.3 * randn(head.constants))
    base = make_case(head, weights="masked")
    case = replace(base, module=module, network=network, theta=theta)
    assert close(matrix(solver, bind(case)), assembled(case, blocks_of(case, fisher(case))), 1e-10)


# --- convolutions


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
def test_a_convolutions_record_is_its_gradient_in_the_weights_layout(options):
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


def test_a_grouped_convolution_is_refused_by_name():
    module = nn.Sequential(nn.Conv2d(2, 2, 2, groups=2), nn.Flatten(), nn.Linear(40, 3)).double()
    network = Network(module)
    tape = network.tape(network.layout.flatten(module), randn(2, 2, 5, 6))
    with pytest.raises(ValueError, match=r"Linear layers and for Conv2d with groups=1 only; 0\.weight, 0\.bias belong"):
        tape.layers(randn(1, 2, 3))


def test_a_layer_that_is_given_other_rows_than_samples_is_refused_by_name():
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = nn.Linear(3, 4), nn.Linear(8, 2)

        def forward(self, x):
            return self.out(self.inner(x.reshape(-1, 3)).reshape(len(x), -1))

    module = Folded().double()
    network = Network(module)
    tape = network.tape(network.layout.flatten(module), randn(5, 2, 3))
    with pytest.raises(ValueError, match=r"inner\.weight is given 10 rows"):
        tape.layers(randn(1, 5, 2))


# --- curvlinops


def of_pixels() -> Case:
    """Convolutions with the kernels and strides of Mnih et al. (2015) and fewer channels, on 36 x 36 bytes."""
    cnn = NatureCNN((2, 2, 3), (8, 4, 3), (4, 2, 1), (4,), "relu", 1.4, 1.0)
    module = cnn.build(Image.of((36, 36)), 3, seeded(1)).double()
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
def test_kfac_equals_curvlinops_type_2_with_joint_bias_and_its_damped_inverse(make):
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


# --- state


def drifting(count: int) -> list[Case]:
    case = make_case("categorical", weights="masked")
    return [replace(case, theta=case.theta + 0.2 * i * randn(len(case.theta), seed=i)) for i in range(count)]


def moved(case: Case) -> Case:
    """The same case with theta written into a module of its own, which the dense factors read."""
    module = mlp((3, 5, 4, case.head.network_outputs))
    place = 0
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(case.theta[place : place + p.numel()].reshape(p.shape))
            place += p.numel()
    return replace(case, module=module)


@pytest.mark.parametrize("make", [lambda d: KFAC("exact", d, 1, 1), lambda d: EKFAC(d, 0.0, 1)], ids=["kfac", "ekfac"])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95])
def test_factors_are_weighted_means_that_count_the_first_batch_in_full(make, decay):
    solver, cases = make(decay), [moved(case) for case in drifting(4)]
    state, seen = solver.init(), []
    for n, case in enumerate(cases):
        before = bits(state)
        _, new = solver.prepare(state, bind(case), LAMBDA)
        assert bits(state) == before
        state = new
        seen.append(dense_factors(case))
        weights = [decay ** (n - i) for i in range(n + 1)]
        for layer, factor in enumerate(state["factors"].values()):
            for side, name in enumerate("AG"):
                mean = sum(w * past[layer][side] for w, past in zip(weights, seen, strict=True)) / sum(weights)
                assert close(factor[name], mean, 1e-12)


def test_eigenbases_are_renewed_at_every_refresh_and_kept_in_the_state():
    solver, state, kept = KFAC("exact", 0.5, 3, 1), None, []
    for case in drifting(7):
        _, state = solver.prepare(solver.init() if state is None else state, bind(case), LAMBDA)
        kept.append(bits(state["basis"]))
    assert kept[0] == kept[1] == kept[2] != kept[3] == kept[4] == kept[5] != kept[6]


def test_a_kept_basis_solves_with_the_factors_it_was_made_of():
    first, second = drifting(2)
    solver = KFAC("exact", 0.0, 2, 1)
    _, state = solver.prepare(solver.init(), bind(first), LAMBDA)
    apply, _ = solver.prepare(state, bind(second), LAMBDA)
    g = randn(len(first.theta))
    assert close(apply(g).x, solve(EXACT, bind(first), g).x, 1e-12)


@every_head
@pytest.mark.parametrize("lam", [1e-4, 1.0])
def test_factored_damping_by_inverses_is_that_by_eigenvalues(head, lam):
    case, g = make_case(head, weights="masked"), randn(len(make_case(head).theta), seed=9)
    a, b = (solve(solver, bind(case), g, lam) for solver in (FACTORED, KFAC("factored", 0.0, 2, 1)))
    assert close(a.x, b.x, 1e-10) and close(a.quadratic, b.quadratic, 1e-10) and a.damping == b.damping == lam
    assert a.residual < 1e-11


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("damping", ["exact", "factored"])
def test_between_measurements_the_factors_stand_and_lambda_does_not(damping, tape):
    cases, g = drifting(4), randn(len(drifting(1)[0].theta))
    solver, every = KFAC(damping, 0.5, 1, 3), KFAC(damping, 0.5, 1, 1)
    state, first = solver.init(), every.init()
    _, first = every.prepare(first, bind(cases[0]), LAMBDA)
    for case, lam in zip(cases[:3], (LAMBDA, LAMBDA, 0.5), strict=True):
        before = bits(state)
        apply, new = solver.prepare(state, bind(case, plain(case) if tape == "autograd" else None), lam)
        assert bits(state) == before
        state = new
        assert bits(state["factors"]) == bits(first["factors"]) or tape == "autograd"
        assert close(apply(g).x, solve(every, bind(cases[0]), g, lam).x, 1e-12)
        assert apply(g).damping == lam
    _, state = solver.prepare(state, bind(cases[3]), LAMBDA)
    _, both = every.prepare(first, bind(cases[3]), LAMBDA)
    assert close(state["factors"]["0.weight"]["A"], both["factors"]["0.weight"]["A"], 1e-12)  # the first and the fourth


def plain(case: Case) -> AutogradTape:
    return AutogradTape(case.module, case.network.layout, case.theta, case.samples.inputs)


def test_places_are_found_from_the_factors_of_layers_with_and_without_bias_and_of_constants():
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2))
    head = heads.DiagonalGaussian(2)
    network = Network(module, head.constants)
    base = make_case("log_sigma")
    theta = network.layout.flatten(module.double(), head.initial_constants().double())
    case = replace(base, module=module, network=network, head=head, theta=theta)
    places, values = kronecker.statistics(bind(case), kronecker.factors)
    state = kronecker.average(kronecker.init(), places, values, 0.0)
    assert kronecker.places(network.layout, state["factors"]) == places


def test_ekfacs_eigenvalues_are_measured_at_every_call_and_averaged_while_a_basis_lasts():
    solver, cases, g = EKFAC(0.0, 0.5, 3), drifting(4), randn(len(drifting(1)[0].theta))
    state, plain, scales = solver.init(), EKFAC(0.0, 0.0, 10), []
    plain_state = plain.init()
    for case in cases:
        _, state = solver.prepare(state, bind(case), LAMBDA)
        _, plain_state = plain.prepare(plain_state, bind(case), LAMBDA)
        scales.append((state["scales"], plain_state["scales"]))
    for name in scales[0][0]:
        now = [both[1][name] for both in scales]
        assert torch.equal(scales[0][0][name], now[0])
        assert close(scales[1][0][name], (now[1] + 0.5 * now[0]) / 1.5, 1e-12)
        assert close(scales[2][0][name], (now[2] + 0.5 * now[1] + 0.25 * now[0]) / 1.75, 1e-12)
        assert not close(now[0], now[1], 1e-3)
    _, fresh = solver.prepare(solver.init(), bind(cases[3]), LAMBDA)
    assert bits(state["scales"]) == bits(fresh["scales"])  # the fourth call began a new basis
    assert solve(solver, bind(cases[0]), g).x.isfinite().all()


def test_kfra_averages_and_refreshes_as_kfac_does():
    first, second = drifting(2)
    solver = KFRA("factored", 0.5, 1)
    _, state = solver.prepare(solver.init(), bind(first), LAMBDA)
    _, both = solver.prepare(state, bind(second), LAMBDA)
    _, alone = solver.prepare(solver.init(), bind(second), LAMBDA)
    for name, factor in both["factors"].items():
        for side in "AG":
            old, new = state["factors"][name][side], alone["factors"][name][side]
            assert close(factor[side], (new + 0.5 * old) / 1.5, 1e-12)


# --- faults


def dead(case: Case) -> Case:
    """The case with no way from its first layer to the outputs: that layer's G is zero."""
    theta = case.theta.clone()
    theta[case.network.layout.places["2.weight"]] = 0
    return replace(case, theta=theta)


@every_solver
@pytest.mark.parametrize("lam", [0.0, 1e-6, 0.1])
def test_a_dead_layer_leaves_every_number_finite(solver, lam):
    case = dead(make_case("categorical"))
    curvature, g = bind(case), oracles.gradient(case, "surrogate")
    solution = solve(solver, curvature, g, lam)
    assert solution.x.isfinite().all() and float(solution.residual) < 1e-3
    assert (solution.x[case.network.layout.places["0.weight"]] == 0).all()
    solution = solve(solver, curvature, torch.ones_like(g), lam)
    assert solution.x.isfinite().all() and torch.dot(solution.x, torch.ones_like(g)) > 0


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_sample_without_damping_is_solved_with_the_least_damping_that_holds_and_it_is_reported(solver, dtype):
    case = single(make_case("categorical", count=1), dtype)
    g = oracles.gradient(case, "surrogate")
    curvature = bind(case)
    solution = solve(solver, curvature, g, 0.0)
    assert solution.x.isfinite().all() and torch.dot(g, solution.x) >= 0
    assert 0 < float(solution.damping) < 1e-3 * float(curvature.dense().diagonal().max())
    assert float(solution.residual) < 0.1


def single(case: Case, dtype: torch.dtype) -> Case:
    s = case.samples
    cast = {
        name: value.to(dtype) for name, value in vars(s).items() if torch.is_tensor(value) and value.is_floating_point()
    }
    cast.pop("share", None)
    return replace(case, module=case.module.to(dtype), theta=case.theta.to(dtype), samples=replace(s, **cast))


@every_solver
@pytest.mark.parametrize("lam", [0.0, 1e-3])
def test_float32_and_a_condition_of_1e8_give_a_direction_whose_residual_is_reported(solver, lam):
    case = make_case("categorical", count=50)
    scales = torch.tensor([1e4, 1.0, 1e-4], dtype=torch.float64)
    case = replace(case, samples=replace(case.samples, inputs=case.samples.inputs * scales))
    assert torch.linalg.cond(dense_factors(case)[0][0]) > 1e8
    case = single(case, torch.float32)
    g = oracles.gradient(case, "surrogate")
    solution = solve(solver, bind(case), g, lam)
    assert solution.x.dtype == torch.float32 and solution.x.isfinite().all()
    assert torch.dot(g, solution.x) > 0
    assert solution.residual.isfinite() and float(solution.damping) >= lam


@every_solver
def test_no_damping_is_kept_where_every_factor_is_regular(solver):
    case = make_case("value", count=50, hidden=())
    M, g = fisher(case), randn(len(case.theta))
    solution = solve(solver, bind(case), g, 0.0)
    assert solution.damping == 0.0
    assert close(solution.x, torch.linalg.solve(M, g), 1e-8)


@every_solver
def test_a_matrix_of_zeros_without_damping_is_a_failure_that_names_the_option(solver):
    case = make_case("categorical")
    nothing = replace(bind(case), root=lambda: torch.zeros(1, 17, 3, dtype=torch.float64))
    with pytest.raises(NumericalFailure, match=r"larger damping\.value"):
        solve(solver, nothing, torch.ones_like(case.theta), 0.0)
    assert close(solve(solver, nothing, torch.ones_like(case.theta), 0.5).x, 2 * torch.ones_like(case.theta), 1e-12)


@every_solver
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_statistics_that_are_not_finite_are_a_failure_and_leave_the_state(solver, bad):
    case = make_case("categorical")
    _, state = solver.prepare(solver.init(), bind(case), LAMBDA)
    before = bits(state)
    inputs = case.samples.inputs.clone()
    inputs[3, 1] = bad
    poisoned = replace(case, samples=replace(case.samples, inputs=inputs))
    with pytest.raises(NumericalFailure, match="not finite"):
        solver.prepare(state, bind(poisoned), LAMBDA)
    assert bits(state) == before


def test_a_failed_eigendecomposition_is_repeated_in_float64_with_jitter_and_then_given_up(monkeypatch):
    matrix, eigh, asked = torch.diag(torch.tensor([1.0, 2.0, 0.0])), torch.linalg.eigh, []

    def fails(times: int):
        asked.clear()

        def fake(x: Tensor):
            asked.append(x)
            if len(asked) <= times:
                raise torch.linalg.LinAlgError("no")
            return eigh(x)

        monkeypatch.setattr(torch.linalg, "eigh", fake)

    fails(1)
    values, Q = kronecker.eigen(matrix, "layer")
    assert asked[1].dtype == torch.float64 and values.dtype == Q.dtype == torch.float32
    assert (asked[1].diagonal() > matrix.diagonal()).all()
    assert torch.allclose(values, torch.tensor([0.0, 1.0, 2.0]), atol=1e-6)
    fails(2)
    with pytest.raises(NumericalFailure, match="Kronecker factor of layer"):
        kronecker.eigen(matrix, "layer")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: KFAC("neither", 0.0, 1, 1), "damping must be exact or factored; got 'neither'"),
        (lambda: KFAC("exact", 1.0, 1, 1), "decay must be 0 or above, and below 1; got 1.0"),
        (lambda: KFRA("exact", 0.0, 0), "refresh must be a whole number"),
        (lambda: EKFAC(math.nan, 0.0, 1), "decay must be"),
        (lambda: EKFAC(0.0, -0.1, 1), "scale_decay must be"),
    ],
)
def test_options_outside_their_range_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()

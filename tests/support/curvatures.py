"""Curvatures with given factors, the dense matrices they stand for, and every solver of them, for tests of solvers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rlopt.core.curvature import PullBack, factored
from rlopt.core.heads import Value
from rlopt.core.network import Network
from rlopt.core.solvers.block import Block
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.gram import Gram
from rlopt.core.solvers.kaczmarz import Kaczmarz
from rlopt.core.solvers.lbfgs import LBFGS
from rlopt.core.solvers.low_rank import LowRank
from rlopt.core.solvers.nystrom import Nystrom
from rlopt.core.solvers.spring import Spring
from tests.support.oracles import Case, jacobian, make_case, randn, randomise, share

LAMBDA = 1e-2
EXACT, HUTCHINSON, PROPAGATION = "exact", "hutchinson", "curvature_propagation"
cg = partial(CG, preconditioner=None, start="cold", decay=0.0)


def diagonal(method: str = EXACT, draws: int = 3, seed: int = 0) -> Diagonal:
    return Diagonal(method, draws, seed, chunk=5)  # of 17 samples: four chunks, the last smaller


def block(by: str, centred: bool = False, decay: float = 0.0, rank: int | None = None) -> Block:
    return Block(by, 5, centred, decay, rank)


def low_rank(rank: int, products: int = 200, start: str = "gradient", remainder: str = "none") -> LowRank:
    return LowRank(rank, products, start, 0, remainder, chunk=5)


# every solver of a positive semidefinite curvature with a root
SOLVERS: dict[str, Any] = {
    "dense": Dense("refuse"),
    "dense_absolute": Dense("absolute"),
    "dense_shift": Dense("shift"),
    "cg": cg(500, 1e-13),
    "cg_diagonal": CG(500, 1e-13, diagonal(), "cold", 0.0),
    "cg_block": CG(500, 1e-13, block("layer"), "cold", 0.0),
    "diagonal": diagonal(),
    "hutchinson": diagonal(HUTCHINSON),
    "propagation": diagonal(PROPAGATION),
    "lehman_sum": diagonal("lehman_sum"),
    "lehman_abs": diagonal("lehman_abs"),
    "layer": block("layer"),
    "incoming": block("incoming"),
    "outgoing": block("outgoing"),
    "tonga": block("incoming", True, 0.9, 2),
    "low_rank": low_rank(4, 9),
    "low_rank_mean": low_rank(4, 9, "random", "mean"),
    "full_rank": low_rank(200),
    "gram": Gram(10_000, "network"),
    "gram_layer": Gram(10_000, "layer"),
    "kaczmarz": Kaczmarz(100, 1, 0),  # one block, with which it is exact
    "cg_kaczmarz": CG(500, 1e-13, Kaczmarz(5, 2, 0), "cold", 0.0),
    "nystrom": Nystrom(6, 0),
    "cg_nystrom": CG(500, 1e-13, Nystrom(6, 0), "cold", 0.0),
    "spring_cg": Spring(CG(500, 1e-13, None, "cold", 0.0), 0.9),
    "lbfgs": LBFGS(5, 1e-8, "products"),
}


class Matrix:
    """A curvature that is a given symmetric matrix; ``seen`` are the vectors it was multiplied with."""

    def __init__(self, matrix: Tensor):
        self.matrix, self.size = matrix, len(matrix)
        self.seen: list[Tensor] = []

    def product(self, v: Tensor) -> Tensor:
        self.seen.append(v.clone())
        return self.matrix @ v

    def dense(self) -> Tensor:
        return self.matrix


def solve(solver: Any, curvature: Any, g: Tensor, damping: float = 0.0, state: Any = None) -> Any:
    apply, _ = solver.prepare(solver.init() if state is None else state, curvature, damping)
    return apply(g)


def step(solver: Any, state: Any, curvature: Any, g: Tensor, damping: float = 0.0) -> tuple[Any, Any]:
    """A solve, and the state after a step along it."""
    apply, new = solver.prepare(state, curvature, damping)
    solution = apply(g)
    return solution, {**new, **solution.state}


def bound(case: Case, U: Tensor) -> PullBack:
    """The curvature with factors U (K, B, O) in output space."""
    return factored(case.tape, case.samples.share, U)


def rows(case: Case, U: Tensor) -> Tensor:
    """(K, B, P) J_b^T u_kb."""
    return torch.einsum("bop,kbo->kbp", jacobian(case), U)


def matrix(case: Case, U: Tensor) -> Tensor:
    """(P, P) sum_b share_b sum_k (J_b^T u_kb) (J_b^T u_kb)^T."""
    R = rows(case, U)
    return torch.einsum("kbp,kbq,b->pq", R, R, share(case.samples))


class Positions(nn.Module):
    """A layer that is applied at every position of (B, L, 3) inputs, a sum over them, and a layer on the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4, dtype=torch.float64)
        self.last = nn.Linear(4, 2, bias=False, dtype=torch.float64)
        randomise(self, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh().sum(1))


def positions(count: int = 17, length: int = 3) -> Case:
    module = Positions()
    network = Network(module, 0)
    samples = make_case("value", weights="masked", count=count).samples
    inputs = randn(count, length, 3, seed=8)
    return Case(module, network, Value(), network.layout.flatten(module), samples.replacing(inputs=inputs))


def groups(case: Case, by: str) -> Tensor:
    """(P,) the number of the block that each parameter belongs to."""
    number, place = torch.zeros(len(case.theta), dtype=torch.long), 0
    blocks: dict[Any, int] = {}

    def put(key: Any, index: Tensor) -> None:
        number[index] = blocks.setdefault(key, len(blocks))

    for name, p in case.module.named_parameters():
        layer, _, kind = name.rpartition(".")
        index = place + torch.arange(p.numel()).view(p.shape)
        place += p.numel()
        for o in range(p.shape[0]):
            for i in range(p.shape[1]) if kind == "weight" else ["one"]:
                unit = {"layer": (), "incoming": (o,), "outgoing": (i,)}[by]
                put((layer, *unit), index[o, i] if kind == "weight" else index[o])
    for o, index in enumerate(range(place, len(case.theta))):
        put(("constants", *((o,) if by == "incoming" else ())), torch.tensor(index))
    return number


def blocks_of(M: Tensor, number: Tensor) -> Tensor:
    """M with zeros wherever two parameters are of different blocks."""
    return M * (number[:, None] == number)


def is_true(solution: Any, M: Tensor, g: Tensor) -> bool:
    """Whether residual and quadratic are those of the matrix M, to the rounding of (M + lambda I) x."""
    x, used = solution.x, solution.damping
    rounding = float(1e-13 * (torch.linalg.matrix_norm(M, 2) + used) * x.norm())
    residual = float((g - M @ x - used * x).norm() / g.norm()) if g.norm() else 0.0
    quadratic = float(x @ M @ x)
    by_g = max(float(g.norm()), 1e-300)
    if abs(float(solution.residual) - residual) > 1e-13 + rounding / by_g:
        return False
    return abs(float(solution.quadratic) - quadratic) <= 1e-13 + rounding * float(x.norm())

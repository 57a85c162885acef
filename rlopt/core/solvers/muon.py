"""Muon: momentum whose singular values are all made about 1, matrix by matrix (Jordan et al. 2024).

    B = mu B + (1 - mu) G,   U = (1 - mu) G + mu B (Nesterov) or B,   Y_0 = U / |U|
    Y <- a Y + b (Y Y^T) Y + c (Y Y^T)^2 Y,  ``iterations`` times;   X = s Y

Each iteration maps every singular value sigma to a sigma + b sigma^3 + c sigma^5 and leaves the singular vectors. With
Jordan's coefficients five of them bring those above about 0.01 to between 0.7 and 1.2; with 15/8, -5/4, 3/8 they go to
1, and Y to (U U^T)^-1/2 U, the direction of steepest ascent where length is the largest singular value (Bernstein and
Newhouse 2024). So no quadratic form is behind X; the matrix with M_s X = U that `Solution.quadratic` is made with has
X^T M_s X = sum of U's singular values times Y's.

| scale    | s                      | for                                                                    |
|---|---|---|
| rms      | 0.2 sqrt(max(J, I))    | entries as large as Adam's (Liu et al. 2025, Muon is scalable)          |
| spectral | sqrt(max(1, J / I))    | Jordan's own, torch's adjust_lr_fn=original                             |

Biases and all other vectors have no singular values: theirs is Adam's direction, with lambda for epsilon. With
``layers: hidden`` it is that of the first and the last matrix too, as Jordan advises for embeddings and heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import check, non_negative
from rlopt.core.curvature import Curvature
from rlopt.core.flat import Layout
from rlopt.core.parts import STATISTICS, Requirements, Solution, Solve, Solver, State
from rlopt.core.solvers import matrices


@dataclass(frozen=True)
class Muon(Solver):
    """Orthogonalised momentum of every matrix, and Adam's direction for vectors; the state holds B and Adam's moments.

    Options:
        momentum: mu, 0 or above and below 1. 0 takes the gradient itself.
        nesterov: true adds the gradient of now once more.
        iterations: of Newton and Schulz; 0 or above. 0 only divides by the length.
        coefficients: a, b and c.
        scale: rms or spectral, see above.
        layers: all matrices, or hidden: all but the first and the last.
        decays: Adam's, of its first and second moments; 0 or above and below 1.

    Source: Jordan et al. 2024. Raises ValueError where an option is out of its range.
    """

    momentum: float
    nesterov: bool
    iterations: int
    coefficients: tuple[float, float, float]
    scale: Literal["rms", "spectral"]
    layers: Literal["all", "hidden"]
    decays: tuple[float, float]

    needs: ClassVar[frozenset[str]] = frozenset({STATISTICS})
    requirements: ClassVar[Requirements] = Requirements(linear=False)

    def __post_init__(self) -> None:
        matrices.check_decay("momentum", self.momentum)
        non_negative("iterations", self.iterations)
        check(len(self.coefficients) == 3, "coefficients", "three numbers", self.coefficients)
        check(self.scale in ("rms", "spectral"), "scale", "rms or spectral", self.scale)
        check(self.layers in ("all", "hidden"), "layers", "all or hidden", self.layers)
        check(len(self.decays) == 2, "decays", "two numbers", self.decays)
        for decay in self.decays:
            matrices.check_decay("decays", decay)

    def init(self) -> State:
        return {"updates": 0, "momenta": {}, "moments": {}}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        return partial(self._solve, state, matrices.layout_of(curvature), damping), state

    def _solve(self, state: State, layout: Layout, damping: Tensor | float, g: Tensor) -> Solution:
        t, X, U = state["updates"], {}, {}
        momenta, moments = {}, {}
        own = self._matrices(layout)
        for name, part in matrices.split(g, layout).items():
            if name in own:
                before = state["momenta"].get(name, torch.zeros_like(part))
                momenta[name] = B = torch.lerp(before, part, 1 - self.momentum)
                U[name] = torch.lerp(part, B, self.momentum) if self.nesterov else B
                X[name] = self._scale(part) * orthogonalised(U[name], self.iterations, self.coefficients)
                continue
            moments[name] = found = matrices.adam(state["moments"].get(name, {}), part, self.decays, t)
            U[name], below = found["m"], found["v"].sqrt() + damping
            X[name] = torch.where(below > 0, found["m"] / below, 0.0)
        return matrices.solution(X, U, damping, {"updates": t + 1, "momenta": momenta, "moments": moments})

    def _matrices(self, layout: Layout) -> set[str]:
        """The parameters that are orthogonalised."""
        names = [name for name, shape in zip(layout.names, layout.shapes, strict=True) if len(shape) > 1]
        return set(names if self.layers == "all" else names[1:-1])

    def _scale(self, G: Tensor) -> float:
        J, I = G.shape  # noqa: E741
        return float(0.2 * max(J, I) ** 0.5 if self.scale == "rms" else max(1.0, J / I) ** 0.5)


def orthogonalised(U: Tensor, iterations: int, coefficients: tuple[float, float, float]) -> Tensor:
    """Y (J, I) after so many iterations from U / |U|; 0 where U is 0."""
    a, b, c = coefficients
    Y: Tensor = U if U.shape[0] <= U.shape[1] else U.t()
    Y = Y / Y.norm().clamp(min=torch.finfo(Y.dtype).tiny)
    for _ in range(iterations):
        S = Y @ Y.t()
        Y = a * Y + (b * S + c * (S @ S)) @ Y
    back: Tensor = Y if U.shape[0] <= U.shape[1] else Y.t()
    return back

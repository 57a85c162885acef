"""Kronecker factors A and G of every layer, their running means, eigenbases and damping.

    M ~ blocks A (x) G,  A = Qa diag(Da) Qa^T (I, I),  G = Qg diag(Dg) Qg^T (J, J);  I counts the bias's column

The block of the head's constants has input one, so A = 1 and it is exact; so are those of the parameters of layer
normalisation and of others that are no layer's weight. `kronecker.solve` solves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import Curvature
from rlopt.core.flat import Layout
from rlopt.core.parts import State
from rlopt.core.solvers import per_layer
from rlopt.core.solvers.dense import dampings
from rlopt.core.solvers.per_layer import LayerShape, LayerShapes
from rlopt.core.tapes.tape import Layer


def init() -> State:
    """Before the first batch: no weight, no factors."""
    return {"weight": 0.0, "age": 0, "factors": {}, "basis": {}}


def statistics(
    curvature: Curvature, f: Callable[[Layer, Tensor], tuple[Tensor, ...]]
) -> tuple[LayerShapes, list[tuple[Tensor, ...]]]:
    """Each layer's shape, and ``f(layer, root)`` summed over all ranks; see `PullBack.layer_mean`.

    Raises NumericalFailure where one of these sums holds a NaN or an infinity.
    """
    shapes, values = per_layer.statistics(curvature, f)
    if not torch.stack([part.sum() for parts in values for part in parts]).sum().isfinite():
        raise NumericalFailure("a layer's curvature statistics hold a number that is not finite")
    return shapes, values


def layer_shapes(layout: Layout, factors: State) -> LayerShapes:
    """Every layer's shape, from the sizes of its factors; a column beyond the weight's is the bias's."""
    matrices = [(name, shape) for name, shape in zip(layout.names, layout.shapes, strict=True) if len(shape) > 1]
    weights = {name: math.prod(shape[1:]) for name, shape in matrices}
    return {
        name: LayerShape(len(factor["G"]), len(factor["A"]), len(factor["A"]) > weights.get(name, 0))
        for name, factor in factors.items()
    }


def factors(layer: Layer, root: Tensor) -> tuple[Tensor, Tensor]:
    """A = mean_b mean_l a a^T and G = mean_b sum_l sum_k d d^T, each mean with the samples' own weights.

    With positions (L > 1) each counts as a sample of its own, the "expand" convention (Grosse and Martens 2016;
    Eschenhagen et al. 2023): the mean over positions is in A, the sum over them in G.
    """
    count, width = layer.activations.shape[1:]
    ones = (root / count**0.5).repeat_interleave(count)[:, None] if count > 1 else root[:, None]
    a, d = layer.activations.flatten(0, 1) * ones, layer.signals.flatten(0, 2)
    if layer.bias_name is None:
        return a.t() @ a, d.t() @ d
    A = a.new_empty(width + 1, width + 1)
    torch.mm(a.t(), a, out=A[:width, :width])
    A[width, :width] = A[:width, width] = (ones.t() @ a)[0]
    A[width, width] = root @ root
    return A, d.t() @ d


def average(state: State, shapes: LayerShapes, values: list[tuple[Tensor, ...]], decay: float) -> State:
    """Running means of (A, G): weights decay^age over their sum, so that the first batch counts in full."""
    total = decay * state["weight"] + 1
    new = {}
    for name, (A, G) in zip(shapes, values, strict=True):
        if decay and state["factors"]:
            old = state["factors"][name]
            A, G = torch.lerp(old["A"], A, 1 / total), torch.lerp(old["G"], G, 1 / total)
        new[name] = {"A": A, "G": G}
    return {**state, "weight": total, "factors": new}


def decompose(state: State, refresh: int) -> State:
    """Eigenbases of the factors, anew at every ``refresh``-th call."""
    basis = state["basis"]
    if state["age"] == 0:
        basis = {}
        for name, factor in state["factors"].items():
            (Da, Qa), (Dg, Qg) = eigen(factor["A"], name), eigen(factor["G"], name)
            basis[name] = {"Da": Da, "Qa": Qa, "Dg": Dg, "Qg": Qg}
    return {**state, "age": (state["age"] + 1) % refresh, "basis": basis}


def eigen(matrix: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Eigenvalues >= 0 (N,) and eigenvectors (N, N); the second attempt is in float64 with 1e-12 of the mean added."""
    wide = matrix
    for _ in range(2):
        try:
            values, Q = torch.linalg.eigh(wide)
            if values.sum().isfinite():
                return values.clamp(min=0).to(matrix.dtype), Q.to(matrix.dtype)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            pass
        wide = matrix.double()
        wide = wide + 1e-12 * wide.diagonal().mean().expand(len(wide)).diag()
    raise NumericalFailure(f"the eigenvalues of a Kronecker factor of {name} were not found")


def damped(
    eigenvalues: list[Tensor], damping: Tensor | float, add: Callable[[int, Tensor | float], Tensor]
) -> tuple[list[Tensor], Tensor | float]:
    """E = ``add(i, lambda)`` of every layer i, and the lambda with which all of them stand above rounding.

    Where the least of E is within rounding of 0, lambda is raised as `dense` does.
    """
    mean = torch.cat([D.flatten() for D in eigenvalues]).mean()
    for used in dampings(damping, mean, "singular"):
        E = [add(i, used) for i in range(len(eigenvalues))]
        if torch.stack([e.min() > torch.finfo(e.dtype).eps * e.max() for e in E]).all():
            return E, used
    raise AssertionError  # dampings ends in a NumericalFailure

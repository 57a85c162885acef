"""What the Kronecker solvers share: factors A and G of every layer, their running means, eigenbases, and the solve.

    M ~ blocks A (x) G,  A = Qa diag(Da) Qa^T (I, I),  G = Qg diag(Dg) Qg^T (J, J),  with X (J, I) a layer's part of x
    and V that of g:  X = Qg [ (Qg^T V Qa) / E ] Qa^T  solves a layer;  I counts the bias's column

E (J, I) are the damped eigenvalues. The block of the head's constants has input one, so A = 1 and it is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.failure import NumericalFailure
from rlopt.core.parts import Solution, State
from rlopt.core.solvers.per_layer import Place, join, place, rooted, split
from rlopt.core.tape import Layer

_ATTEMPTS = 8  # raises of lambda before giving up

Places = dict[str, Place]  # by the weight's name, in the order of theta


def init() -> State:
    """Before the first batch: no weight, no factors."""
    return {"weight": 0.0, "age": 0, "factors": {}, "basis": {}}


def statistics(
    curvature: Curvature, f: Callable[[Layer, Tensor], tuple[Tensor, ...]]
) -> tuple[Places, list[tuple[Tensor, ...]]]:
    """Every layer's place in theta and ``f(layer, share)`` over all ranks; NumericalFailure where it is not finite."""
    places: Places = {}

    def placed(layer: Layer, share: Tensor) -> tuple[Tensor, ...]:
        places[layer.weight_name] = place(layer)
        return f(layer, share)

    values = rooted(curvature).layer_mean(placed)
    if not torch.stack([part.sum() for parts in values for part in parts]).isfinite().all():
        raise NumericalFailure("a layer's curvature statistics hold a number that is not finite")
    return places, values


def factors(layer: Layer, share: Tensor) -> tuple[Tensor, Tensor]:
    """A = mean_b mean_l a a^T and G = mean_b sum_l sum_k d d^T, each mean with the samples' own weights.

    With positions (L > 1) each counts as a sample of its own, the "expand" convention (Grosse and Martens 2016;
    Eschenhagen et al. 2023): the mean over positions is in A, the sum over them in G.
    """
    a, d = layer.inputs, layer.signals
    root = share.sqrt()[:, None, None]  # on both sides, so that the factors are symmetric to the bit
    a, d = (a * (root / a.shape[1] ** 0.5)).flatten(0, 1), (d * root).flatten(0, 2)
    return a.t() @ a, d.t() @ d


def average(state: State, places: Places, values: list[tuple[Tensor, ...]], decay: float) -> State:
    """Running means of (A, G): weights decay^age over their sum, so that the first batch counts in full."""
    total = decay * state["weight"] + 1
    new = {}
    for name, (A, G) in zip(places, values, strict=True):
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

    Where the least of E is within rounding of 0, lambda goes to max(10 lambda, 1e-8 mean diag M), eight times at most.
    """
    least = 1e-8 * torch.cat([D.flatten() for D in eigenvalues]).mean()
    eps, used = torch.finfo(least.dtype).eps, damping
    for attempt in range(_ATTEMPTS + 1):
        if attempt:
            used = torch.maximum(10 * torch.as_tensor(used, dtype=least.dtype, device=least.device), least)
        E = [add(i, used) for i in range(len(eigenvalues))]
        if torch.stack([e.min() > eps * e.max() for e in E]).all():
            return E, used
    raise NumericalFailure(f"singular with damping up to {float(used):.3g}; start from a larger damping.value")


def apply(
    places: Places, basis: State, eigenvalues: list[Tensor], E: list[Tensor], damping: Tensor | float
) -> Callable[[Tensor], Solution]:
    """g -> x, for the matrix with these eigenvalues (each (J, I)) in these bases, damped to E."""
    # all but the rotations is done for all layers at once, on their matrices laid end to end
    D, e = (torch.cat([matrix.flatten() for matrix in matrices]) for matrices in (eigenvalues, E))
    where, sizes, shapes = list(places.values()), [m.numel() for m in E], [m.shape for m in E]
    order = torch.arange(len(e), device=e.device)
    from_theta = torch.cat([matrix.flatten() for matrix in split(order, where)])
    to_theta = join([part.view(shape) for part, shape in zip(order.split(sizes), shapes, strict=True)], where)
    Qg, Qa = ([basis[name][side] for name in places] for side in ("Qg", "Qa"))
    back_g, back_a = [Q.t() for Q in Qg], [Q.t() for Q in Qa]

    def rotated(v: Tensor, lefts: list[Tensor], rights: list[Tensor]) -> Tensor:
        out = torch.empty_like(v)
        olds, news = v.split_with_sizes(sizes), out.split_with_sizes(sizes)
        for left, right, shape, old, new in zip(lefts, rights, shapes, olds, news, strict=True):
            torch.mm(torch.mm(left, old.view(shape)), right, out=new.view(shape))
        return out

    def solve(g: Tensor) -> Solution:
        projected = rotated(g.index_select(0, from_theta), back_g, Qa)
        X = rotated(projected / e, Qg, back_a)
        Y = rotated(X, back_g, Qa)  # of the x that is returned, rounding and all
        r, gg = projected - e * Y, torch.dot(g, g)
        return Solution(
            x=X.index_select(0, to_theta),
            iterations=0.0,
            residual=torch.where(gg > 0, (torch.dot(r, r) / gg).sqrt(), 0.0),
            quadratic=torch.dot(D * Y, Y),
            damping=damping,
        )

    return solve

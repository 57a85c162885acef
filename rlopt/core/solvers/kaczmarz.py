"""Kaczmarz solver: the samples' Gram system, block after random block (Sun 2026, RAT; Needell and Tropp 2014).

S (K B, P) holds the rows S_kb = sqrt(share_b) J_b^T u_kb, so that M = S^T S. With one unknown w_kb for each row,

    x = g / lambda + S^T w,   (S S^T + lambda I) w = -S g / lambda

is the exact solution for any g (`gram`). Blocks of samples take turns, with x held in place of S S^T w:

    w_B <- w_B + dw,   x <- x + S_B^T dw,   dw = -(S_B S_B^T + lambda I)^-1 (S_B x + lambda w_B)

A step minimises lambda |w|^2 + |x|^2 over w_B, so this is block coordinate descent on a strictly convex function: it
converges from any w, at a linear rate (Lu and Xiao 2015). For g = S^T A it is RAT's step for the transformed advantages
v = A / lambda + w, (S S^T + lambda I) v = A: dw = (S_B S_B^T + lambda I)^-1 (A_B - S_B x - lambda v_B).

At every update the samples are dealt to blocks at random. Each sweep takes the blocks in a random order of its own, and
after the last sweep all steps are made once more, the other way round. So x = N g with N symmetric and N >= (M + lambda
I)^-1: g^T x > 0 after any number of sweeps, and the solver can precondition CG, which needs far fewer sweeps where M is
large beside lambda. Deviation: RAT draws a block for every step, and has no way back.

Only the rows of a block meet one another, so that K B has no limit. A sweep and its way back cost about two products
with M. With one block x is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure, at_least_one, non_negative
from rlopt.core.curvature import Curvature, PullBack
from rlopt.core.parts import PRODUCT, ROOT, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import Incompatible, Work
from rlopt.core.seeds import seeded
from rlopt.core.solvers import gram
from rlopt.core.solvers.dense import factorise_blocks
from rlopt.core.solvers.per_layer import products, rooted
from rlopt.core.tapes.tape import Layer, Tape
from rlopt.parallel.collectives import all_sum, gather_counts, rank


@dataclass(frozen=True)
class Kaczmarz(Solver):
    """x with (M + lambda I) x = g, by sweeps over random blocks of samples; with many sweeps what `gram` finds.

    The state counts the solves, which the random blocks depend on.

    Options:
        block: samples in a block; 1 or above. Its factors times samples are the size of the systems that are solved.
        sweeps: passes over all blocks, each made once more on the way back; 1 or above. With one block x is exact.
        seed: of the blocks and their order; others after every step that is taken; 0 or above.

    It needs lambda above 0, and no layer statistics. On several ranks blocks are made of all ranks' samples, numbered
    rank after rank. Source: Sun 2026, RAT (arXiv 2605.18591). Raises ValueError where an option is out of its range,
    NumericalFailure where lambda is 0 or a row is not finite.
    """

    block: int
    sweeps: int
    seed: int

    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT, ROOT})

    def __post_init__(self) -> None:
        at_least_one("block", self.block)
        at_least_one("sweeps", self.sweeps)
        non_negative("seed", self.seed)

    @property
    def requirements(self) -> Requirements:
        return Requirements(needs_damping=True, root_alone=True, work=self._work)

    def _work(self, curvature: Curvature) -> Work:
        K, B = rooted(curvature).factors().shape[:2]
        size = min(self.block, B)
        return Work(products=2.0 * self.sweeps, operations=B / size * gram.operations(float(K * size)))

    def init(self) -> State:
        return {"solves": 0}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        if not damping > 0:
            raise NumericalFailure(f"the Gram matrix needs damping above 0; got {float(damping):.3g}")
        source = rooted(curvature)
        generator = seeded(self.seed, state["solves"])
        blocks = _blocks(source, self.block, generator)
        factors, used = factorise_blocks([block.products() for block in blocks], damping)
        there = [i for _ in range(self.sweeps) for i in torch.randperm(len(blocks), generator=generator).tolist()]
        way = [*there, *reversed(there[:-1])] if len(blocks) > 1 else [0]

        def solve(g: Tensor) -> Solution:
            x, w = g / used, [g.new_zeros(len(factor)) for factor in factors]
            for i in way:
                left = blocks[i].times(x) + used * w[i]
                dw = -torch.cholesky_solve(left[:, None], factors[i])[:, 0]
                w[i], x = w[i] + dw, x + blocks[i].back(dw)
            return Solution.measured(g, x, partial(curvature.product, x), used, float(self.sweeps))

        return solve, {**state, "solves": state["solves"] + 1}


class _Block(NamedTuple):
    """Some of all ranks' samples: K rows of S for each, of which this rank has those at the places ``here``."""

    tape: Tape  # of the samples that are here
    U: Tensor  # (K, b, O) their factors times sqrt(share)
    here: Tensor  # (b,)
    size: int  # samples of the block, on all ranks
    alone: bool  # there is one rank
    mixed: bool  # the network has a memory: samples mix within sequences

    def times(self, x: Tensor) -> Tensor:
        """S_B x (K size,)."""
        return self._whole(torch.einsum("kbo,bo->kb", self.U, self.tape.jvp(x)), 1).flatten()

    def back(self, y: Tensor) -> Tensor:
        """S_B^T y (P,)."""
        own = y.view(-1, self.size)[:, self.here]
        return all_sum(self.tape.vjp(torch.einsum("kb,kbo->bo", own, self.U)))

    def products(self) -> Tensor:
        """S_B S_B^T (K size, K size), from the layers' records or, where there are none, from the rows of S."""
        if not self.mixed:
            try:
                layers = self.tape.layers(self.U)
            except Incompatible:
                layers = []
            if layers:
                return torch.stack([products(self._of_all_ranks(layer)) for layer in layers]).sum(0)
        K, b = self.U.shape[:2]
        apart = torch.diag_embed(self.U.movedim(2, 0)).movedim(0, 3)  # (K, b, b, O), each sample's u by itself
        rows = self._whole(self.tape.vjps(apart.flatten(0, 1)).t().unflatten(0, (K, b)), 1).flatten(0, 1)
        return rows @ rows.t()

    def _of_all_ranks(self, layer: Layer) -> Layer:
        if self.alone:
            return layer
        return replace(layer, activations=self._whole(layer.activations, 0), signals=self._whole(layer.signals, 1))

    def _whole(self, own: Tensor, dim: int) -> Tensor:
        """What every rank has of its samples, along ``dim``, for all samples of the block."""
        if self.alone:
            return own
        shape = list(own.shape)
        shape[dim] = self.size
        return all_sum(own.new_zeros(shape).index_copy_(dim, self.here, own))


def _blocks(source: PullBack, size: int, generator: torch.Generator) -> list[_Block]:
    """All ranks' samples dealt to blocks of ``size`` at random; those of a sequence stay together."""
    U, tape = source.factors() * source.share.sqrt()[:, None], source.tape
    device, groups = source.share.device, _groups(U, tape.width)
    length, counts = max(gather_counts(tape.sequence, device)), gather_counts(len(source.share), device)
    first, last = sum(counts[: rank()]), sum(counts[: rank() + 1])
    order = torch.randperm(sum(counts) // length, generator=generator)
    blocks = []
    for part in order.split(max(size // length, 1)):
        numbers = (part.sort().values[:, None] * length + torch.arange(length)).flatten()
        own = (numbers >= first) & (numbers < last)
        index, here = (numbers[own] - first).to(device), own.nonzero()[:, 0].to(device)
        some, there = tape.take(index), U[:, index]
        said = len(numbers), len(counts) == 1, length > 1
        blocks += [_Block(some, there[group], here, *said) for group in groups]
    return blocks


def _groups(U: Tensor, width: int) -> list[Tensor]:
    """The factors of U (K, B, O) by what never meets: those of the network and those of the constants, or all as one.

    Rows of a Gaussian's mean and of its constant scale are orthogonal, and two systems are cheaper than one.
    """
    sides = torch.stack([(side != 0).flatten(1).any(1) for side in (U[..., :width], U[..., width:])])
    network, constants = all_sum(sides.to(U.dtype)) > 0
    if (network & constants).any():
        return [torch.arange(len(U), device=U.device)]
    return [group for group in (network.nonzero()[:, 0], (~network).nonzero()[:, 0]) if len(group)]

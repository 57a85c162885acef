"""Curvature: a metric M bound to one tape and one set of samples. All products of M with a vector are computed here.

    M = sum_b share_b J_b^T C_b J_b,     M v: v -> J v -> C J v -> share C J v -> J^T share C J v

A metric supplies only ``apply``: t (B, O) -> C t, and where it exists ``root``: U (K, B, O) with C = sum_k u_k u_k^T,
of a slice of the samples where one is asked for: K O numbers a sample may be more than a network's activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, reduce
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from rlopt.core.tapes.tape import Layer, Tape
from rlopt.parallel.collectives import all_sum, all_sums, rank

_PASS = 2**17  # columns times samples that pass through the tape at a time, which bounds memory
_ROWS = 4096  # factors times samples whose signals are held at a time: they stay in the processor's cache
_ROWS_ELSEWHERE = 2**18  # on a GPU, which wants large operations
_ALL = slice(None)


class Curvature(Protocol):
    """A symmetric matrix M (P, P), known through its products."""

    @property
    def size(self) -> int:
        """P, the number of parameters."""

    def product(self, v: Tensor) -> Tensor:
        """M v, (P,) -> (P,)."""

    def dense(self) -> Tensor:
        """M itself (P, P); for small networks and tests."""


def block_product(curvature: Curvature, V: Tensor) -> Tensor:
    """M V, (P, r) -> (P, r): at once where the curvature has ``block``, else one column after another."""
    block: Callable[[Tensor], Tensor] | None = getattr(curvature, "block", None)
    if block is not None:
        return block(V)
    return torch.stack([curvature.product(v) for v in V.t().contiguous()], 1)


@dataclass(frozen=True)
class PullBack:
    """M = sum_b share_b J_b^T C_b J_b: a metric of the output space pulled back to theta, on all ranks' samples."""

    tape: Tape
    share: Tensor  # (B,), see Samples.share
    apply: Callable[[Tensor], Tensor]  # t (B, O) -> C t (B, O), a new tensor
    root: Callable[..., Tensor] | None = None  # (of a slice of the samples, by default all) -> U (K, B, O)
    shortcut: Callable[[Tensor], Tensor] | None = None  # v -> M v on this rank, where there is one

    @property
    def size(self) -> int:
        return self.tape.size

    def product(self, v: Tensor) -> Tensor:
        return all_sum(self.local_product(v))

    def block(self, V: Tensor) -> Tensor:
        """`product` of every column of V (P, r), to rounding, by passes of many columns through the tape and back."""
        columns = max(_PASS // max(len(self.share), 1), 1)
        return all_sum(torch.cat([self._local_block(part.contiguous()) for part in V.split(columns, 1)], 1))

    def _local_block(self, V: Tensor) -> Tensor:
        T = self.tape.jvps(V)
        return self.tape.vjps(torch.stack([self.apply(t) for t in T.unbind()]).mul_(self.share[:, None]))

    def dense(self) -> Tensor:
        return all_sum(_columns(self._general, self.tape))

    def local_product(self, v: Tensor) -> Tensor:
        """M v, of the samples here alone."""
        return self.shortcut(v) if self.shortcut else self._general(v)

    def _general(self, v: Tensor) -> Tensor:
        return self.tape.vjp(self.apply(self.tape.jvp(v)).mul_(self.share[:, None]))

    def factors(self, samples: slice = _ALL) -> Tensor:
        """U (K, B, O), the metric's root, of these samples. Raises ValueError where it has none."""
        if self.root is None:
            raise ValueError("this metric has no root; only its products can be used")
        return self.root(samples)

    def layer_mean(self, f: Callable[[Layer, Tensor], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """The sum over samples, on all ranks, of ``f(layer, root)`` for every layer.

        The signals are the metric's root times root = sqrt(share) (B,). So a term that is quadratic in them carries the
        weight share already; f multiplies a term that is linear in them by root, and one without them by root twice.
        f sums over positions L first, then takes squares or products, then sums over samples. It is given some samples
        at a time, so that neither the root nor signals take much memory. f need not care for masks, chunks or ranks.

        Of a network with memory f gets a whole sequence for one sample, its times for positions: signals of all its
        outputs, each with a random sign, are sent back at once, and root is that of the sequence's share. What is
        quadratic in the signals is then right in expectation over the signs, in which outputs at different times do
        not interact; and what is linear in them is not. See `requirements.Requirements.reads_samples`.
        """
        totals: list[tuple[Tensor, ...]] = []
        for tape, own, signals, constants in self._sent(self.share.sqrt()):
            layers = tape.layers(_signed(signals, tape), constants)
            roots = [
                own if len(layer.activations) == len(own) else _of_sequences(own, tape.sequence) for layer in layers
            ]
            found = [f(layer, each) for layer, each in zip(layers, roots, strict=True)]
            for total, new in zip(totals, found, strict=True) if totals else ():
                for x, y in zip(total, new, strict=True):
                    x.add_(y)
            totals = totals or found
        summed = iter(all_sums(*(part for parts in totals for part in parts)))
        return [tuple(next(summed) for _ in parts) for parts in totals]

    def _sent(self, root: Tensor) -> Iterator[tuple[Tape, Tensor, Tensor, Tensor]]:
        """Of some samples at a time: their tape, ``root`` (b,), and what the metric's root sends, see `split_factors`.

        The metric's root is made of the samples of one slice of the tape, in most runs of all, and what passes through
        the tape is less than that.
        """
        width, rows = self.tape.width, _ROWS if root.is_cpu else _ROWS_ELSEWHERE
        slices = list(self.tape.parts(max(len(root), 1)))
        first = [self.factors(slices[0][0])]
        used = used_factors(chain(first, (self.factors(at) for at, _ in slices[1:])), width)
        for at, tape in slices:
            signals, constants = split_factors(first.pop() if first else self.factors(at), root[at], width, used)
            for here, part in tape.parts(max(rows // max(len(signals), 1), 1)):
                yield part, root[at][here], signals[:, here], constants[:, here]


def _signed(signals: Tensor, tape: Tape) -> Tensor:
    """The signals (K, B, width), each sample's with a random sign where the tape mixes samples of a sequence.

    The signs follow from theta's bits: they differ from update to update, and are the same again in a resumed run.
    """
    if tape.sequence == 1:
        return signals
    seed = hash(float(tape.theta().double().sum())) % 2**63
    generator = torch.Generator().manual_seed(seed + rank())
    signs = torch.randint(0, 2, signals.shape[:2], generator=generator).mul_(2).sub_(1).to(signals)
    return signals * signs[:, :, None]


def _of_sequences(root: Tensor, length: int) -> Tensor:
    """(B / length,) the root of each sequence's share, from those of its samples (B,)."""
    return root.square().view(-1, length).sum(1).sqrt()


def split_factors(U: Tensor, root: Tensor, width: int, used: Tensor | None) -> tuple[Tensor, Tensor]:
    """U (K, B, O) times root (B,), as signals for the network (K', B, width) and the constants (K'', B, O - width).

    Of each side those factors that are ``used`` (2, K); None: all.
    """
    root, sides = root[:, None], (U[..., :width], U[..., width:])
    if used is None:
        return sides[0] * root, sides[1] * root
    network, constants = (side[there].mul_(root) for side, there in zip(sides, used, strict=True))
    return network, constants


def used_factors(roots: Iterable[Tensor], width: int) -> Tensor | None:
    """(2, K) bool: which factors, of these slices' U (K, b, O) and on all ranks, are anywhere not zero, on each side.

    The first ``width`` outputs are one side, the constants the other. Where mean and scale do not interact, the scale's
    factors need not go through the network. None where there is nothing to leave out.
    """
    counts: Tensor | None = None
    for U in roots:
        if len(U) == 1 or width == U.shape[2]:
            return None
        here = torch.stack([(side != 0).flatten(1).any(1) for side in (U[..., :width], U[..., width:])]).to(U.dtype)
        counts = here if counts is None else counts + here
    return None if counts is None else all_sum(counts) > 0


def whole_root(make: Callable[[], Tensor]) -> Callable[..., Tensor]:
    """A root (see `PullBack`) that is made once, of all samples."""
    made = cache(make)
    return lambda samples=_ALL: made()[:, samples]


def factored(tape: Tape, share: Tensor, U: Tensor) -> PullBack:
    """The pull-back of C = sum_k u_k u_k^T, from U (K, B, O)."""

    def apply(t: Tensor) -> Tensor:
        return ((U * t).sum(2, keepdim=True) * U).sum(0)

    shortcut = _rank_one(tape, share, U[0]) if tape.chain and len(U) == 1 else None
    return PullBack(tape, share, apply, whole_root(lambda: U), shortcut)


def _rank_one(tape: Tape, share: Tensor, u: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> M v on this rank's samples, M = sum_b share_b r_b r_b^T with r_b = J_b^T u_b, for one factor u (B, O).

    With c_b = r_b . v it is M v = sum_b share_b c_b r_b. The layers, of one position each, give both; u sends their
    signals d (B, J) back once and for all products:

        c = sum_l (a_l V_l^T + v_l) . d_l,     dW_l = (share c d_l)^T a_l,   db_l = d_l^T (share c)

    which is six matrix products with three layers, where J v and then J^T u take ten. The signals take as much memory
    as the activations. Every slice of the tape has its own.
    """
    slices = list(tape.parts(max(len(share), 1)))
    if len(slices) > 1:
        each = [_rank_one(part, share[at], u[at]) for at, part in slices]
        return lambda v: reduce(Tensor.add_, (product(v) for product in each))
    kept: list[tuple[Layer, Tensor, Tensor]] = []  # layer, a (B, I), d (B, J)

    def product(v: Tensor) -> Tensor:
        if not kept:
            layers = tape.layers(u[None])
            kept.extend((layer, layer.activations[:, 0], layer.signals[0, :, 0]) for layer in layers)
        along, out = tape.layout.views(v), torch.empty_like(v)
        parts = tape.layout.views(out)
        c = torch.zeros_like(share)
        for layer, a, d in kept:
            if layer.weight is not None:
                c += torch.mm(a, along[layer.weight_name].t()).mul_(d).sum(1)
            if layer.bias_name:
                c.addmv_(d, along[layer.bias_name])
        c *= share
        for layer, a, d in kept:
            if layer.weight is not None:
                torch.mm(torch.mul(d, c[:, None]).t(), a, out=parts[layer.weight_name])
            if layer.bias_name:
                torch.mv(d.t(), c, out=parts[layer.bias_name])
        return out

    return product


@dataclass(frozen=True)
class ByProduct:
    """A symmetric matrix M (P, P) that is never formed. ``multiply`` maps v (P,) to M v (P,), summed over all ranks.

    ``gradient``, where there is one, is minus the gradient whose derivative M is, at any theta and on the same samples.
    """

    tape: Tape
    multiply: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor] | None = None  # theta (P,) -> (P,)

    @property
    def size(self) -> int:
        return self.tape.size

    def product(self, v: Tensor) -> Tensor:
        return self.multiply(v)

    def dense(self) -> Tensor:
        return _columns(self.multiply, self.tape)


@dataclass(frozen=True)
class Euclidean:
    """M = I (P, P)."""

    tape: Tape

    @property
    def size(self) -> int:
        return self.tape.size

    def product(self, v: Tensor) -> Tensor:
        return v

    def block(self, V: Tensor) -> Tensor:
        return V

    def dense(self) -> Tensor:
        return torch.eye(self.size, dtype=self.tape.outputs.dtype, device=self.tape.outputs.device)


@dataclass(frozen=True)
class Given:
    """A matrix that is stored: ``entries`` (P, P), or (P,) for a diagonal one."""

    entries: Tensor

    @property
    def size(self) -> int:
        return len(self.entries)

    def product(self, v: Tensor) -> Tensor:
        return self.entries * v if self.entries.ndim == 1 else self.entries @ v

    def block(self, V: Tensor) -> Tensor:
        return self.entries[:, None] * V if self.entries.ndim == 1 else self.entries @ V

    def dense(self) -> Tensor:
        return torch.diag(self.entries) if self.entries.ndim == 1 else self.entries


def _columns(product: Callable[[Tensor], Tensor], tape: Tape) -> Tensor:
    """The symmetric matrix with the given product, one column at a time."""
    matrix = tape.outputs.new_zeros(tape.size, tape.size)
    e = tape.outputs.new_zeros(tape.size)
    for i in range(tape.size):
        e[i] = 1
        matrix[i] = product(e)
        e[i] = 0
    return (matrix + matrix.t()) / 2

"""Average metric: a decayed average over updates of another metric, each at its own theta and on its own samples.

    M_t = sum_i decay^i M(theta_{t-i}) / sum_i decay^i          i = 0 (now), 1, 2, ...

The weights sum to one from the first update on, as those of K-FAC's factors do. An update counts if it was taken.

| memory  | i goes to         | state holds                     | a product costs       | serves                    |
|---|---|---|---|---|
| batches | batches - 1       | theta and samples of each batch | ``batches`` of M's    | what M serves, but see below |
| matrix  | the first update  | M, P^2 numbers                  | P^2                   | solvers by products alone |

``batches`` leaves out what came before: a part decay^batches of the whole average's weight. Every batch that is kept is
pulled back anew at its own theta; the average is the pull-back of all these samples as one, J_b taken at the theta of
sample b and share_b times the weight of its batch. So everything a root gives (layer statistics, inner products of
samples) is exact for M_t too. A metric that looks at the objective sees it with the coefficients that it has now.

``matrix`` forms M at every update, by P products. It is for thetas of a few hundred numbers.

K-FAC, E-KFAC, KFRA, and `block` with a decay, average their own statistics and are not for this metric: the first three
hold the mean of A times the mean of G, not the mean of A (x) G; `block` holds its exact average in its own memory.

Staleness is the price of every such average: M_t is right where theta moves little within 1 / (1 - decay) updates. On
CartPole, with steps of .01 nats and 512 states each (P = 114), the Fisher matrix of a batch is 43% off that of 16,384
states; the average with decay .5 is 30% off, with .9 it is 49%. With P = 4,610 and 2,048 states a batch takes .14 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, cast

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.curvature import ByProduct, Curvature, Given, PullBack, whole_root
from rlopt.core.heads import Head
from rlopt.core.parts import (
    EUCLIDEAN,
    HISTORY,
    KL,
    OBJECTIVE,
    PRODUCT,
    ROOT,
    SEMIDEFINITE,
    STATISTICS,
    Bound,
    Metric,
    Objective,
    Requirements,
    State,
)
from rlopt.core.requirements import Incompatible
from rlopt.core.samples import Samples
from rlopt.core.tapes.joined import JoinedTape
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class Average(Metric):
    """M_t = decayed average over updates of the metric ``of``, in its units; weights sum to one from the first on.

    Options:
        of: the metric that is averaged; one that has no memory of its own.
        decay: weight of an update relative to the one after it; above 0 and below 1.
        memory: batches keeps theta and samples of the last updates, for every solver; matrix keeps M, for products.
        batches: how many of the last updates count, this one included; 2 or above. For batches alone.
        largest: the largest P for which a matrix is kept; 1 or above. For matrix alone.

    ``batches`` serves one rank only. Source: Martens and Grosse 2015, section 5, for the weights. Raises ValueError
    where an option is out of its range, Incompatible where P is above ``largest``.
    """

    of: Metric
    decay: float
    memory: Literal["batches", "matrix"]
    batches: int
    largest: int

    def __post_init__(self) -> None:
        remembers = isinstance(self.of, Average) or bool({HISTORY, STATISTICS, EUCLIDEAN} & self.of.supplies)
        wanted = "a metric of samples that has no memory of its own"
        check(not remembers, "of", wanted, type(self.of).__module__.rpartition(".")[2])
        check(0 < self.decay < 1, "decay", "above 0 and below 1", self.decay)
        check(self.memory in ("batches", "matrix"), "memory", "batches or matrix", self.memory)
        check(self.batches >= 2, "batches", "a whole number, 2 or above", self.batches)
        check(self.largest >= 1, "largest", "a whole number, 1 or above", self.largest)

    @property
    def supplies(self) -> frozenset[str]:
        kept = {PRODUCT, SEMIDEFINITE, KL, OBJECTIVE}
        return self.of.supplies & (kept | {ROOT} if self.memory == "batches" else kept)

    @property
    def requirements(self) -> Requirements:
        by_batches = self.memory == "batches"
        return replace(
            self.of.requirements,
            one_rank=by_batches,
            batches=self.batches if by_batches else 1,
            check_size=self._check_size,
            holds_matrix=not by_batches,
            unread={"largest": "memory"} if by_batches else {"batches": "memory"},
            instead={f"of.{option}": value for option, value in self.of.requirements.instead.items()},
        )

    def _check_size(self, size: int) -> None:
        """Raise Incompatible unless theta may have ``size`` numbers."""
        if self.of.requirements.check_size:
            self.of.requirements.check_size(size)
        if self.memory == "matrix" and size > self.largest:
            reason = f"it would hold a matrix {size} x {size}, and at most {self.largest} x {self.largest} is allowed"
            raise Incompatible(reason, memory="batches", largest=size)

    def init(self) -> State:
        return {"of": self.of.init(), **({"batches": {}} if self.memory == "batches" else {})}

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        now, inner = self.of.bind(state["of"], tape, head, samples, objective)
        if self.memory == "matrix":
            return self._matrix(state, now, inner)
        kept = list(state["batches"].values())  # oldest first
        past = [self._again(batch, tape, head, objective) for batch in kept]
        kept.append({"theta": tape.theta(), "of": state["of"], "samples": _copied(samples)})
        batches = {str(i): batch for i, batch in enumerate(kept[1 - self.batches :])}
        return self._weighted([*past, now], tape), {"of": inner, "batches": batches}

    def _again(self, batch: State, tape: Tape, head: Head, objective: Objective) -> Curvature:
        """M of an earlier update, from what was kept of it."""
        samples = Samples(**batch["samples"])
        return self.of.bind(batch["of"], tape.at(batch["theta"], samples.inputs), head, samples, objective)[0]

    def _weighted(self, curvatures: Sequence[Curvature], tape: Tape) -> Curvature:
        """The average of these, oldest first."""
        weights = [self.decay**age for age in reversed(range(len(curvatures)))]
        weights = [weight / sum(weights) for weight in weights]
        if all(isinstance(curvature, PullBack) for curvature in curvatures):
            return joined(cast("Sequence[PullBack]", curvatures), weights)

        def product(v: Tensor) -> Tensor:
            return torch.stack([w * c.product(v) for w, c in zip(weights, curvatures, strict=True)]).sum(0)

        return ByProduct(tape, product)

    def _matrix(self, state: State, now: Curvature, inner: State) -> Bound:
        self._check_size(now.size)
        M, weight = now.dense(), self.decay * state.get("weight", 0.0) + 1
        if "M" in state:
            M = torch.lerp(state["M"], M, 1 / weight)
        return Given(M), {"of": inner, "weight": weight, "M": M}


def joined(parts: Sequence[PullBack], weights: Sequence[float]) -> PullBack:
    """sum_i weight_i M_i as one pull-back, of the samples of all parts."""
    tape = JoinedTape([part.tape for part in parts])
    share = torch.cat([weight * part.share for weight, part in zip(weights, parts, strict=True)])

    def apply(t: Tensor) -> Tensor:
        return torch.cat([part.apply(own) for part, own in zip(parts, t.split(tape.counts), strict=True)])

    def product(v: Tensor) -> Tensor:
        products = [weight * part.local_product(v) for weight, part in zip(weights, parts, strict=True)]
        return torch.stack(products).sum(0)

    root = whole_root(lambda: torch.cat([part.factors() for part in parts], 1))
    return PullBack(tape, share, apply, root if all(part.root for part in parts) else None, product)


def _copied(samples: Samples) -> State:
    """The samples' fields that are there; copies, since a rollout's buffers are written again."""
    values = {field.name: getattr(samples, field.name) for field in fields(samples)}
    return {name: value.clone() for name, value in values.items() if value is not None}

"""Fisher metric: C = E_{a ~ p(. | z)}[s s^T] in output space, s = d log p(a | z) / dz (Amari 1998; Kakade 2001, eq. 3).

The expectation is over the model's own actions. With ``samples: null`` the head takes it in closed form; with m it is
the mean over m actions drawn for every sample now, an unbiased estimate with error of order 1 / sqrt(m B) (Martens and
Grosse 2015, section 5). 1/2 v^T M v is the mean KL divergence between the policies at theta and theta + v, in nats, to
second order. The draws depend on the seed, on how often the metric was bound (its state) and on the rank alone.

With ``samples: taken`` the one draw is the action that was taken. It came from the policy that acted, so it is a draw
from the model only before the first step after a rollout: schedules with more than one step are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.curvature import PullBack, factored, whole_root
from rlopt.core.heads import Head
from rlopt.core.parts import BATCH, KL, PRODUCT, ROOT, SEMIDEFINITE, Bound, Metric, Objective, Requirements, State
from rlopt.core.samples import Samples, to_device
from rlopt.core.seeds import seeded
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import rank


@dataclass(frozen=True)
class Fisher(Metric):
    """M = mean of J^T E[s s^T] J over samples, s the score of the model's own actions; 1/2 v^T M v is KL in nats.

    Options:
        samples: null takes the expectation in closed form; m, 1 or above, averages over m actions drawn for every
            sample; taken uses the action that was taken, for the first step after a rollout alone.
        seed: of the draws, a whole number, 0 or above. It has no effect where none are drawn.

    Source: Amari 1998; Kakade 2001, eq. 3; for the draws Martens and Grosse 2015, section 5. Raises ValueError where
    an option is out of its range.
    """

    samples: int | Literal["taken"] | None
    seed: int

    supplies: ClassVar[frozenset[str]] = frozenset({BATCH, PRODUCT, ROOT, SEMIDEFINITE, KL})

    def __post_init__(self) -> None:
        if isinstance(self.samples, int):
            at_least_one("samples", self.samples)
        else:
            known = self.samples in (None, "taken")
            check(known, "samples", "null, a whole number of draws, or taken", self.samples)
        check(self.seed >= 0, "seed", "a whole number, 0 or above", self.seed)

    @property
    def requirements(self) -> Requirements:
        taken = self.samples == "taken"
        unread = {} if isinstance(self.samples, int) else {"seed": "samples"}
        instead = {"samples": 1} if taken else {}
        return Requirements(reads_actions=taken, first_step_only=taken, unread=unread, instead=instead)

    def init(self) -> State:
        return {"draws": 0} if isinstance(self.samples, int) else {}

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        z = tape.outputs
        if self.samples is None:
            root = partial(_root, head, z)
            return PullBack(tape, samples.share, head.fisher_product(z), root), state
        if self.samples == "taken":
            return factored(tape, samples.share, head.log_prob_and_score(z, samples.actions)[1][None]), state
        draw = whole_root(partial(_scores, head, z, self.samples, (self.seed, state["draws"], rank())))
        drawn = cache(lambda: factored(tape, samples.share, draw()))  # not before somebody asks
        shortcut = (lambda v: drawn().local_product(v)) if self.samples == 1 else None
        return PullBack(tape, samples.share, lambda t: drawn().apply(t), draw, shortcut), {"draws": state["draws"] + 1}


def _root(head: Head, z: Tensor, samples: slice = slice(None)) -> Tensor:  # noqa: B008
    """U (K, b, O) of these samples."""
    return head.fisher_root(z[samples])


def _scores(head: Head, z: Tensor, count: int, seeds: tuple[int, ...]) -> Tensor:
    """u_k = s_k / sqrt(m) at m = ``count`` actions drawn from p(. | z), (m, B, O)."""
    generator = seeded(*seeds)
    draw = torch.randn if head.noise == "normal" else torch.rand
    # on the CPU in any case, so that every device gets the same noise
    noise = to_device(draw(count * len(z), head.noise_size, generator=generator, dtype=z.dtype), z.device)
    repeated = z.repeat(count, 1)
    _, scores = head.log_prob_and_score(repeated, head.sample(repeated, noise))
    root: float = count**0.5
    return scores.view(count, *z.shape) / root

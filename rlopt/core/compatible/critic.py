"""Compatible critic: V(s) = v . phi(s) and A(s, a) = w . psi(s, a), psi = d log pi(a | s) / d theta (P,) the score.

With such an advantage the policy gradient is g = E[psi A] = E[psi psi^T] w = F w, so that w = F^-1 g is the natural
gradient itself (Sutton et al. 2000, theorem 2; Kakade 2001, theorem 1). A critic yields w, and the advantages that
make g = M w on these samples for its own metric M; `solver=compatible` then takes w, any other solver finds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from rlopt.core.heads import Head
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class Experience:
    """T steps of E environments, B = T E, under the policy of ``tape``; samples lie in the order t E + e."""

    tape: Tape
    head: Head
    samples: Samples
    rewards: Tensor  # (T, E)
    done: Tensor  # (T, E) bool, terminated or truncated
    features: Tensor  # (B, n) phi of the state acted in
    following: Tensor  # (B, n) phi of the state it led to: 0 after termination, of the last one seen after truncation


@dataclass(frozen=True)
class Estimate:
    natural: Tensor  # w (P,)
    samples: Samples  # with the critic's advantages, and weight 0 where it had no use for a sample
    scalars: Mapping[str, Tensor | float] = field(default_factory=dict)


class CompatibleCritic(Protocol):
    @property
    def degrees(self) -> tuple[int, ...] | None:
        """Which features of the state: see `features.state_features`."""
        ...

    @property
    def whole_episodes(self) -> bool:
        """True: learns only from episodes that begin and end in the batch."""
        ...

    def estimate(self, experience: Experience, gamma: float) -> Estimate:
        """w from this experience; NumericalFailure where its equations have no solution."""
        ...

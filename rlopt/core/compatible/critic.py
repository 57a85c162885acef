"""Compatible critic: V(s) = v . phi(s) and A(s, a) = w . psi(s, a), psi = d log pi(a | s) / d theta (P,) the score.

With such an advantage the policy gradient is g = E[psi A] = E[psi psi^T] w = F w, so that w = F^-1 g is the natural
gradient itself (Sutton et al. 2000, theorem 2; Kakade 2001, theorem 1). A critic yields w, and the advantages that
make g = M w on these samples for its own metric M; the compatible solver then takes w, any other finds it again.

Features phi(s) of a state are monomials of the observation, or the last hidden layer of the critic's network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Protocol

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.heads import Head
from rlopt.core.network import Network
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
    following: Tensor  # (B, n) phi of the next state: 0 after termination; after truncation that of the last state seen


@dataclass(frozen=True)
class Estimate:
    """The result of a compatible critic for one rollout."""

    natural: Tensor  # w (P,)
    samples: Samples  # with the critic's advantages, and weight 0 for those it did not use
    scalars: Mapping[str, Tensor | float] = field(default_factory=dict)


class CompatibleCritic(Protocol):
    """A critic that learns from one rollout at a time and keeps no state."""

    @property
    def degrees(self) -> tuple[int, ...] | None:
        """Which features of the state: see `state_features`."""

    @property
    def whole_episodes(self) -> bool:
        """True: learns only from episodes that begin and end in the batch."""

    def estimate(self, experience: Experience, gamma: float) -> Estimate:
        """w from this experience; NumericalFailure where its equations have no solution."""


def check_degrees(degrees: tuple[int, ...] | None) -> None:
    """Raise ValueError unless these are distinct degrees, 0 or above, or None."""
    sound = degrees is None or (len(degrees) > 0 and min(degrees) >= 0 and len(set(degrees)) == len(degrees))
    check(sound, "degrees", "null or a list of different whole numbers, 0 or above, such as [0,1,2]", degrees)


def state_features(degrees: tuple[int, ...] | None, network: Network, theta: Tensor, inputs: Tensor) -> Tensor:
    """(N, n) phi at inputs (N, ...): all monomials of these degrees, or None: the last hidden layer and a constant."""
    if degrees is not None:
        return monomials(inputs.flatten(1)[:, : -network.unread or None], degrees)
    tape = network.tape(theta, inputs)
    (a,) = tape.layers(torch.ones_like(tape.outputs)[None])[-1].inputs.unbind(1)
    return a


def monomials(x: Tensor, degrees: Sequence[int]) -> Tensor:
    """(N, D) -> (N, n): the products of every d columns, repetition allowed, for every degree d."""
    columns = [
        x[:, list(chosen)].prod(1) for d in degrees for chosen in combinations_with_replacement(range(x.shape[1]), d)
    ]
    return torch.stack(columns, 1)

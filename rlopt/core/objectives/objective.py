"""Objective: what the update climbs, a weighted mean over samples of a function of the outputs z."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol, cast

from torch import Tensor

from rlopt.core.heads import Head
from rlopt.core.samples import Samples


class Objective(Protocol):
    """g is the gradient in theta of samples.mean(values)."""

    serves: ClassVar[Literal["policy", "critic"]]  # whose samples it reads: with advantages, or with targets as actions

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        """(B,) each sample's contribution at outputs z (B, O)."""
        ...

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        """The same, with its gradient in z (B, O)."""
        ...

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        """(B, O, O) Hessian in z of each sample's value."""
        ...


class Adaptive(Objective, Protocol):
    """An objective with a coefficient that learns from every update. Its state is plain numbers."""

    def init(self) -> dict[str, Any]: ...

    def at(self, state: dict[str, Any]) -> Objective:
        """The objective with its coefficient as it stands."""
        ...

    def adapt(self, state: dict[str, Any], kl: float) -> dict[str, Any]:
        """State after a whole update that took the policy ``kl`` nats, mean over states, from the one that acted."""
        ...


def adaptive(objective: Objective) -> Adaptive | None:
    """The objective, if it is one that adapts."""
    return cast(Adaptive, objective) if hasattr(objective, "adapt") else None


def add_entropy(coefficient: float, head: Head, z: Tensor, values: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """values + coefficient H(p(. | z)), and its gradient."""
    if not coefficient:
        return values, gradient
    return values + coefficient * head.entropy(z), gradient + coefficient * head.entropy_gradient(z)


def add_entropy_hessian(coefficient: float, head: Head, z: Tensor, hessian: Tensor) -> Tensor:
    """hessian + coefficient times that of H(p(. | z)), (B, O, O)."""
    return hessian + coefficient * head.entropy_hessian(z) if coefficient else hessian


def ratio_hessian(head: Head, z: Tensor, samples: Samples, slope: Tensor) -> Tensor:
    """slope (B,) times the Hessian of r = pi / pi_old over r: slope (s s^T + H), s and H of log pi; (B, O, O)."""
    _, s = head.log_prob_and_score(z, samples.actions)
    return slope[:, None, None] * (s[:, :, None] * s[:, None, :] + head.log_prob_hessian(z, samples.actions))

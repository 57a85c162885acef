"""Head: the distribution that a network's outputs z (B, O) stand for, and its geometry in z.

Everything is closed form and differentiable by hand: rlopt pulls gradients and metrics back through a tape, so a head
gives derivatives with respect to z, never to theta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor


class Head(Protocol):
    """Distribution p(a | z) with O outputs, of which the last ``constants`` do not depend on the input."""

    noise: ClassVar[Literal["normal", "uniform"]]  # the distribution of the noise that `sample` takes

    @property
    def network_outputs(self) -> int:
        """Outputs that the network computes, O - constants."""

    @property
    def constants(self) -> int:
        """S, outputs held as parameters of their own."""
        return 0

    @property
    def noise_size(self) -> int:
        """Numbers of noise per sample."""

    @property
    def bounded(self) -> bool:
        """True where some z are outside the domain (a scale that could fall to 0)."""
        return False

    def initial_constants(self) -> Tensor:
        """(S,) what the constants start from."""
        return torch.zeros(self.constants)

    @property
    def hold(self) -> int | None:
        """Steps of an environment for which a draw of noise lasts; None: a rollout."""
        return 1

    def prepare(self, weight: Tensor) -> None:
        """Change the initial weight (O - constants, I) of the network's last layer. Raises ValueError."""
        return None

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        """(B,) log p(a | z), nats."""

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) log p(a | z) and (B, O) its gradient in z."""

    def log_prob_hessian(self, z: Tensor, actions: Tensor) -> Tensor:
        """(B, O, O) Hessian of log p(a | z) in z.

        By default minus the Fisher information, whatever the actions: right for natural parameters z of an exponential
        family.
        """
        return -self.kl_hessian(z, z)

    def entropy(self, z: Tensor) -> Tensor:
        """(B,) entropy, nats."""

    def entropy_gradient(self, z: Tensor) -> Tensor:
        """(B, O) gradient of the entropy in z."""

    def entropy_hessian(self, z: Tensor) -> Tensor:
        """(B, O, O) Hessian of the entropy in z."""

    def std(self, z: Tensor) -> Tensor | None:
        """(B,) standard deviation of the action, mean over its numbers; None where it is not made of real numbers."""
        return None

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """(B,) KL(p(. | old) || p(. | new)), nats."""

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        """(B, O) gradient of `kl` in ``new``."""

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        """(B, O, O) Hessian of `kl` in ``new``; at ``old`` itself the Fisher information."""

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """The function t -> C t, (B, O) each, with C_b the Fisher information of sample b in z.

        What depends on z alone is computed here, once, and not at each product.
        """

    def fisher_root(self, z: Tensor) -> Tensor:
        """U (K, B, O) with C_b = sum_k u_kb u_kb^T."""

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """Actions drawn with noise (B, noise_size)."""

    def mode(self, z: Tensor) -> Tensor:
        """The most probable actions."""

    def in_domain(self, z: Tensor) -> Tensor:
        """() bool: every z is finite and names a distribution."""
        return z.isfinite().all()

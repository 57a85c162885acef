"""Joint head: a policy and a value from one network, independent given its outputs z = (V, z_pi).

p(a, R | z) = p(a | z_pi) N(R; V, variance): log-probabilities, KL and entropies add up, and the Fisher information is
C = diag(1 / variance, F_pi) (Wu et al. 2017, ACKTR, section 3.1). The value stands first, so that the policy's
constants stay last. An "action" is a row (R, a) of floating-point numbers, the target before the policy's action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.heads.head import Head
from rlopt.core.heads.value import Value


@dataclass(frozen=True)
class Joint(Head):
    """A value and a policy side by side, z (B, 1 + O), the value first; actions are rows (B, 1 + A), see `pack`.

    Options:
        policy: the policy's head.
        variance: of the value, in squared units of the (scaled) return; above 0, ValueError otherwise.

    Source: Wu et al. 2017, ACKTR, section 3.1.
    """

    policy: Head
    variance: float

    noise: ClassVar[Literal["normal", "uniform"]] = "normal"

    def __post_init__(self) -> None:
        Value(self.variance)  # its check

    @cached_property
    def value(self) -> Value:
        return Value(self.variance)

    @property
    def network_outputs(self) -> int:
        return 1 + self.policy.network_outputs

    @property
    def constants(self) -> int:
        return self.policy.constants

    @property
    def noise_size(self) -> int:
        return 1 + self.policy.noise_size

    @property
    def bounded(self) -> bool:
        return self.policy.bounded

    def initial_constants(self) -> Tensor:
        return self.policy.initial_constants()

    @property
    def hold(self) -> int | None:
        return self.policy.hold

    def prepare(self, weight: Tensor) -> None:
        self.policy.prepare(weight[1:])

    def pack(self, targets: Tensor, actions: Tensor) -> Tensor:
        """Targets (B,) and the policy's actions (B, ...) as rows (B, 1 + A)."""
        return torch.cat([targets[:, None], actions.reshape(len(actions), -1).to(targets.dtype)], 1)

    def unpack(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Targets (B, 1), and actions as the policy's head takes them; whole numbers are exact up to 2^24."""
        shape, whole = self._form
        of_policy = actions[:, 1:].reshape(len(actions), *shape)
        return actions[:, :1], of_policy.long() if whole else of_policy

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        targets, of_policy = self.unpack(actions)
        return self.policy.log_prob(z[:, 1:], of_policy) + self.value.log_prob(z[:, :1], targets)

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        targets, of_policy = self.unpack(actions)
        log_prob, score = self.policy.log_prob_and_score(z[:, 1:], of_policy)
        of_value, slope = self.value.log_prob_and_score(z[:, :1], targets)
        return log_prob + of_value, torch.cat([slope, score], 1)

    def log_prob_hessian(self, z: Tensor, actions: Tensor) -> Tensor:
        targets, of_policy = self.unpack(actions)
        of_value = self.value.log_prob_hessian(z[:, :1], targets)
        return blocks(of_value, self.policy.log_prob_hessian(z[:, 1:], of_policy))

    def entropy(self, z: Tensor) -> Tensor:
        return self.policy.entropy(z[:, 1:]) + self.value.entropy(z[:, :1])

    def entropy_gradient(self, z: Tensor) -> Tensor:
        return torch.cat([self.value.entropy_gradient(z[:, :1]), self.policy.entropy_gradient(z[:, 1:])], 1)

    def entropy_hessian(self, z: Tensor) -> Tensor:
        return blocks(self.value.entropy_hessian(z[:, :1]), self.policy.entropy_hessian(z[:, 1:]))

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        return self.policy.kl(old[:, 1:], new[:, 1:]) + self.value.kl(old[:, :1], new[:, :1])

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        of_value = self.value.kl_gradient(old[:, :1], new[:, :1])
        return torch.cat([of_value, self.policy.kl_gradient(old[:, 1:], new[:, 1:])], 1)

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        of_value = self.value.kl_hessian(old[:, :1], new[:, :1])
        return blocks(of_value, self.policy.kl_hessian(old[:, 1:], new[:, 1:]))

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        of_value, of_policy = self.value.fisher_product(z[:, :1]), self.policy.fisher_product(z[:, 1:])
        return lambda t: torch.cat([of_value(t[:, :1]), of_policy(t[:, 1:])], 1)

    def fisher_root(self, z: Tensor) -> Tensor:
        """u_0 = e_0 / sigma_v, then the policy's, K = 1 + K_pi."""
        of_policy = self.policy.fisher_root(z[:, 1:])
        U = z.new_zeros(1 + len(of_policy), *z.shape)
        U[0, :, 0] = self.variance**-0.5
        U[1:, :, 1:] = of_policy
        return U

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        of_policy = noise[:, 1:] if self.policy.noise == "normal" else torch.special.ndtr(noise[:, 1:])
        targets = self.value.sample(z[:, :1], noise[:, :1])
        return self.pack(targets.squeeze(1), self.policy.sample(z[:, 1:], of_policy))

    def mode(self, z: Tensor) -> Tensor:
        return self.pack(z[:, 0], self.policy.mode(z[:, 1:]))

    def in_domain(self, z: Tensor) -> Tensor:
        return self.value.in_domain(z[:, :1]) & self.policy.in_domain(z[:, 1:])

    @cached_property
    def _form(self) -> tuple[torch.Size, bool]:
        """Shape of one of the policy's actions, and whether it is made of whole numbers."""
        action = self.policy.mode(torch.zeros(1, self.policy.network_outputs + self.policy.constants))
        return action.shape[1:], not action.is_floating_point()


def blocks(value: Tensor, policy: Tensor) -> Tensor:
    """diag(value, policy), (B, 1 + O, 1 + O) from (B, 1, 1) and (B, O, O)."""
    both = policy.new_zeros(len(policy), 1 + policy.shape[1], 1 + policy.shape[2])
    both[:, :1, :1], both[:, 1:, 1:] = value, policy
    return both

"""Rollout: T steps of E environments, the memory that holds them, and the flat samples (B = T E) to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import gymnasium as gym
import torch
from torch import Tensor

from rlopt.core.heads import Head, Joint
from rlopt.core.samples import Samples
from rlopt.envs.spaces import PolicyHead, observation_dtype, observation_size
from rlopt.parallel.processes import shared_zeros
from rlopt.policy.inference import FrozenPolicy

Buffer = dict[str, Tensor]  # by the names of a Rollout's fields, [T, E, ...]


@dataclass(frozen=True)
class Rollout:
    """T steps of E environments, on the host. Inputs are normalised as the acting policy saw them."""

    inputs: Tensor  # [T + 1, E, D] normalised observations; the last row starts the next rollout
    observations: Tensor  # [T, E, D] raw, for the normaliser
    following: Tensor  # [1, E, D] raw observations after the last step
    actions: Tensor  # [T, E, ...] as drawn
    outputs: Tensor  # [T, E, O] of the acting policy
    rewards: Tensor  # [T, E] raw
    terminated: Tensor  # [T, E] bool
    truncated: Tensor  # [T, E] bool
    time: Tensor  # [T, E] steps since the start of the episode
    episode: Tensor  # [T, E] episode identifier
    mask: Tensor  # [T, E] 1 for a transition, 0 where the environment was only reset
    final: Tensor  # (N, D) normalised last observations of truncated episodes
    raw_final: Tensor  # (N, D) the same as they came
    final_index: tuple[Tensor, Tensor]  # their t and e, (N,) each
    first: int = 0  # number of its first environment, over the whole run
    total: int | None = None  # environments of the whole run; None: no others than these

    @cached_property
    def done(self) -> Tensor:
        """[T, E] bool: terminated or truncated."""
        return self.terminated | self.truncated

    @property
    def steps(self) -> int:
        """Number of transitions."""
        return int(self.mask.sum())

    @property
    def visited(self) -> Tensor:
        """(N, D) raw observations that were acted on."""
        happened = self.mask.flatten() > 0
        observations = self.observations.flatten(0, 1)
        return observations if happened.all() else observations[happened]

    @property
    def course(self) -> dict[str, Tensor]:
        """What a transition consists of, by name, [T, E, ...], in the order in which one causes the next."""
        return {
            "observation": self.observations,
            "policy output": self.outputs,
            "action": self.actions,
            "reward": self.rewards,
        }

    @property
    def last(self) -> Tensor:
        """(E + N, D) normalised observations whose values continue the returns: of the last row, and ``final``."""
        return torch.cat([self.inputs[-1], self.final])

    def seen_by(self, policy: FrozenPolicy) -> Rollout:
        """The same transitions, with the inputs and outputs of this policy."""
        raw = torch.cat([self.observations, self.following])
        inputs = policy.normalise(raw, out=torch.empty_like(raw))
        outputs = policy.outputs(inputs[:-1].flatten(0, 1)).view(self.outputs.shape)
        final = policy.normalise(self.raw_final, out=torch.empty_like(self.raw_final))
        return replace(self, inputs=inputs, outputs=outputs, final=final)

    @property
    def index(self) -> Tensor | None:
        """(B,) number of each transition in the rollout of all environments; None where there are no others."""
        steps, count = self.rewards.shape
        if self.total in (None, count):
            return None
        return (torch.arange(steps)[:, None] * self.total + self.first + torch.arange(count)).flatten()

    def weight(self, gamma: float | None) -> Tensor:
        """(B,) the mask; with ``gamma``, times gamma^time, which weights states by their discount."""
        weight = self.mask if gamma is None else self.mask * gamma ** self.time.to(self.mask.dtype)
        return weight.reshape(-1)

    def next_values(self, values: Tensor, final_values: Tensor) -> Tensor:
        """[T, E] value of the state that each transition led to.

        ``values`` [T + 1, E] are those of ``inputs``, ``final_values`` (N,) those of ``final``.
        """
        following = values[1:].clone()
        following[self.final_index] = final_values
        return following

    def actor_samples(self, head: Head, advantages: Tensor, weight: Tensor) -> Samples:
        """Samples for the policy; advantages and weight (B,)."""
        outputs, actions = self.outputs.flatten(0, 1), self.actions.flatten(0, 1)
        old = {"old_outputs": outputs, "old_log_prob": head.log_prob(outputs, actions)}
        return self._samples(actions=actions, weight=weight, advantages=advantages, **old)

    def joint_samples(
        self, head: Joint, advantages: Tensor, targets: Tensor, values: Tensor, weight: Tensor
    ) -> Samples:
        """Samples for a network that is policy and value; arguments as for the other two."""
        own = self.actor_samples(head.policy, advantages, weight)
        old = torch.cat([values[:, None], own.old_outputs], 1)
        return own.replacing(actions=head.pack(targets, own.actions), old_outputs=old)

    def critic_samples(self, targets: Tensor, values: Tensor, weight: Tensor) -> Samples:
        """Samples for the critic; targets, values before training, and weight (B,)."""
        return self._samples(actions=targets[:, None], weight=weight, old_outputs=values[:, None])

    def _samples(self, **given: Tensor) -> Samples:
        inputs, time, episode = self.inputs[:-1].flatten(0, 1), self.time.flatten(), self.episode.flatten()
        return Samples(inputs=inputs, time=time, episode=episode, index=self.index, **given)  # type: ignore[arg-type]


def allocate_buffer(
    steps: int, num_envs: int, space: gym.Space, head: PolicyHead, dtype: torch.dtype, shared: bool = False
) -> Buffer:
    """Memory for ``steps`` transitions of each environment, for observations of ``space`` and actions of ``head``.

    With ``shared``, worker processes write to the same memory.
    """
    size, observed = observation_size(space), observation_dtype(space, dtype)
    outputs = head.network_outputs + head.constants
    action = head.mode(torch.zeros(1, outputs, dtype=dtype))
    T, E = steps, num_envs
    shapes = {
        "inputs": ((T + 1, E, size), observed),
        "observations": ((T, E, size), observed),
        "following": ((1, E, size), observed),
        "actions": ((T, E, *action.shape[1:]), action.dtype),
        "outputs": ((T, E, outputs), dtype),
        "rewards": ((T, E), dtype),
        "terminated": ((T, E), torch.bool),
        "truncated": ((T, E), torch.bool),
        "time": ((T, E), torch.int64),
        "episode": ((T, E), torch.int64),
        "mask": ((T, E), dtype),
    }
    zeros = shared_zeros if shared else torch.zeros
    buffer = {name: zeros(shape, dtype=kind) for name, (shape, kind) in shapes.items()}
    buffer["mask"].fill_(1)
    return buffer

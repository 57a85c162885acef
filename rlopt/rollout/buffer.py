"""Rollout: T steps of E environments, the memory that holds them, and the flat samples (B = T E) to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import gymnasium as gym
import torch
from torch import Tensor

from rlopt.core.heads import Head, Joint
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.envs.observations import observation_dtype, observation_size
from rlopt.envs.spaces import PolicyHead
from rlopt.parallel.processes import shared_zeros
from rlopt.policy.device import DevicePolicy
from rlopt.policy.inference import FrozenPolicy

Buffer = dict[str, Tensor]  # by the names of a Rollout's fields, [T, E, ...]


@dataclass(frozen=True)
class Rollout:
    """T steps of E environments, all on one device. Inputs are normalised as the acting policy saw them."""

    inputs: Tensor  # [T + 1, E, D] normalised observations; the last row starts the next rollout
    observations: Tensor  # [T, E, D] raw, for the normaliser; of tensor environments in their own type
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
    memory: Tensor | None = None  # [T + 1, E, M] with which the policy met each observation, where it has a memory
    infos: Tensor | None = None  # [T, E, K] the entries of record.info, NaN where absent
    by_environment: bool = False  # order of the flat samples: environment after environment, not time after time

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

    def seen_by(self, policy: FrozenPolicy | DevicePolicy) -> Rollout:
        """The same transitions, with the inputs, outputs and memory of this policy."""
        raw = torch.cat([self.observations, self.following])
        inputs = policy.normalise(raw, out=torch.empty_like(raw, dtype=self.inputs.dtype))
        final = policy.normalise(self.raw_final, out=torch.empty_like(self.raw_final, dtype=self.inputs.dtype))
        seen = replace(self, inputs=inputs, final=final)
        if self.memory is None or isinstance(policy, DevicePolicy):
            outputs = policy.outputs(inputs[:-1].flatten(0, 1)).view(self.outputs.shape)
            return replace(seen, outputs=outputs)
        outputs, memory = torch.empty_like(self.outputs), self.memory.clone()
        for t, begins in enumerate(self.begins):
            memory[t][begins] = 0
            memory[t + 1] = memory[t]
            outputs[t] = policy.outputs(inputs[t], memory[t + 1])
        return replace(seen, outputs=outputs, memory=memory)

    @property
    def begins(self) -> Tensor:
        """[T, E] bool: an episode begins, and with it an empty memory."""
        return (self.time == 0) & (self.mask > 0)

    def rows(self, network: Network, memory: Tensor | None) -> Tensor | None:
        """(B, K + 1 + M) the rows of a network with memory, see policy.recurrent; of one without (B, K) of its columns.

        None where the inputs themselves are the rows. ``memory`` [T + 1, E, M] is the one with which that network
        meets each observation.
        """
        seen = network.select(self.inputs[:-1])
        if not network.memory:
            return None if network.columns is None else self.flat(seen)
        assert memory is not None
        start = self.begins
        start[:: network.sequence] = True
        parts = [seen.to(memory.dtype), start[..., None].to(memory.dtype), memory[:-1]]
        return self.flat(torch.cat(parts, 2))

    def unrolled(self, network: Network, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ((T + 1) E, K + 1 + M) of every environment's whole rollout, which begins with ``memory`` (E, M).

        And rows (N, K + 1) of the truncated episodes' last observations, which want the memory then.
        """
        T, E = self.rewards.shape
        start, met = memory.new_zeros(T + 1, E, 1), memory.new_zeros(T + 1, E, memory.shape[1])
        start[:-1, :, 0] = self.begins.to(memory.dtype)
        met[0] = torch.where(self.begins[0][:, None], 0, memory)
        rows = torch.cat([network.select(self.inputs).to(memory.dtype), start, met], 2).transpose(0, 1).flatten(0, 1)
        return rows, torch.cat([network.select(self.final), memory.new_ones(len(self.final), 1)], 1)

    def flat(self, x: Tensor) -> Tensor:
        """[T, E, ...] as samples (B, ...)."""
        return (x.transpose(0, 1) if self.by_environment else x).flatten(0, 1)

    @property
    def index(self) -> Tensor | None:
        """(B,) number of each transition in the rollout of all environments; None where there are no others.

        By environment it is None too: the samples of one rank then follow those of the rank before.
        """
        steps, count = self.rewards.shape
        if self.total in (None, count) or self.by_environment:
            return None
        at = self.rewards.device
        each = torch.arange(steps, device=at)[:, None] * self.total + self.first + torch.arange(count, device=at)
        return each.flatten()

    def weight(self, gamma: float | None) -> Tensor:
        """(B,) the mask; with ``gamma``, times gamma^time, which weights states by their discount."""
        weight = self.mask if gamma is None else self.mask * gamma ** self.time.to(self.mask.dtype)
        return self.flat(weight)

    def next_values(self, values: Tensor, final_values: Tensor) -> Tensor:
        """[T, E] value of the state that each transition led to.

        ``values`` [T + 1, E] are those of ``inputs``, ``final_values`` (N,) those of ``final``.
        """
        following = values[1:].clone()
        following[self.final_index] = final_values
        return following

    def actor_samples(self, head: Head, advantages: Tensor, weight: Tensor, rows: Tensor | None = None) -> Samples:
        """Samples for the policy; advantages and weight (B,). ``rows``, where it has a memory, are those of `rows`."""
        outputs, actions = self.flat(self.outputs), self.flat(self.actions)
        old = {"old_outputs": outputs, "old_log_prob": head.log_prob(outputs, actions)}
        return self._samples(rows, actions=actions, weight=weight, advantages=advantages, **old)

    def joint_samples(
        self,
        head: Joint,
        advantages: Tensor,
        targets: Tensor,
        values: Tensor,
        weight: Tensor,
        rows: Tensor | None = None,
    ) -> Samples:
        """Samples for a network that is policy and value; arguments as for the other two."""
        own = self.actor_samples(head.policy, advantages, weight, rows)
        old = torch.cat([values[:, None], own.old_outputs], 1)
        return own.replacing(actions=head.pack(targets, own.actions), old_outputs=old)

    def critic_samples(self, targets: Tensor, values: Tensor, weight: Tensor, rows: Tensor | None = None) -> Samples:
        """Samples for the critic; targets, values before training, and weight (B,). ``rows`` as for the actor."""
        return self._samples(rows, actions=targets[:, None], weight=weight, old_outputs=values[:, None])

    def _samples(self, rows: Tensor | None, **given: Tensor) -> Samples:
        inputs = self.flat(self.inputs[:-1]) if rows is None else rows
        time, episode = self.flat(self.time), self.flat(self.episode)
        return Samples(inputs=inputs, time=time, episode=episode, index=self.index, **given)  # type: ignore[arg-type]


def allocate_buffer(
    steps: int,
    num_envs: int,
    space: gym.Space,
    head: PolicyHead,
    dtype: torch.dtype,
    shared: bool = False,
    memory: int = 0,
    infos: int = 0,
    device: torch.device | None = None,
    kept: torch.dtype | None = None,
) -> Buffer:
    """Memory for ``steps`` transitions of each environment, for observations of ``space`` and actions of ``head``.

    With ``shared``, worker processes write to the same memory. ``memory`` is the size of the policy's own. It is on the
    host, or on ``device``. ``infos`` is the number of entries of record.info. Raw
    observations are of the type ``kept``, by default that of the inputs.
    """
    size, observed = observation_size(space), observation_dtype(space, dtype)
    outputs = head.network_outputs + head.constants
    action = head.mode(torch.zeros(1, outputs, dtype=dtype))
    T, E = steps, num_envs
    shapes = {
        "inputs": ((T + 1, E, size), observed),
        "observations": ((T, E, size), kept or observed),
        "following": ((1, E, size), kept or observed),
        "actions": ((T, E, *action.shape[1:]), action.dtype),
        "outputs": ((T, E, outputs), dtype),
        "rewards": ((T, E), dtype),
        "terminated": ((T, E), torch.bool),
        "truncated": ((T, E), torch.bool),
        "time": ((T, E), torch.int64),
        "episode": ((T, E), torch.int64),
        "mask": ((T, E), dtype),
    }
    if memory:
        shapes["memory"] = ((T + 1, E, memory), dtype)
    if infos:
        shapes["infos"] = ((T, E, infos), torch.float64)
    zeros = shared_zeros if shared else partial(torch.zeros, device=device)
    buffer = {name: zeros(shape, dtype=kind) for name, (shape, kind) in shapes.items()}
    buffer["mask"].fill_(1)
    return buffer

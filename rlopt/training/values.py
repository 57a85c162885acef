"""The values of a rollout, by the network whose first output is V."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.core.popart import to_values
from rlopt.core.samples import to_device
from rlopt.parallel.collectives import all_sum, local_slice
from rlopt.rollout.buffer import Rollout


class Values(NamedTuple):
    """V of every observation of a rollout, on the rollout's device."""

    inputs: Tensor  # [T + 1, E]
    final: Tensor  # (N,) of the truncated episodes' last observations
    memory: Tensor | None = None  # [T + 1, E, M] with which the value's network met the inputs, if it has a memory


def values_of(network: Network, state: State, batch: Rollout, device: torch.device, of_policy: bool) -> Values:
    """V at every input of a batch and at the truncated episodes' last observations.

    ``state`` is the network's, with theta (P,); ``of_policy`` says that the policy's network gives the values, whose
    memory the batch has.
    """
    if network.memory:
        return _in_time(network, state, batch, device, of_policy)
    inputs = network.select(torch.cat([batch.inputs.flatten(0, 1), batch.final]))
    v = value(network, state, to_device(inputs, device)).to(inputs.device)
    count = batch.inputs.shape[0] * batch.inputs.shape[1]
    return Values(v[:count].view(batch.inputs.shape[:2]), v[count:])


@torch.no_grad()
def value(network: Network, state: State, inputs: Tensor) -> Tensor:
    """V (N,) at inputs (N, ...)."""
    return to_values(state.get("targets"), network.outputs(state["theta"], inputs)[:, 0])


def _in_time(network: Network, state: State, batch: Rollout, device: torch.device, of_policy: bool) -> Values:
    """The values of a network with memory, which runs through the whole rollout, and its memory."""
    if batch.memory is not None and of_policy:
        memory = batch.memory[0]
    else:
        mine = local_slice(len(state["memory"]))
        memory = state["memory"][mine.start : mine.stop]
    rows, final = batch.unrolled(network, memory)
    z, after = (x.to("cpu") for x in network.unroll(state["theta"], to_device(rows, device), len(batch.inputs)))
    T, E = batch.rewards.shape
    z, after = (x.view(E, T + 1, -1).transpose(0, 1) for x in (z, after))
    last = torch.cat([final, after[batch.final_index]], 1)
    ends, _ = network.unroll(state["theta"], to_device(last, device), 1)
    met = torch.cat([memory[None], after[:-1]])
    met[:-1][batch.begins] = 0
    v, v_ends = (to_values(state.get("targets"), x[..., 0]) for x in (z, ends))
    return Values(v.contiguous(), v_ends.to("cpu"), met)


def memory_of_all_ranks(before: Tensor, memory: Tensor | None) -> Tensor:
    """The critic's memory (E, M) in all ranks' environments after a rollout; this rank's was [T + 1, E, M] in it."""
    assert memory is not None
    found, mine = torch.zeros_like(before), local_slice(len(before))
    found[mine.start : mine.stop] = memory[-1]
    return all_sum(found)

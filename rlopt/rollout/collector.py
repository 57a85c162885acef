"""Collector: T steps of E environments with a frozen policy -> Batch, in this process. Buffers are allocated once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from rlopt.envs.spaces import PolicyHead
from rlopt.envs.vector import described
from rlopt.envs.watchdog import watched
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.buffer import Batch
from rlopt.rollout.env_state import EnvState, EnvStates, EpisodeHistory
from rlopt.rollout.sampler import Final, Sampler, unhidden
from rlopt.rollout.storage import Storage, allocate


class Collector:
    """Owns the environments and where they stand; the policy comes with each call.

    They are those from number ``first`` on of the run's ``total`` (all by default); seeds and noise go by that number.
    """

    def __init__(
        self,
        envs: VectorEnv,
        head: PolicyHead,
        steps: int,
        seed: int,
        dtype: torch.dtype,
        first: int = 0,
        total: int | None = None,
        timeout: float | None = None,  # seconds that an environment may take over a step
        replays: bool = False,  # actions are kept, so that another process can replay the episodes that are running
    ):
        self.envs, self.num_envs = envs, envs.num_envs
        self.first, self.total = first, total or envs.num_envs
        self._stepper = Sampler(envs, head, steps, seed, dtype, first, self.total)
        self._storage = allocate(steps, self.num_envs, envs.single_observation_space, head, dtype)
        self._policy: FrozenPolicy | None = None
        self._timeout = timeout
        self.replays = replays
        self._running = EpisodeHistory(replays)
        self.boundary: EnvStates | None = None  # where the environments stand after the last rollout

    def start(self, policy: FrozenPolicy) -> None:
        """Name the policy of the next rollout. Here it is collected when it is asked for."""
        self._policy = policy

    def finish(self) -> Batch:
        """The rollout that was started: ``steps`` transitions of every environment, valid until the next one."""
        policy, self._policy = self._policy, None
        assert policy is not None
        place = self._stepper.place
        with watched(place.tolist, self._timeout, lambda: described(place)):
            final = self._stepper.collect(policy, self._storage)
        assert final is not None
        self.boundary = self._running.after(self._storage["actions"], self._stepper.standings())
        return batch(self._storage, [final], policy, self.first, self.total)

    def collect(self, policy: FrozenPolicy) -> Batch:
        """`start` and `finish`."""
        self.start(policy)
        return self.finish()

    def restore(self, standings: Sequence[EnvState | None], anew: int) -> list[int]:
        """Go on from where the environments stood; the numbers of those that begin new episodes. See Sampler."""
        place = self._stepper.place
        with watched(place.tolist, self._timeout, lambda: described(place)):
            begun = self._stepper.restore(standings, anew)
        self._running.restore(standings)
        return begun

    def close(self) -> None:
        self.envs.close()


def batch(storage: Storage, finals: list[Final], policy: FrozenPolicy, first: int, total: int) -> Batch:
    """The rollout in ``storage``, whose truncated episodes ended in ``finals``."""
    t, e, last = (np.concatenate(parts) for parts in zip(*finals, strict=True))
    order = np.lexsort((e, t))
    raw = torch.from_numpy(last[order])
    return Batch(
        **storage,
        final=unhidden(raw, policy.normalise(raw, out=torch.empty_like(raw))),
        final_place=(torch.from_numpy(t[order]), torch.from_numpy(e[order])),
        first=first,
        total=total,
    )

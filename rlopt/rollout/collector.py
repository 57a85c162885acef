"""Collector: T steps of E environments with a frozen policy, in this process -> Rollout. It allocates memory once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from gymnasium.vector import VectorEnv

from rlopt.config.groups import NoiseOptions
from rlopt.envs.spaces import PolicyHead
from rlopt.envs.watchdog import watched
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.buffer import Rollout, allocate_buffer
from rlopt.rollout.env_state import EnvState, EpisodeHistory
from rlopt.rollout.noise import WHITE
from rlopt.rollout.sampler import FinalObservations, Sampler, assemble_rollout


class Collector:
    """Owns environments and their state; the policy comes with each call.

    Its environments have the numbers from ``first`` on, of ``total`` in the run (by default these are all there are).
    Seeds and noise depend on the number. With ``background`` a thread collects from `start` on, while the caller does
    other work: for environments whose simulator lets other threads run.
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
        replays: bool = False,  # True: keep actions, so that another process can replay the running episodes
        background: bool = False,
        memory: int = 0,  # numbers that the policy carries from one step to the next
        noise: NoiseOptions = WHITE,
    ):
        self.envs, self.num_envs = envs, envs.num_envs
        self.first, self.total = first, total or envs.num_envs
        self._sampler = Sampler(envs, head, steps, seed, dtype, first, self.total, memory, noise)
        space = envs.single_observation_space
        allocate = partial(allocate_buffer, steps, self.num_envs, space, head, dtype, memory=memory)
        self._buffers = [allocate() for _ in range(1 + background)]  # the caller reads one while the other is filled
        self._thread = ThreadPoolExecutor(1, "collector") if background else None
        self._collect: Callable[[], FinalObservations | None] = lambda: None  # returns when the rollout is there
        self._policy: FrozenPolicy | None = None
        self._timeout = timeout
        self.replays = replays
        self._history = EpisodeHistory(replays)
        self.boundary: EpisodeHistory | None = None  # the environments after the last rollout

    def start(self, policy: FrozenPolicy) -> None:
        """Set the policy of the next rollout, and begin it if a thread collects; else `finish` does."""
        self._policy = policy
        self._buffers = self._buffers[1:] + self._buffers[:1]
        collect = partial(self._sampler.collect, policy, self._buffers[0])
        self._collect = self._thread.submit(collect).result if self._thread else collect

    def finish(self) -> Rollout:
        """The rollout of `start`: ``steps`` transitions of every environment, valid until the next is finished."""
        policy, self._policy = self._policy, None
        assert policy is not None
        counter = self._sampler.counter
        with watched(counter.snapshot, self._timeout, counter.describe):
            final = self._collect()
        assert final is not None
        self.boundary = self._history = self._history.after(self._buffers[0], self._sampler.env_states())
        return assemble_rollout(self._buffers[0], [final], policy, self.first, self.total)

    @property
    def physics(self) -> float:
        """Seconds that the simulator took so far, where the backend measures them; else 0."""
        return self._sampler.counter.physics / 1e9

    def collect(self, policy: FrozenPolicy) -> Rollout:
        """`start` and `finish`."""
        self.start(policy)
        return self.finish()

    def restore(self, states: Sequence[EnvState | None], reset_seed: int) -> list[int]:
        """Continue from these states; the numbers of environments that begin new episodes. See `Sampler.restore`."""
        counter = self._sampler.counter
        with watched(counter.snapshot, self._timeout, counter.describe):
            begun = self._sampler.restore(states, reset_seed)
        self._history = self._history.restored(states)
        return begun

    def close(self) -> None:
        """End, in the middle of a rollout too."""
        if self._thread:
            self._sampler.counter.stop_requested = 1
            self._thread.shutdown()
        self.envs.close()

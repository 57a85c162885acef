"""Stepper: T steps of some of the environments with a frozen policy, written into their columns of a rollout.

Nothing is computed per step that can be computed for the whole rollout: noise is drawn before; normalised inputs are
stored, and values, log-probabilities, advantages and episode returns computed, afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from rlopt.envs.replay import Script
from rlopt.envs.spaces import ActionTransform, PolicyHead, observation_dtype, observation_size
from rlopt.envs.vector import REPLAYED, STEPS, STOP, StepCounter, described, new_step_counter
from rlopt.envs.wrappers import guard
from rlopt.policy.drawing import drawing
from rlopt.policy.inference import BLOCK, FrozenPolicy
from rlopt.rollout.env_state import EnvState
from rlopt.rollout.seeding import Purpose, integer, noise, sequence
from rlopt.rollout.storage import Storage


class Final(NamedTuple):
    """The last observations of truncated episodes, and where they ended."""

    t: np.ndarray  # (N,)
    environment: np.ndarray  # (N,) counted from the stepper's first
    observations: np.ndarray  # (N, D) raw


class Sampler:
    """Owns environments and where they stand: those from number ``first`` on of the run's ``total``.

    Seeds, noise and the row of an inference block go by that number. The ``place`` of ``envs`` tells how far it is.
    """

    def __init__(
        self,
        envs: VectorEnv,
        head: PolicyHead,
        steps: int,
        seed: int,
        dtype: torch.dtype,
        first: int,
        total: int,
    ):
        self.envs, self.head, self.steps, self.dtype = envs, head, steps, dtype
        self._total = total
        self.place: StepCounter = getattr(envs, "place", None) or new_step_counter()
        count = envs.num_envs
        self._numbers = numbers = range(first, first + count)
        space = envs.single_observation_space
        size, seen = observation_size(space), observation_dtype(space, dtype)
        self._door = ActionTransform(envs.single_action_space, getattr(head, "squash", False))
        self._seeds = [integer(seed, Purpose.ENVIRONMENT, e) for e in numbers]
        self._generators = [np.random.default_rng(sequence(seed, Purpose.ACTION, e)) for e in numbers]
        self._resets_later = envs.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP

        self._own = slice(first % BLOCK, first % BLOCK + count)  # rows of whole blocks; the others are idle
        rows = -(-self._own.stop // BLOCK) * BLOCK
        self._raw = torch.zeros(steps + 1, rows, size, dtype=seen)
        self._outputs = torch.zeros(steps, rows, head.network_outputs + head.constants, dtype=dtype)
        self._noise = torch.zeros(steps, rows, head.noise_size, dtype=dtype)
        self._rows = list(zip(*(x.numpy() for x in (self._raw[:-1], self._outputs, self._noise)), strict=True))
        self._draw = drawing(head)
        self._time = np.zeros(count, np.int64)
        self._episode = np.array(numbers, dtype=np.int64)
        self._over = np.zeros(count, bool)  # ended, and will be reset by the next step
        self._started = False

    @torch.inference_mode()
    def collect(self, policy: FrozenPolicy, storage: Storage) -> Final | None:
        """The next ``steps`` transitions of every environment; None where it was asked to stop."""
        own, place, step, door, draw = self._own, self.place, self.envs.step, self._door, self._draw
        observations = self._raw[:, own].numpy()
        shape = observations.shape[1:]
        rewards, mask = storage["rewards"].numpy(), storage["mask"].numpy()
        terminated, truncated = storage["terminated"].numpy(), storage["truncated"].numpy()
        time, episode = storage["time"].numpy(), storage["episode"].numpy()
        final: list[tuple[Any, Any, np.ndarray]] = []
        taken = storage["actions"].numpy()
        head, faults = self.head, guard(lambda: described(place))
        self._noise[:, own] = noise(self._generators, head.noise, self.steps, head.noise_size, self.dtype)
        if self._started:
            observations[0] = observations[-1]
        else:
            with faults:
                observations[0] = np.reshape(self.envs.reset(seed=self._seeds)[0], shape)  # type: ignore[arg-type]
            self._started = True

        for t, (raw, z, noises) in enumerate(self._rows):
            if place[STOP]:
                return None
            place[STEPS] += 1
            with np.errstate(all="ignore"):  # numbers that are not finite are found by the update
                policy.respond(raw, z)
                actions = taken[t] = draw(z, noises)[own]
            time[t], episode[t] = self._time, self._episode
            with faults:
                following, rewards[t], terminated[t], truncated[t], info = step(door(actions))
            observations[t + 1] = following.reshape(shape)
            self._time += 1
            if self._resets_later:
                mask[t] = ~self._over
                self._time[self._over] = 0
                self._over = terminated[t] | truncated[t]
                self._begin(self._over)
            elif "final_obs" in info:
                final += [(t, e, info["final_obs"][e]) for e in np.flatnonzero(truncated[t] & ~terminated[t])]
                self._begin(terminated[t] | truncated[t])

        policy.normalise(self._raw[:, own], out=storage["inputs"])
        unhidden(self._raw[-1, own], storage["inputs"][-1])
        storage["observations"].copy_(self._raw[:-1, own])
        storage["outputs"].copy_(self._outputs[:, own])
        last = np.array([np.reshape(o, -1) for _, _, o in final], observations.dtype).reshape(-1, shape[1])
        t_of, e_of = (np.array([place[i] for place in final], np.int64) for i in (0, 1))
        return Final(t_of, e_of, last)

    def standings(self) -> list[EnvState]:
        """Where the environments stand after a rollout."""
        origins = getattr(self.envs, "origins", None) or [None] * len(self._numbers)
        rows = zip(self._numbers, self._raw[-1, self._own].numpy().copy(), self._time.tolist(), self._episode.tolist(),
                   self._over.tolist(), self._generators, origins, strict=True)  # fmt: skip
        steps = int(self.place[STEPS])
        return [
            EnvState(number, last, time, episode, over, steps, dict(generator.bit_generator.state), origin)
            for number, last, time, episode, over, generator, origin in rows
        ]

    def restore(self, standings: Sequence[EnvState | None], anew: int) -> list[int]:
        """Bring every environment to where it stood; the numbers of those that begin a new episode instead.

        Where nothing is known of one (None), or replay fails, its seeds follow from ``anew``.
        """
        scripts, last = [], self._raw[-1, self._own].numpy()
        for e, (number, stood) in enumerate(zip(self._numbers, standings, strict=True)):
            seed = integer(anew, Purpose.ENVIRONMENT, number)
            if stood is None or stood.origin is None or stood.actions is None:
                scripts.append(Script(None, (), last[e], seed))
            else:
                scripts.append(Script(stood.origin, self._door(stood.actions), stood.observation, seed))
            if stood is None:
                self._generators[e] = np.random.default_rng(sequence(anew, Purpose.ACTION, number))
            else:
                self._generators[e].bit_generator.state = stood.noise
                self._episode[e], self.place[STEPS] = stood.episode, stood.steps
        begun, self.place[REPLAYED] = [], 1
        with guard(lambda: described(self.place)):
            replayed = self.envs.replay(scripts)  # type: ignore[attr-defined]  # of our own
        self.place[REPLAYED] = 0
        for e, found in enumerate(replayed):
            last[e] = np.reshape(found.observation, -1)
            if (stood := standings[e]) is not None and found.exact:
                self._time[e], self._over[e] = stood.time, stood.over
            else:
                begun.append(self._numbers[e])
                self._episode[e] += self._total
        self._started = True
        return begun

    def _begin(self, over: np.ndarray) -> None:
        """New episodes where the last ones are over."""
        self._time[over] = 0
        self._episode[over] += self._total


def unhidden(raw: Tensor, normalised: Tensor) -> Tensor:
    """``normalised``, with NaN where ``raw`` is infinite: clipping has made it a number like others."""
    return normalised.masked_fill_(~raw.isfinite(), torch.nan) if raw.is_floating_point() else normalised

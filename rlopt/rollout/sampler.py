"""Sampler: T steps of some environments with a frozen policy, written to a buffer; `step_environments` is the loop.

A step computes only what it must. Noise is drawn before the rollout. Normalised inputs are stored, and values,
log-probabilities, advantages and episode returns are computed, after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from rlopt.config.groups import NoiseOptions
from rlopt.envs.changes import change
from rlopt.envs.observations import observation_dtype, observation_size
from rlopt.envs.replay import Change, Script
from rlopt.envs.spaces import PolicyHead, action_transform
from rlopt.envs.vector import StepCounter
from rlopt.envs.wrappers import guard
from rlopt.policy.inference import BLOCK, FrozenPolicy, numpy_sampler
from rlopt.rollout.buffer import Buffer, Rollout
from rlopt.rollout.env_state import EnvState
from rlopt.rollout.noise import WHITE, ActionNoise
from rlopt.rollout.seeding import Purpose, integer

Found = TypeVar("Found")
Step = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]  # what a vector environment's step returns


def step_environments(
    step: Callable[[Any], Found], act: Callable[[int], Any], counter: StepCounter, describe: Callable[[], str]
) -> Iterator[Found]:
    """The loop that training, evaluation and videos share: act, step all environments, yield what they returned.

    ``act(t)`` gives the actions of the t-th step, as ``step``, the environments' own, takes them. Ends when a stop is
    requested. Raises EnvironmentFault, with the name that ``describe`` gives, where an environment fails.
    """
    faults, t = guard(describe), 0
    while not counter.stop_requested:
        counter.step += 1
        actions = act(t)
        with faults:
            found = step(actions)
        yield found
        t += 1


class FinalObservations(NamedTuple):
    """The last observations of truncated episodes, and where in the rollout they are."""

    t: np.ndarray  # (N,)
    environment: np.ndarray  # (N,) counted from the sampler's first
    observations: np.ndarray  # (N, D) raw

    @classmethod
    def of(cls, rows: Sequence[tuple[Any, Any, np.ndarray]], like: np.ndarray) -> FinalObservations:
        """From rows (t, environment, observation); ``like`` has the observations' type and size (..., D)."""
        last = np.array([np.reshape(o, -1) for _, _, o in rows], like.dtype).reshape(-1, like.shape[-1])
        t_of, e_of = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
        return cls(t_of, e_of, last)


class Sampler:
    """Steps environments from number ``first`` on, of ``total`` in the run, and keeps their state between rollouts.

    Seeds, noise and the row within an inference block depend on that number alone.
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
        memory: int = 0,  # numbers that the policy carries from one step to the next
        noise: NoiseOptions = WHITE,
    ):
        self.envs, self.head, self.steps, self.dtype = envs, head, steps, dtype
        self._total = total
        self.counter: StepCounter = getattr(envs, "counter", None) or StepCounter()
        count = envs.num_envs
        self._numbers = numbers = range(first, first + count)
        space = envs.single_observation_space
        size, observed = observation_size(space), observation_dtype(space, dtype)
        self._transform = action_transform(envs.single_action_space, getattr(head, "squash", False))
        self._seeds = [integer(seed, Purpose.ENVIRONMENT, e) for e in numbers]
        self._action_noise = ActionNoise(seed, numbers, head, dtype, noise)
        self._absent: np.ndarray | None = getattr(envs, "absent", None)  # (E,) agents that are not in their game now
        resets_in_next_step = envs.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP
        self._skips = resets_in_next_step or self._absent is not None  # some steps of an environment are none
        self._meet: Callable[[FrozenPolicy], object] | None = getattr(envs, "meet", None)  # the policy of a rollout

        self._own = slice(first % BLOCK, first % BLOCK + count)  # rows within whole blocks; the others stay idle
        rows = -(-self._own.stop // BLOCK) * BLOCK
        self._raw = torch.zeros(steps + 1, rows, size, dtype=observed)
        self._outputs = torch.zeros(steps, rows, head.network_outputs + head.constants, dtype=dtype)
        self._noise = torch.zeros(steps, rows, head.noise_size, dtype=dtype)
        self._memory = torch.zeros(steps + 1, rows, memory, dtype=dtype) if memory else None
        each = [self._raw[:-1], self._outputs, self._noise]
        each += [] if self._memory is None else [self._memory[:-1], self._memory[1:]]  # before and after a step
        self._rows = list(zip(*(x.numpy() for x in each), strict=True))
        self._draw = numpy_sampler(head)
        self._time = np.zeros(count, np.int64)
        self._episode = np.array(numbers, dtype=np.int64)
        self._over = np.zeros(count, bool)  # the episode has ended, and the next step is none: it may only reset
        self._started = False

    @torch.inference_mode()
    def collect(self, policy: FrozenPolicy, buffer: Buffer, changes: Sequence[Change] = ()) -> FinalObservations | None:
        """The next ``steps`` transitions of every environment, in which these changes are made before.

        None where a stop was requested.
        """
        self._change(changes)
        own, rows, draw, transform = self._own, self._rows, self._draw, self._transform
        drawn = buffer["actions"].numpy()

        def act(t: int) -> np.ndarray | list[Any]:
            raw, z, noise, *memory = rows[t]
            if memory:
                memory[0][own][(self._time == 0) & ~self._over] = 0  # episodes begin
            with np.errstate(all="ignore"):  # the update finds numbers that are not finite
                policy.write_outputs(raw, z, *memory)
                actions = drawn[t] = draw(z, noise)[own]
            return transform(actions)

        self._begin_rollout(policy)
        observations = self._raw[:, own].numpy()
        shape = observations.shape[1:]
        rewards, mask = buffer["rewards"].numpy(), buffer["mask"].numpy()
        terminated, truncated = buffer["terminated"].numpy(), buffer["truncated"].numpy()
        time, episode = buffer["time"].numpy(), buffer["episode"].numpy()
        infos = buffer["infos"].numpy() if "infos" in buffer else None
        final: list[tuple[Any, Any, np.ndarray]] = []  # t, e and observation
        done = 0
        loop = step_environments(self.envs.step, act, self.counter, self.counter.describe)
        for t, (following, reward, ends, cuts, info) in enumerate(islice(loop, self.steps)):
            time[t], episode[t] = self._time, self._episode
            if infos is not None:
                infos[t] = self.envs.infos  # type: ignore[attr-defined]
            with np.errstate(over="ignore"):  # the update finds what is too large for the type
                rewards[t], terminated[t], truncated[t] = reward, ends, cuts
                observations[t + 1] = following.reshape(shape)
            self._time += 1
            if self._skips:
                self._mask_steps(mask[t], ends | cuts)
            if "final_obs" in info:
                final += [(t, e, info["final_obs"][e]) for e in np.flatnonzero(cuts & ~ends)]
            if self._skips or "final_obs" in info:
                self._begin_episodes(ends | cuts)
            done += 1
        if done < self.steps:
            return None

        self._write(policy, buffer)
        return FinalObservations.of(final, observations)

    def _change(self, changes: Sequence[Change]) -> None:
        if changes:
            with guard(self.counter.describe):
                self.envs.change(changes)  # type: ignore[attr-defined]  # SyncEnvs alone is given any

    def _write(self, policy: FrozenPolicy, buffer: Buffer) -> None:
        """Write to the buffer what the rollout's rows hold."""
        own = self._own
        policy.normalise(self._raw[:, own], out=buffer["inputs"])
        mark_infinite(buffer["inputs"][-1], self._raw[-1, own])
        buffer["observations"].copy_(self._raw[:-1, own])
        buffer["following"].copy_(self._raw[-1:, own])
        buffer["outputs"].copy_(self._outputs[:, own])
        if self._memory is not None:
            buffer["memory"].copy_(self._memory[:, own])

    def env_states(self) -> list[EnvState]:
        """The states of the environments after a rollout."""
        origins = getattr(self.envs, "origins", None) or [None] * len(self._numbers)
        last, noise = self._raw[-1, self._own].numpy().copy(), self._action_noise.states()
        with guard(self.counter.describe):
            saved = getattr(self.envs, "saved_states", lambda: [None] * len(self._numbers))()
        time, episode, over = self._time.tolist(), self._episode.tolist(), self._over.tolist()
        at = self.counter.step
        found = [
            EnvState(
                number, last[e], time[e], episode[e], over[e], at, state, origins[e], saved=saved[e], noise_used=used
            )
            for e, (number, (state, used)) in enumerate(zip(self._numbers, noise, strict=True))
        ]
        if self._memory is None:
            return found
        memory = self._memory[-1, self._own].numpy().copy()
        return [replace(state, memory=own) for state, own in zip(found, memory, strict=True)]

    def restore(self, states: Sequence[EnvState | None], reset_seed: int, changes: Sequence[Change] = ()) -> list[int]:
        """Bring every environment to its state; the numbers of those that begin a new episode instead.

        That happens where a state is unknown (None) or its episode cannot be replayed. Their seeds follow from
        ``reset_seed``. ``changes`` are all that were made.
        """
        scripts, last = [], self._raw[-1, self._own].numpy()
        for e, (number, state) in enumerate(zip(self._numbers, states, strict=True)):
            seed = integer(reset_seed, Purpose.ENVIRONMENT, number)
            if state is not None and state.saved is not None:
                scripts.append(Script(None, (), state.observation, seed, saved=state.saved))
            elif state is None or state.origin is None or state.actions is None:
                scripts.append(Script(None, (), last[e], seed))
            else:
                actions = self._transform(state.actions)
                scripts.append(Script(state.origin, actions, state.observation, seed, state.check))
            if state is None:
                self._action_noise.restart(e, reset_seed, number)
            else:
                self._action_noise.restore(e, state.noise, state.noise_used)
                self._episode[e], self.counter.step = state.episode, state.steps
                if self._memory is not None and state.memory is not None:
                    self._memory[-1, self._own][e] = torch.from_numpy(state.memory)
        if changes:
            pairs = zip(scripts, states, strict=True)
            scripts = [script._replace(changes=self._placed(changes, state)) for script, state in pairs]
        begun, self.counter.replay_calls = [], 1
        with guard(self.counter.describe):
            replayed = self.envs.replay(scripts)  # type: ignore[attr-defined]  # SyncEnvs and EnvPoolEnvs have it
        self.counter.replay_calls = 0
        for e, found in enumerate(replayed):
            last[e] = np.reshape(found.observation, -1)
            if (state := states[e]) is not None and found.exact:
                self._time[e], self._over[e] = state.time, state.over
            else:
                begun.append(self._numbers[e])
                self._episode[e] += self._total
        self._begin()
        return begun

    def _placed(self, changes: Sequence[Change], state: EnvState | None) -> tuple[Any, ...]:
        """Changes by the steps of the running episode before them. A change follows the reset of the step before it."""
        begun = 0 if state is None else state.steps - state.time
        at = [(-1 if what["rollout"] == 0 else what["rollout"] * self.steps - begun) for what in changes]
        return tuple((max(step, -1), partial(change, what=what)) for step, what in zip(at, changes, strict=True))

    def _begin_rollout(self, policy: FrozenPolicy) -> None:
        """Draw the rollout's noise, and put the last observations, or those of the first reset, in its first row."""
        if self._meet:
            self._meet(policy)
        observations = self._raw[:, self._own].numpy()
        self._noise[:, self._own] = self._action_noise.draw(self.steps)
        if self._started:
            observations[0] = observations[-1]
            if self._memory is not None:
                self._memory[0] = self._memory[-1]
            return
        with guard(self.counter.describe):
            first, _ = self.envs.reset(seed=self._seeds)  # type: ignore[arg-type]
        observations[0] = np.reshape(first, observations.shape[1:])
        self._begin()

    def _begin(self) -> None:
        """Note that the environments are there, and which agents are absent from the first step on."""
        self._started = True
        if self._absent is not None:
            self._over = self._absent.copy()

    def _mask_steps(self, mask: np.ndarray, over: np.ndarray) -> None:
        """Mask (E,) the steps that were none, and note which will be none next, where episodes are ``over`` (E,)."""
        mask[:] = ~self._over
        self._time[self._over] = 0
        self._over = over if self._absent is None else self._absent.copy()

    def _begin_episodes(self, over: np.ndarray) -> None:
        """Count new episodes where the last ones are over."""
        self._time[over] = 0
        self._episode[over] += self._total


def assemble_rollout(
    buffer: Buffer, finals: Sequence[FinalObservations], policy: FrozenPolicy, first: int, total: int
) -> Rollout:
    """The rollout in ``buffer``, whose truncated episodes ended in ``finals``."""
    t, e, last = (np.concatenate(parts) for parts in zip(*finals, strict=True))
    order = np.lexsort((e, t))
    raw = torch.from_numpy(last[order])
    return Rollout(
        **buffer,
        final=mark_infinite(policy.normalise(raw, out=torch.empty_like(raw)), raw),
        raw_final=raw,
        final_index=(torch.from_numpy(t[order]), torch.from_numpy(e[order])),
        first=first,
        total=total,
        by_environment=False,
    )


def mark_infinite(normalised: Tensor, raw: Tensor) -> Tensor:
    """``normalised``, with NaN where ``raw`` is infinite, because clipping has made it an ordinary number."""
    return normalised.masked_fill_(~raw.isfinite(), torch.nan) if raw.is_floating_point() else normalised

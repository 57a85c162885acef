"""TensorCollector: T steps of environments that are tensors, with a policy on their device -> Rollout.

Nothing leaves the device within the steps, and nothing waits for it: noise is drawn before them, and times, episodes
and the last observations of truncated episodes are found after them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from rlopt.envs.observations import InvalidOutput
from rlopt.envs.replay import Change
from rlopt.envs.spaces import PolicyHead
from rlopt.envs.tensor.actions import tensor_transform
from rlopt.envs.tensor.philox import Noise
from rlopt.envs.tensor.protocol import Stepped, TensorEnvs, functional, saves
from rlopt.envs.vector import StepCounter
from rlopt.envs.watchdog import watched
from rlopt.envs.wrappers import guard
from rlopt.policy.device import DevicePolicy
from rlopt.rollout.buffer import Buffer, Rollout, allocate_buffer
from rlopt.rollout.recorded import Record, Recorded
from rlopt.rollout.sampler import mark_infinite, step_environments
from rlopt.rollout.seeding import Purpose, integer


@dataclass(frozen=True)
class TensorStates:
    """A process's environments between two rollouts. Its tensors are never changed."""

    first: int  # number of the first environment in the run
    seed: int  # of the last reset
    steps: int  # of each environment since the run began
    observation: Tensor  # (E, D) raw; the next action will be for it
    time: Tensor  # (E,) steps since its episode began
    episode: Tensor  # (E,) identifier
    saved: Mapping[str, Tensor] | None  # (E, ...) what the environments gave; None where they cannot

    def entries(self, returns: Tensor, lengths: Tensor) -> list[dict[str, Any]]:
        """What a checkpoint holds of them: one entry. ``returns`` and ``lengths`` (E,) are of the running episodes."""
        rows = {name: x.cpu() if isinstance(x, Tensor) else x for name, x in vars(self).items()}
        saved = None if self.saved is None else {name: x.cpu() for name, x in self.saved.items()}
        return [{**rows, "saved": saved, "return": returns, "length": lengths}]


class TensorCollector:
    """Owns environments and their state; the policy comes with each call.

    Its environments have the numbers from ``first`` on, of ``total`` in the run. Seeds and noise depend on the number.
    """

    physics = 0.0  # seconds of the simulator, which are not measured here
    replays = False

    def __init__(
        self,
        envs: TensorEnvs,
        head: PolicyHead,
        steps: int,
        seed: int,
        dtype: torch.dtype,
        first: int = 0,
        total: int | None = None,
        timeout: float | None = None,  # seconds that the environments may take over a step
        record: Record[tuple[Tensor, ...]] | None = None,  # the steps of a rollout are recorded by it, and replayed
    ):
        self.envs, self.num_envs = envs, envs.num_envs
        self.first, self.total = first, total or envs.num_envs
        self._head, self._steps, self._seed, self._dtype, self._timeout = head, steps, seed, dtype, timeout
        device, space = envs.device, envs.observation_space
        like = torch.empty(0, dtype=dtype, device=device)
        self._transform = tensor_transform(envs.action_space, getattr(head, "squash", False), like)
        kept = getattr(torch, str(space.dtype))
        kept = dtype if kept in (torch.float32, torch.float64) else kept
        self._buffer = allocate_buffer(steps, self.num_envs, space, head, dtype, device=device, kept=kept)
        shape = self._buffer["observations"].shape
        self._last = torch.zeros(shape, dtype=kept, device=device)  # what each step led to
        self._noise = Noise(integer(seed, Purpose.ACTION), first, self.num_envs, device)
        self._observation = self._last[0]
        self._time = torch.zeros(self.num_envs, dtype=torch.int64, device=device)
        self._episode = torch.arange(first, first + self.num_envs, device=device)
        self._started = False
        self._policy: DevicePolicy | None = None
        self._record = record
        self._recorded: Recorded | None = None
        self.counter = StepCounter()
        self.boundary: TensorStates | None = None  # the environments after the last rollout

    def start(self, policy: DevicePolicy, changes: Sequence[Change] = ()) -> None:
        """Set the policy of the next rollout. Tensors take no changes: a callback that asks for one is told so."""
        self._policy = policy

    def finish(self) -> Rollout:
        """The rollout of `start`: ``steps`` transitions of every environment, valid until the next is finished."""
        policy, self._policy = self._policy, None
        assert policy is not None
        counter = self.counter
        with watched(counter.snapshot, self._timeout, counter.describe):
            if not self._started:
                self._begin(integer(self._seed, Purpose.ENVIRONMENT))
            self._step(policy)
            if (check := getattr(self.envs, "check", None)) is not None:
                check()
        rollout = self._complete(policy, self._buffer)
        self.boundary = self._state()
        return rollout

    def collect(self, policy: DevicePolicy) -> Rollout:
        """`start` and `finish`."""
        self.start(policy)
        return self.finish()

    def restore(self, entries: Sequence[dict[str, Any] | None], reset_seed: int) -> tuple[list[int], Tensor, Tensor]:
        """Continue from a checkpoint's entries, which the ranks of that time gave.

        Returns the numbers of environments that begin new episodes, with seeds that follow from ``reset_seed``: all of
        the run or none. And returns and lengths (E,) of the running episodes.
        """
        counter, own = self.counter, range(self.first, self.first + self.num_envs)
        known = [entry for entry in entries if entry is not None]
        whole = set(range(self.total)) <= set(_numbers(known)) and all(entry["saved"] is not None for entry in known)
        counter.step = max((entry["steps"] for entry in known), default=0)
        with watched(counter.snapshot, self._timeout, counter.describe):
            if not (whole and saves(self.envs)):
                self._begin(integer(reset_seed, Purpose.ENVIRONMENT))
                return list(own), torch.zeros(self.num_envs, dtype=torch.float64), torch.zeros_like(self._time).cpu()
            self._begin(known[0]["seed"])
            found = _joined(known, own)
            self._observation = found["observation"].to(self._observation).view_as(self._observation)
            self._time, self._episode = (found[n].to(self._time).view_as(self._time) for n in ("time", "episode"))
            with guard(counter.describe):
                self.envs.restore({name: x.to(self.envs.device) for name, x in found["saved"].items()})
        return [], found["return"], found["length"]

    def close(self) -> None:
        self.envs.close()

    def _begin(self, seed: int) -> None:
        """Reset all environments."""
        self._reset_seed = seed
        with guard(self.counter.describe):
            found = self.envs.reset(seed, self.first)
            self._check(found, "observations", self.envs.observation_space.shape)
        self._observation = found.reshape(self.num_envs, -1)
        self._started = True

    @torch.no_grad()
    def _step(self, policy: DevicePolicy) -> None:
        """Fill the rows of the buffer. Nothing here waits for the device."""
        noise = self._draw_noise()
        if self._record is None:
            self._observation = self._fill(policy, self.envs.step, self._observation, noise)
            return
        assert functional(self.envs)
        if self._recorded is None:
            self._recorded = Recorded(partial(self._fill_as_function, policy), self._record)
        begun, own = self.counter.step, policy.tensors
        found = self._recorded(self._observation, noise, *own, *self.envs.running, *self.envs.draw(self._steps))
        self.counter.step = begun + self._steps
        self._observation, self.envs.running = found[0], found[1:]

    def _fill_as_function(self, policy: DevicePolicy, observation: Tensor, noise: Tensor, *rest: Tensor) -> Any:
        """`_fill` with all that differs between rollouts given; the last observation, and what is running then."""
        envs, own = self.envs, len(policy.tensors)
        assert functional(envs)
        running, drawn = rest[own : own + len(envs.running)], rest[own + len(envs.running) :]
        rows = zip(*drawn, strict=True)

        def step(actions: Tensor) -> Stepped:
            nonlocal running
            running, found = envs.advance(running, actions, next(rows))
            return found

        return self._fill(policy.holding(rest[:own]), step, observation, noise), *running

    def _fill(
        self, policy: DevicePolicy, step: Callable[[Tensor], Stepped], observation: Tensor, noise: Tensor
    ) -> Tensor:
        """A step at a time from ``observation`` on, with action noise (T, E, size). Returns the last observation."""
        head, transform, counter, buffer = self._head, self._transform, self.counter, self._buffer
        observations, inputs, outputs, actions = (buffer[n] for n in ("observations", "inputs", "outputs", "actions"))

        def act(t: int) -> Any:
            observations[t] = observation
            outputs[t] = z = policy.outputs(policy.normalise(observations[t], out=inputs[t]))
            actions[t] = drawn = head.sample(z, noise[t])
            return transform(drawn)

        loop = step_environments(step, act, counter, counter.describe)
        shape, faults = self._last.shape[1:], guard(counter.describe)
        for t, found in enumerate(islice(loop, self._steps)):
            with faults:
                if t == 0:
                    self._check_step(found)
                observation, self._last[t] = found.observation.reshape(shape), found.last.reshape(shape)
                buffer["rewards"][t] = found.reward
                buffer["terminated"][t], buffer["truncated"][t] = found.terminated, found.truncated
        return observation

    def _complete(self, policy: DevicePolicy, buffer: Buffer) -> Rollout:
        """The rollout in the buffer, whose rows are filled."""
        buffer["following"][0] = self._observation
        policy.normalise(buffer["following"][0], out=buffer["inputs"][-1])
        mark_infinite(buffer["inputs"][-1], buffer["following"][0])
        over = buffer["terminated"] | buffer["truncated"]
        step = torch.arange(self._steps, device=self.envs.device)[:, None]
        begins = torch.cat([torch.zeros_like(over[:1]), over[:-1]])
        buffer["time"][:] = step - torch.where(begins, step, -self._time).cummax(0).values
        buffer["episode"][:] = self._episode + self.total * begins.cumsum(0)
        self._time = (buffer["time"][-1] + 1).masked_fill(over[-1], 0)
        self._episode = buffer["episode"][-1] + self.total * over[-1]
        t, e = (buffer["truncated"] & ~buffer["terminated"]).nonzero(as_tuple=True)
        raw = self._last[t, e]
        final = policy.normalise(raw, out=torch.empty_like(raw, dtype=buffer["inputs"].dtype))
        return Rollout(
            **buffer,
            final=mark_infinite(final, raw),
            raw_final=raw,
            final_index=(t, e),
            first=self.first,
            total=self.total,
            by_environment=False,
        )

    def _draw_noise(self) -> Tensor:
        """Action noise [T, E, size] of this rollout; where the head holds a draw, it lasts for so many steps."""
        head, steps = self._head, self._steps
        hold = steps if head.hold is None else head.hold
        drawn = self._noise.draw(head.noise, self.counter.step, -(-steps // hold), head.noise_size, self._dtype)
        return drawn if hold == 1 else drawn.repeat_interleave(hold, 0)[:steps]

    def _state(self) -> TensorStates:
        saved = None
        if saves(self.envs):
            with guard(self.counter.describe):
                saved = {name: x.clone() for name, x in self.envs.state().items()}
        running = self._observation.clone(), self._time, self._episode
        return TensorStates(self.first, self._reset_seed, self.counter.step, *running, saved)

    def _check_step(self, found: Any) -> None:
        """Raise InvalidOutput where a step gave other tensors than it should."""
        if not isinstance(found, tuple) or len(found) != len(Stepped._fields):
            raise InvalidOutput(f"{type(found).__name__} from step where a Stepped is wanted")
        for name in Stepped._fields:
            seen = name in ("observation", "last")
            self._check(getattr(found, name), name, self.envs.observation_space.shape if seen else ())

    def _check(self, found: Any, name: str, shape: tuple[int, ...] | None) -> None:
        wanted = (self.num_envs, *(shape or ()))
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted or found.device.type != self.envs.device.type:
            came = f"{tuple(found.shape)} on {found.device}" if isinstance(found, Tensor) else type(found).__name__
            raise InvalidOutput(f"{name} of {came} where a tensor {wanted} on {self.envs.device} is wanted")


def _numbers(entries: Sequence[dict[str, Any]]) -> list[int]:
    """The numbers of the environments in the entries, in their order."""
    return [entry["first"] + e for entry in entries for e in range(len(entry["time"]))]


def _joined(entries: Sequence[dict[str, Any]], own: range) -> dict[str, Any]:
    """The rows of the environments ``own``, of all entries together."""
    place = {number: row for row, number in enumerate(_numbers(entries))}
    rows = torch.tensor([place[number] for number in own])

    def joined(parts: Sequence[Any]) -> Any:
        if isinstance(parts[0], Mapping):
            return {name: joined([part[name] for part in parts]) for name in parts[0]}
        return torch.cat(list(parts))[rows]

    names = ("observation", "time", "episode", "saved", "return", "length")
    return {name: joined([entry[name] for entry in entries]) for name in names}

"""Workers: processes that own the environments, run the policy and write whole rollouts into shared memory.

    learner                                   worker k of K
    publish theta and normaliser
    send the number of a buffer        ->     T steps of its environments, into its columns of that buffer
    (train the critic)                 <-     truncated episodes' last observations, or an error

There is one message each way per rollout, and none per step. There are two buffers, so that the learner reads one
rollout while the workers write the next. Environments keep their numbers over the whole run, on which seeds, noise and
inference blocks depend. So the data are the same, bit for bit, for any number of workers.

On Linux workers are forked. So they start at once, know every environment that was registered, and share memory without
a name. Elsewhere they are spawned: they import the folders and modules that the command line names, and a program that
starts them needs ``if __name__ == "__main__"``.

A worker ends when the learner asks it to, or when the learner has ended (parallel/processes.py).
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch

from rlopt.config import extensions
from rlopt.config.groups import NoiseOptions
from rlopt.envs.observations import observation_size
from rlopt.envs.replay import Change
from rlopt.envs.spaces import PolicyHead
from rlopt.envs.spec import EnvSpec
from rlopt.envs.trial import changed_value
from rlopt.envs.vector import StepCounter
from rlopt.errors import EnvironmentFault, UserError
from rlopt.loggers import console
from rlopt.parallel import processes
from rlopt.parallel.processes import describe_exit, end_workers, shared_zeros, start_worker
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.buffer import Buffer, Rollout, allocate_buffer
from rlopt.rollout.env_state import EnvState, EpisodeHistory
from rlopt.rollout.noise import WHITE
from rlopt.rollout.sampler import Sampler, assemble_rollout

_BUFFERS = 2
_CHECKS = 4  # per timeout; see envs/watchdog.py


class Workers:
    """Collects as a Collector does, but divides its environments among processes.

    Its environments have the numbers from ``first`` on, of ``total`` in the run. ``policy`` has the network of those
    that `start` will get. Raises EnvironmentFault where an environment fails, a worker dies, or an environment takes
    longer than ``spec.timeout`` over one step.
    """

    def __init__(
        self,
        spec: EnvSpec,
        space: gym.Space,
        actions: gym.Space,
        policy: FrozenPolicy,
        head: PolicyHead,
        steps: int,
        seed: int,
        workers: int,
        first: int,
        total: int,
        replays: bool,
        noise: NoiseOptions = WHITE,
    ):
        self.num_envs, self.first, self.total = spec.num_envs, first, total
        self._spec, self._timeout = spec, spec.timeout
        dtype = policy.theta.dtype
        memory = policy.memory_size
        allocate = partial(
            allocate_buffer, steps, self.num_envs, space, head, dtype, True, memory=memory, infos=len(spec.info)
        )
        self._buffers = [allocate() for _ in range(_BUFFERS)]
        self._shared_policy = _SharedPolicy(policy, observation_size(space))
        self._policy: FrozenPolicy | None = None  # of the rollout that was started
        self.replays = replays
        self._history = EpisodeHistory(replays)
        self.boundary: EpisodeHistory | None = None  # the environments after the last rollout
        self._current = 0  # index of the buffer of the next rollout
        rows = len(spec.learners[0]) if spec.learners else 1  # that belong together: of one copy of a game
        edges = [self.num_envs // rows * k // workers * rows for k in range(workers + 1)]
        self._parts = [slice(start, stop) for start, stop in zip(edges, edges[1:], strict=False)]
        self._workers: list[_Worker] = []
        try:
            for part in self._parts:
                numbers = range(first + part.start, first + part.stop)
                buffers = [{name: tensor[:, part] for name, tensor in buffer.items()} for buffer in self._buffers]
                own = (steps, seed, numbers, total, buffers, noise)
                job = _Job(spec, (space, actions), head, policy, self._shared_policy, *own)
                self._workers.append(_Worker(job))
            self._class_values = spec.class_values()  # as the workers have them
            self._receive(None)
        except OSError as error:  # such as too many open files
            self.close()
            raise UserError(
                f"workers={workers} cannot be started: {error}; lower workers, or raise `ulimit -n`"
            ) from error
        except BaseException:
            self.close()
            raise

    def start(self, policy: FrozenPolicy, changes: Sequence[Change] = ()) -> None:
        """Begin the next rollout with this policy. The last one stays valid while it is collected.

        ``changes`` are made in the environments before it.
        """
        if name := changed_value(self._class_values, now := self._spec.class_values()):
            self._class_values = now
            console.info(
                f"rlopt: {name} was changed in this process; the environments in workers do not see it. With workers=1 "
                "they would"
            )
        self._shared_policy.write(policy)
        for worker in self._workers:
            worker.send(_Fill(self._current, changes))
        self._policy = policy

    def finish(self) -> Rollout:
        """The rollout of `start`: ``steps`` transitions of every environment, valid until the next is finished."""
        assert self._policy is not None
        answers = self._receive(self._timeout)
        finals = [
            final._replace(environment=final.environment + part.start)
            for (final, _), part in zip(answers, self._parts, strict=True)
        ]
        states = [state for _, own in answers for state in own]
        buffer = self._buffers[self._current]
        self.boundary = self._history = self._history.after(buffer, states)
        rollout = assemble_rollout(buffer, finals, self._policy, self.first, self.total)
        self._current, self._policy = (self._current + 1) % _BUFFERS, None
        return rollout

    @property
    def physics(self) -> float:
        """Seconds that the simulator took so far, on average over workers, where the backend measures them; else 0."""
        return sum(worker.counter.physics for worker in self._workers) / len(self._workers) / 1e9

    def collect(self, policy: FrozenPolicy) -> Rollout:
        """`start` and `finish`."""
        self.start(policy)
        return self.finish()

    def restore(self, states: Sequence[EnvState | None], reset_seed: int, changes: Sequence[Change] = ()) -> list[int]:
        """Continue from these states; the numbers of environments that begin new episodes. See `Sampler.restore`."""
        for worker, part in zip(self._workers, self._parts, strict=True):
            worker.send((states[part], reset_seed, changes))
        begun = [number for numbers in self._receive(self._timeout) for number in numbers]
        self._history = self._history.restored(states)
        return begun

    def close(self) -> None:
        """End the workers, in the middle of a rollout too."""
        for worker in self._workers:
            worker.counter.stop_requested = 1
            worker.send(None)
        end_workers(worker.process for worker in self._workers)
        for worker in self._workers:
            worker.connection.close()

    def _receive(self, timeout: float | None) -> list[Any]:
        """One answer of each worker. Raises EnvironmentFault where one makes no progress for ``timeout`` seconds."""
        answers: dict[int, Any] = {}
        waited = 0.0  # seconds without progress, counted in short waits so that a suspended run does not look stuck
        seen = [worker.counter.snapshot() for worker in self._workers]
        while pending := [k for k in range(len(self._workers)) if k not in answers]:
            connections: list[Any] = [self._workers[k].connection for k in pending]
            before, longest = time.monotonic(), timeout and timeout / _CHECKS
            wait([*connections, *(self._workers[k].process.sentinel for k in pending)], longest)
            waited += min(time.monotonic() - before, longest or 0)
            for k in pending:
                if (answer := self._workers[k].receive()) is not None:
                    answers[k] = answer
            now = [worker.counter.snapshot() for worker in self._workers]
            stuck = [k for k in pending if k not in answers and now[k] == seen[k]]
            if not stuck:
                waited, seen = 0.0, now
            elif timeout is not None and waited >= timeout:
                subject = self._workers[stuck[0]].counter.describe()
                raise EnvironmentFault(f"{subject} has not come back for env.timeout={timeout:g} seconds")
        return [answers[k] for k in range(len(self._workers))]


class _Fill(NamedTuple):
    """The message that asks a worker for a rollout."""

    buffer: int  # index of the buffer to fill
    changes: Sequence[Change]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to collect."""

    spec: EnvSpec
    spaces: tuple[gym.Space, gym.Space]  # which all environments must have
    head: PolicyHead
    policy: FrozenPolicy
    shared_policy: _SharedPolicy
    steps: int
    seed: int
    numbers: range  # of its environments
    total: int
    buffers: list[Buffer]  # its columns of them
    noise: NoiseOptions


class _Worker:
    """The learner's side of a worker process."""

    def __init__(self, job: _Job):
        context: Any = multiprocessing.get_context(processes.START_METHOD)
        forks = processes.START_METHOD == "fork"
        self.counter = StepCounter(shared=True)
        self._numbers = job.numbers
        self.connection, theirs = context.Pipe()
        if forks:
            self.process = context.Process(target=_run_worker, args=(job, self.counter, theirs), daemon=True)
        else:
            known = (theirs, extensions.active(), _registered(job.spec.id))
            self.process = context.Process(target=_run_spawned_worker, args=known, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads: the worker uses none
            self.process.start()
        theirs.close()
        if not forks:
            self.connection.send((job, self.counter))

    def send(self, message: _Fill | tuple[Sequence[EnvState | None], int, Sequence[Change]] | None) -> None:
        """Send which buffer to fill, the states to continue from with a seed and changes, or None to end it."""
        with suppress(OSError):  # it is dead, and `receive` will say so
            self.connection.send(message)

    def receive(self) -> Any:
        """Its answer; None if there is none yet. Raises its error, or EnvironmentFault where it has died."""
        dead = not self.process.is_alive()  # checked first: it may have answered before it ended
        if self.connection.poll():
            with suppress(EOFError, ConnectionError):
                answer = self.connection.recv()
                if isinstance(answer, Exception):
                    raise answer
                return answer
            dead = True
        if dead:
            time.sleep(0.1)  # a signal to the whole process group ends this process too: then no environment failed
            own = f"environments {self._numbers[0]} to {self._numbers[-1]}"
            raise EnvironmentFault(
                f"{self.counter.describe()} was lost: the process of {own} {describe_exit(self.process)}"
            )
        return None


class _SharedPolicy:
    """Theta and the frozen normaliser in memory that workers read."""

    def __init__(self, policy: FrozenPolicy, size: int):
        dtype = policy.theta.dtype
        self._theta = shared_zeros((len(policy.theta),), dtype)
        self._shift, self._scale = shared_zeros((size,), dtype), shared_zeros((size,), dtype)
        self._normalises = shared_zeros((1,), torch.bool)

    def write(self, policy: FrozenPolicy) -> None:
        self._theta.copy_(policy.theta)
        self._normalises.fill_(policy.shift_and_scale is not None)
        if policy.shift_and_scale is not None:
            self._shift.copy_(policy.shift_and_scale[0])
            self._scale.copy_(policy.shift_and_scale[1])

    def read(self, like: FrozenPolicy) -> FrozenPolicy:
        """The policy that was written; ``like`` has its network."""
        return like.with_parameters(self._theta, (self._shift, self._scale) if self._normalises else None)


def _registered(id: str) -> bytes | None:
    """What Gymnasium's registry has of this environment; None where it cannot be sent to another process."""
    try:
        return pickle.dumps(gym.registry.get(id))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _run_spawned_worker(
    connection: Connection, active: tuple[tuple[Path, ...], tuple[str, ...]], registered: bytes | None
) -> None:
    """The life of a worker that was not forked: it imports what the command line names, and is sent its job."""
    try:
        with extensions.extended(*active):
            spec = pickle.loads(registered) if registered else None
            if spec is not None:
                gym.registry.setdefault(spec.id, spec)
            job, counter = connection.recv()
            _run_worker(job, counter, connection)
    except (EOFError, ConnectionError):
        pass  # the learner has ended
    except Exception as error:
        connection.send(error if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}"))


def _run_worker(job: _Job, counter: StepCounter, connection: Connection) -> None:
    """The whole life of a worker process."""
    start_worker()
    envs = None
    try:
        numbers, dtype = job.numbers, job.policy.theta.dtype
        envs = job.spec.make_vector(numbers[0], len(numbers), counter, job.spaces)
        memory = job.policy.memory_size
        sampler = Sampler(envs, job.head, job.steps, job.seed, dtype, numbers[0], job.total, memory, job.noise)
        connection.send("ready")
        while (message := connection.recv()) is not None:
            if not isinstance(message, _Fill):
                connection.send(sampler.restore(*message))
                continue
            policy = job.shared_policy.read(job.policy)
            final = sampler.collect(policy, job.buffers[message.buffer], message.changes)
            if final is None:
                break
            connection.send((final, sampler.env_states()))
    except (EOFError, ConnectionError):
        pass  # the learner has ended
    except Exception as error:
        # an error of another class may not survive pickling; notes do, unlike tracebacks
        answer = error if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}")
        answer.add_note(f"In a worker:\n{traceback.format_exc()}")
        connection.send(answer)
    finally:
        if envs is not None:
            envs.close()

"""Workers: processes that own the environments, run the policy and write whole rollouts into shared memory.

    learner                                   worker k of K
    publish theta and normaliser
    send the number of a buffer        ->     T steps of its environments, into its columns of that buffer
    (train the critic)                 <-     truncated episodes' last observations, or what went wrong

One message each way a rollout, none a step. There are two buffers, so that a rollout is read while the next is written.
Environments keep their global numbers, by which seeds, noise and inference blocks go: the data are the same, bit for
bit, for any number of workers.

Workers are forked: they start at once, know every environment that was registered, and share memory that has no name.
A worker leaves when it is told to, or when the learner is gone (parallel/processes.py).
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import gymnasium as gym
import torch

from rlopt.envs.spaces import PolicyHead, observation_size
from rlopt.envs.spec import Environment
from rlopt.envs.vector import ENVIRONMENT, STOP, StepCounter, described, new_step_counter
from rlopt.errors import EnvironmentFault, UserError
from rlopt.parallel import processes as child
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.buffer import Batch
from rlopt.rollout.collector import batch
from rlopt.rollout.env_state import EnvState, EnvStates, EpisodeHistory
from rlopt.rollout.sampler import Sampler
from rlopt.rollout.storage import Storage, allocate, columns, shared

_BUFFERS = 2


class Workers:
    """A Collector whose environments, from number ``first`` on of the run's ``total``, are shared out to processes.

    ``policy`` is the one it will be given, at any theta. Raises EnvironmentFault when an environment fails, its worker
    dies, or it takes longer than the environment's ``timeout`` over one step.
    """

    def __init__(
        self,
        environment: Environment,
        space: gym.Space,
        policy: FrozenPolicy,
        head: PolicyHead,
        steps: int,
        seed: int,
        workers: int,
        first: int,
        total: int,
        replays: bool,
    ):
        self.num_envs, self.first, self.total = environment.num_envs, first, total
        self._timeout = environment.timeout
        dtype = policy.theta.dtype
        self._buffers = [allocate(steps, self.num_envs, space, head, dtype, True) for _ in range(_BUFFERS)]
        self._published = _Published(policy, observation_size(space))
        self._policy: FrozenPolicy | None = None  # of the rollout that was started
        self.replays = replays
        self._running = EpisodeHistory(replays)
        self.boundary: EnvStates | None = None  # where the environments stand after the last rollout
        self._turn = 0  # the buffer it goes to
        edges = [self.num_envs * k // workers for k in range(workers + 1)]
        self._parts = [slice(start, stop) for start, stop in zip(edges, edges[1:], strict=False)]
        self._workers: list[_Worker] = []
        try:
            for part in self._parts:
                numbers = range(first + part.start, first + part.stop)
                order = _Order(environment, head, policy, self._published, steps, seed, numbers, total,
                               [columns(buffer, part) for buffer in self._buffers])  # fmt: skip
                self._workers.append(_Worker(order))
            self._answers(None)
        except BaseException:
            self.close()
            raise

    def start(self, policy: FrozenPolicy) -> None:
        """Begin the next rollout with this policy. The last one stays valid while it is collected."""
        self._published.take(policy)
        for worker in self._workers:
            worker.tell(self._turn)
        self._policy = policy

    def finish(self) -> Batch:
        """The rollout that was started, ``steps`` transitions of every environment; valid until the next is."""
        assert self._policy is not None
        answers = self._answers(self._timeout)
        finals = [
            final._replace(environment=final.environment + part.start)
            for (final, _), part in zip(answers, self._parts, strict=True)
        ]
        standings = [standing for _, here in answers for standing in here]
        self.boundary = self._running.after(self._buffers[self._turn]["actions"], standings)
        found = batch(self._buffers[self._turn], finals, self._policy, self.first, self.total)
        self._turn, self._policy = (self._turn + 1) % _BUFFERS, None
        return found

    def collect(self, policy: FrozenPolicy) -> Batch:
        """`start` and `finish`."""
        self.start(policy)
        return self.finish()

    def restore(self, standings: Sequence[EnvState | None], anew: int) -> list[int]:
        """Go on from where the environments stood; the numbers of those that begin new episodes. See Sampler."""
        for worker, part in zip(self._workers, self._parts, strict=True):
            worker.tell((standings[part], anew))
        begun = [number for numbers in self._answers(self._timeout) for number in numbers]
        self._running.restore(standings)
        return begun

    def close(self) -> None:
        """End the workers, in the middle of a rollout too."""
        for worker in self._workers:
            worker.place[STOP] = 1
            worker.tell(None)
        child.end(worker.process for worker in self._workers)
        for worker in self._workers:
            worker.connection.close()

    def _answers(self, timeout: float | None) -> list[Any]:
        """What each worker has to say, once all have spoken; none may stand still for ``timeout`` seconds."""
        answers: dict[int, Any] = {}
        quiet = 0.0  # seconds, of those in which this process was not suspended
        seen = [worker.place.tolist() for worker in self._workers]
        while pending := [k for k in range(len(self._workers)) if k not in answers]:
            voices: list[Any] = [self._workers[k].connection for k in pending]
            before, patience = time.monotonic(), timeout and timeout / 4
            wait([*voices, *(self._workers[k].process.sentinel for k in pending)], patience)
            quiet += min(time.monotonic() - before, patience or 0)
            for k in pending:
                if (answer := self._workers[k].answer()) is not None:
                    answers[k] = answer
            now = [worker.place.tolist() for worker in self._workers]
            stuck = [k for k in pending if k not in answers and now[k] == seen[k]]
            if not stuck:
                quiet, seen = 0.0, now
            elif timeout is not None and quiet >= timeout:
                where = described(self._workers[stuck[0]].place)
                raise EnvironmentFault(f"{where} has not come back for env.timeout={timeout:g} seconds")
        return [answers[k] for k in range(len(self._workers))]


@dataclass(frozen=True)
class _Order:
    """What a worker is to do."""

    environment: Environment
    head: PolicyHead
    policy: FrozenPolicy
    published: _Published
    steps: int
    seed: int
    numbers: range  # of its environments
    total: int
    buffers: list[Storage]  # its columns of them


class _Worker:
    """A worker as the learner sees it."""

    def __init__(self, order: _Order):
        context = multiprocessing.get_context("fork")
        self.place: StepCounter = shared((len(new_step_counter()),), torch.int64).numpy().data
        self.place[ENVIRONMENT] = -1
        self._numbers = order.numbers
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(order, self.place, theirs), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the worker uses none
            self.process.start()
        theirs.close()

    def tell(self, what: int | tuple[Sequence[EnvState | None], int] | None) -> None:
        """Which buffer to fill next, or where to go on from; None: leave."""
        with suppress(OSError):  # it is dead, which `answer` will say
            self.connection.send(what)

    def answer(self) -> Any:
        """What it has to say, None if nothing yet. Raises what it failed from, or that it died."""
        dead = not self.process.is_alive()  # asked first: its last words may come before its end
        if self.connection.poll():
            with suppress(EOFError, ConnectionError):
                answer = self.connection.recv()
                if isinstance(answer, _Failure):
                    raise answer.error from _Elsewhere(answer.trace)
                return answer
            dead = True
        if dead:
            time.sleep(0.1)  # a signal to the whole group is for this process too, which is then not at fault
            whose = f"environments {self._numbers[0]} to {self._numbers[-1]}"
            ended = child.fate(self.process)
            raise EnvironmentFault(f"{described(self.place)} was lost: the process of {whose} {ended}")
        return None


class _Published:
    """Theta and the frozen normaliser, as workers read them."""

    def __init__(self, policy: FrozenPolicy, size: int):
        dtype = policy.theta.dtype
        self._theta = shared((len(policy.theta),), dtype)
        self._shift, self._scale = shared((size,), dtype), shared((size,), dtype)
        self._normalises = shared((1,), torch.bool)

    def take(self, policy: FrozenPolicy) -> None:
        self._theta.copy_(policy.theta)
        self._normalises.fill_(policy.affine is not None)
        if policy.affine is not None:
            self._shift.copy_(policy.affine[0])
            self._scale.copy_(policy.affine[1])

    def policy(self, like: FrozenPolicy) -> FrozenPolicy:
        return like.at(self._theta, (self._shift, self._scale) if self._normalises else None)


@dataclass(frozen=True)
class _Failure:
    error: Exception
    trace: str


class _Elsewhere(Exception):
    """Where in a worker an error was raised."""


def _work(order: _Order, place: StepCounter, connection: Connection) -> None:
    """A worker's life."""
    child.settle()
    torch.set_num_threads(1)
    envs = None
    try:
        numbers = order.numbers
        envs = order.environment.make_vector(numbers[0], len(numbers), place)
        stepper = Sampler(envs, order.head, order.steps, order.seed, order.policy.theta.dtype, numbers[0],
                          order.total)  # fmt: skip
        connection.send("ready")
        while (told := connection.recv()) is not None:
            if not isinstance(told, int):
                connection.send(stepper.restore(*told))
                continue
            final = stepper.collect(order.published.policy(order.policy), order.buffers[told])
            if final is None:
                break
            connection.send((final, stepper.standings()))
    except (EOFError, ConnectionError):
        pass  # the learner has gone
    except UserError as error:
        connection.send(_Failure(error, traceback.format_exc()))
    except Exception as error:
        connection.send(_Failure(RuntimeError(f"{type(error).__name__}: {error}"), traceback.format_exc()))
    finally:
        if envs is not None:
            envs.close()

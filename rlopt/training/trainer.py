"""Trainer: the only loop. Collect, update, record, save, until total_steps; then evaluate."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any

import numpy as np
import torch
from rich.console import Console

from rlopt.checkpoint.manager import CheckpointManager
from rlopt.checkpoint.resume_rules import check_structure
from rlopt.checkpoint.run_state import RunState, announce_slow_replay, env_state
from rlopt.core.parts import State
from rlopt.envs.spec import EnvSpec
from rlopt.errors import EnvironmentFault, RankLost, Signalled, Stopped, UserError
from rlopt.evaluation.episodes import Evaluation
from rlopt.files import replace_file
from rlopt.loggers import console
from rlopt.loggers.logger import Logger, NullLogger
from rlopt.loggers.progress import ProgressDisplay
from rlopt.parallel import ranks
from rlopt.parallel.collectives import gather, world_size
from rlopt.policy.inference import FrozenPolicy
from rlopt.policy.policy import Policy
from rlopt.rollout.collector import Collector
from rlopt.rollout.episodes import EpisodeTracker, RolloutStats
from rlopt.rollout.seeding import Purpose, integer
from rlopt.rollout.workers import Workers
from rlopt.training.agent import Agent
from rlopt.training.callbacks import Callbacks, RunContext
from rlopt.training.diagnostics import look
from rlopt.training.evaluator import Evaluator
from rlopt.training.failure_policy import FailurePolicy
from rlopt.training.plan import Plan
from rlopt.training.signals import SignalHandler
from rlopt.training.timer import Timer

_RECENT = 100  # training episodes whose returns the summary describes


class Trainer:
    """Owns the run's state from the first rollout to the summary. Of several ranks only the first writes and shows."""

    def __init__(
        self,
        plan: Plan,
        environment: EnvSpec,
        agent: Agent,
        collector: Collector | Workers,
        state: State,
        minibatches: torch.Generator,
        open_recorder: Callable[[int | None], Logger],
    ):
        self.plan, self.environment, self.agent, self.collector = plan, environment, agent, collector
        self.state = state
        self.minibatches = minibatches
        self._open_recorder = open_recorder
        self.steps = self.updates = self.skipped = 0
        self.failures = FailurePolicy(plan.max_bad_updates, plan.run_dir, agent.learners)
        self._counter = EpisodeTracker(collector.num_envs)
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._clock = Timer()
        self._resumed: int | None = None  # the step from which the run goes on
        self._judge = Evaluator(plan, environment, agent, self._clock)
        self.saver = CheckpointManager(plan.saving, plan.run_dir)
        self.stops = SignalHandler()
        self._ahead = False  # the next rollout is already under way
        self._ended = False  # by a callback
        self.callbacks = Callbacks()

    def run(self) -> dict[str, Any]:
        """Train to the end and return the summary. A checkpoint exists whichever way this ends."""
        try:
            return self._run()
        except EnvironmentFault as fault:
            said, file = self._ended_by(fault), self.plan.run_dir / "error.txt"
            if ranks.is_first_rank():
                with suppress(OSError):
                    replace_file(file, traceback.format_exc())
                    said += f"; the traceback is in {file}"
            raise EnvironmentFault(said) from fault
        except RankLost as lost:
            raise RankLost(self._ended_by(lost)) from lost

    def _run(self) -> dict[str, Any]:
        leads, together = ranks.is_first_rank(), False
        self.saver.saved_step = self._resumed if self.steps else None
        with self.stops.held():
            recording = ranks.on_all_ranks(lambda: self._open_recorder(self._resumed) if leads else NullLogger())
        with closing(recording) as recorder:
            display = ProgressDisplay(self.plan.total_steps, None if leads else Console(quiet=True))
            if leads and not self.collector.replays:
                console.info(
                    f"rlopt: {self.environment.id} cannot be replayed (envs/replay.py): if this run is stopped and "
                    "resumed, its environments will begin new episodes"
                )
            self._clock.start()
            self._position = self._here()
            try:
                self.callbacks.on_begin(self._moment(), self.plan.config)
                self.stops.check()
                while self.steps < self.plan.total_steps and not self._ended:
                    self._update(recorder, display)
                    self._save_or_stop(recorder)
                together = True
            except (Stopped, Signalled):  # on all ranks, where there are several
                together = True
                raise
            except EnvironmentFault:
                together = True
                self.stops.check()
                raise
            finally:
                with self.stops.held(), closing(self.collector):
                    position = self._position
                    self.state, self.steps, self.updates = position.agent, position.steps, position.updates
                    display.close()
                    wanted = leads and self.saver.saved_step != position.steps
                    if gather(wanted)[0] if together else wanted:
                        self.save(recorder, together)
            self.stops.check()
            evaluations = self._judge.last(self.state) if leads else {}
            recorder.histograms({f"{k}/returns": np.asarray(v.returns) for k, v in evaluations.items()}, self.steps)
            summary = self._summary(evaluations) if leads else {}
            recorder.summary(summary)
            if leads and (film := self._judge.film(self.state)):
                recorder.image("policy/video", *film, self.steps)
            self.callbacks.on_end(self._moment(), summary)
        self.saver.raise_if_unsaved()
        return summary

    def _ended_by(self, error: Exception) -> str:
        return f"{error}, after step {self.steps:,}" + (
            f"; {self.saver.describe_saved(self.steps)}" if ranks.is_first_rank() else ""
        )

    def save(self, recorder: Logger | NullLogger, together: bool = True) -> None:
        """Write a checkpoint of the run as it stood after the last update; ``together`` with all ranks."""
        with self.stops.held():
            position = self._position
            tree = position.tree(self.plan.config, together)
            if not ranks.is_first_rank():
                return
            recorder.flush()
            place = self.saver.save(position.steps, tree, position.score)
            if place is not None:
                self.callbacks.on_checkpoint(self._moment(), place)

    def restore(self, tree: Mapping[str, Any] | None) -> list[int]:
        """Go on from a checkpoint; the numbers of the environments that begin a new episode instead. Before `run`.

        Without one (None) the run begins again in its folder. Raises UserError where something is missing.
        """
        if tree is None:
            self._resumed = -1
            return []
        counters = dict.fromkeys(("steps", "updates", "skipped", "bad_in_a_row", "seconds", "wall_seconds"), 0)
        try:
            check_structure(
                tree, {"agent": self.state, **counters, "minibatches": self.minibatches.get_state()}, "checkpoint"
            )
            return self._restored(tree)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"the checkpoint in {self.plan.run_dir} does not suit its config.yaml: {said}") from error

    def _restored(self, tree: Mapping[str, Any]) -> list[int]:
        self.state = tree["agent"]
        self.steps, self.updates, self.skipped = tree["steps"], tree["updates"], tree["skipped"]
        self.failures.in_a_row, self._judge.best = tree["bad_in_a_row"], tree["best"]
        self._clock.restore(tree["seconds"], tree["wall_seconds"])
        self.minibatches.set_state(tree["minibatches"])
        self._recent.extend(map(float, tree["recent"]))
        self._resumed = self.steps
        if tree["environments"] is None:  # before the first rollout
            return []
        first, count = self.collector.first, self.collector.num_envs
        if len(tree["environments"]) != self.collector.total:
            raise ValueError(f"it has {len(tree['environments'])} environments")
        entries = tree["environments"][first : first + count]
        anew = integer(self.plan.seed, Purpose.RESUMED, self.updates)
        standings = [env_state(entry) for entry in entries]
        with announce_slow_replay(standings if ranks.is_first_rank() else ()):
            found = ranks.gather_from_all_ranks(lambda: self.collector.restore(standings, anew))
        begun: list[int] = sorted(number for numbers in found for number in numbers)
        for e, entry in enumerate(entries):
            if entry is not None and first + e not in begun:
                self._counter.returns[e], self._counter.lengths[e] = entry["return"], entry["length"]
        self.state["rewards"] = self.agent.rewards.begun(self.state["rewards"], begun)
        return begun

    def _here(self) -> RunState:
        return RunState(
            agent=self.state, steps=self.steps, updates=self.updates, skipped=self.skipped,
            bad_in_a_row=self.failures.in_a_row, seconds=self._clock.training,
            wall_seconds=self._clock.wall, best=self._judge.best, score=self._judge.score,
            minibatches=self.minibatches.get_state(), recent=list(self._recent), env_states=self.collector.boundary,
            returns=self._counter.returns.clone(), lengths=self._counter.lengths.clone(),
        )  # fmt: skip

    def _save_or_stop(self, recorder: Logger | NullLogger) -> None:
        """After an update. What one rank was told, or finds due, all of them do."""
        due, number = (
            ranks.is_first_rank() and (self._judge.found_best or self.saver.is_due(self.updates)),
            self.stops.number,
        )
        if world_size() > 1:
            said = gather((due, number or 0))
            due, number = said[0][0], max(n for _, n in said) or None
        if due:
            self.save(recorder)
        self.stops.check(number)

    def _moment(self) -> RunContext:
        def policy() -> Policy:
            return Policy(self.agent.evaluated_policy(self.state), self.agent.head, *self.environment.spaces())

        return RunContext(self.steps, self.updates, self.plan.run_dir, policy)

    def _update(self, recorder: Logger | NullLogger, display: ProgressDisplay) -> None:
        started = time.perf_counter()
        if not self._ahead:
            self.collector.start(self.agent.policy(self.state))
        batch = ranks.on_all_ranks(self.collector.finish)
        self._ahead = False
        self.callbacks.on_rollout(self._moment(), batch)
        collected = time.perf_counter()

        def collect_next(policy: FrozenPolicy) -> None:
            if self.steps + batch.steps * world_size() < self.plan.total_steps:
                self.collector.start(policy)
                self._ahead = True

        before = self.state
        self.state, lesson = self.agent.learn(before, batch, self.minibatches, collect_next)
        learned, seconds = time.perf_counter(), self._clock.lap()

        tally = RolloutStats.of(batch, self._counter.take(batch))
        self.steps += tally.steps
        self.updates += 1
        self.skipped += lesson.skipped
        self._recent.extend(tally.episodes.returns)
        scalars = {
            **tally.scalars,
            **lesson.scalars,
            "update/skipped": float(self.skipped),
            "time/collect": collected - started,
            "time/update": learned - collected,
            "time/steps_per_second": self.steps / seconds,
        }
        looked = look(self.plan.recording, self.updates, self.agent, before, batch, lesson.quantities)
        with self.stops.held():
            recorder.scalars({**scalars, **looked.scalars}, self.steps)
            recorder.histograms(looked.histograms, self.steps)
        self.stops.check()
        mean = float(np.mean(self._recent)) if self._recent else None
        display.update(self.steps, seconds, mean, scalars.get("policy/kl", scalars.get("step/kl")))
        try:
            self.failures.count(lesson.failure, lesson.quantities, self.steps, self.updates, batch.first)
        except Stopped:
            self._position = self._here()
            raise
        if found := self._judge.after(self.updates, self.state, self._recent):
            with self.stops.held():
                recorder.scalars({"evaluation/return": found.mean, "evaluation/std": found.std}, self.steps)
        self._position = self._here()  # in one go: a signal finds the last position or this one
        told = self.callbacks.on_update(self._moment(), scalars)
        self._ended = isinstance(told, bool | np.bool_) and bool(told)

    def _summary(self, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
        summary = {
            "algo": self.plan.algo,
            "env": self.environment.id,
            "seed": self.plan.seed,
            "steps": self.steps,
            "steps_per_second": round(self.steps / self._clock.training, 1) if self._clock.training else 0.0,
            "return_mean": float(np.mean(self._recent)) if self._recent else None,
            "return_std": float(np.std(self._recent)) if self._recent else None,
        }
        for name, found in evaluations.items():
            summary |= {f"{name}_return": found.mean, f"{name}_std": found.std}
        return summary | {"wall_seconds": round(self._clock.wall, 2)}

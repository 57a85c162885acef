"""Trainer: the only loop. Collect, update, record, save, until total_steps; then evaluate."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from rlopt.checkpoint.format import file_name
from rlopt.checkpoint.manager import CheckpointManager
from rlopt.checkpoint.resume_rules import check_structure
from rlopt.checkpoint.run_state import RunState, announce_slow_replay, env_state
from rlopt.config.compatibility import advise
from rlopt.config.options import RunConfig
from rlopt.config.saved import to_yaml
from rlopt.core.parts import State
from rlopt.core.requirements import Incompatible
from rlopt.errors import EnvironmentFault, RankLost, Signalled, Stopped, UserError, in_one_line
from rlopt.files import replace_file, shown, synchronise
from rlopt.loggers import console
from rlopt.loggers.logger import Logger
from rlopt.loggers.progress import ProgressDisplay
from rlopt.loggers.sb3 import with_names
from rlopt.loggers.trackers import Tracker
from rlopt.parallel.collectives import gather, world_size
from rlopt.parallel.processes import matmul_precision
from rlopt.parallel.ranks import is_first_rank, on_all_ranks
from rlopt.policy.policy import Policy
from rlopt.rollout.buffer import Rollout
from rlopt.rollout.collector import Collector
from rlopt.rollout.env_state import with_arrays
from rlopt.rollout.episodes import EpisodeTracker, RolloutStats
from rlopt.rollout.infos import absent, info_scalars
from rlopt.rollout.seeding import Purpose, integer
from rlopt.rollout.tensors import TensorCollector
from rlopt.rollout.workers import Workers
from rlopt.training.agent import Agent
from rlopt.training.callbacks import DROPPED, Callbacks, Requests, RunContext
from rlopt.training.diagnostics import compute_diagnostics
from rlopt.training.evaluator import Evaluator
from rlopt.training.failure_policy import FailurePolicy
from rlopt.training.signals import SignalHandler
from rlopt.training.timer import Timer

_RECENT = 100  # training episodes whose returns the summary describes


class Trainer:
    """A run, from its first rollout to its summary. It owns the state; with several ranks only the first one writes."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        agent: Agent,
        collector: Collector | Workers | TensorCollector,
        state: State,
        minibatches: torch.Generator,
        spaces: dict[str, Any] | None = None,  # trees of the environment's spaces, for checkpoints
    ):
        self.config, self.run_dir, self.agent, self.collector = config, run_dir, agent, collector
        self.state, self.minibatches, self._spaces = state, minibatches, spaces
        self.steps = self.updates = self.skipped = 0
        self.failures = FailurePolicy(config.max_bad_updates, run_dir, agent.learners)
        self.evaluator = Evaluator(config, agent)
        self.checkpoints = CheckpointManager(config.checkpoint, run_dir)
        self.signals, self.callbacks, self.requests = SignalHandler(), Callbacks(), Requests(config.env.steps_by)
        self._episodes = EpisodeTracker(collector.num_envs)
        self._physics = 0.0  # seconds of the simulator that were reported
        self._recent: deque[float] = deque(maxlen=_RECENT)  # returns of the last training episodes
        self._timer = Timer()
        self._between_updates: RunState  # after the last whole update: what a checkpoint holds
        self._resumed: int | None = None  # the step that the run continues from; -1: it begins again in its folder
        self._rollout_started = False
        self._rollouts = 0  # that were started, of earlier processes too
        self._ended_by_callback = False

    def run(self) -> dict[str, Any]:
        """Train to the end and return the summary. A checkpoint is written whichever way this ends."""
        try:
            return self._run()
        except EnvironmentFault as fault:
            message, file = self._where_it_ended(fault), self.run_dir / "error.txt"
            if is_first_rank():
                with suppress(OSError):
                    replace_file(file, traceback.format_exc())
                    message += f"; the traceback is in {shown(file)}"
            raise EnvironmentFault(message) from fault
        except RankLost as lost:
            raise RankLost(self._where_it_ended(lost)) from lost
        except Incompatible as error:
            raise advise(error) from error

    def _run(self) -> dict[str, Any]:
        self.checkpoints.saved_step = self._resumed if self.steps else None
        with self.signals.deferred():
            logger = on_all_ranks(self._open_logger)
        with closing(logger):
            self._train(logger)
            self.signals.raise_received()
            summary = self._evaluate(logger) if is_first_rank() else {}
            self.callbacks.on_end(self._context(None), summary)
        self.checkpoints.raise_if_unsaved()
        return summary

    def _train(self, logger: Logger) -> None:
        """Update until total_steps are done; save, whichever way this ends."""
        display = ProgressDisplay(self.config.total_steps, None if is_first_rank() else Console(quiet=True))
        self._timer.start()
        self._between_updates, self._rollouts = self.run_state(), self.updates
        together = False  # True where all ranks reach the last save
        try:
            is_new = not self.updates and not self.requests.changes
            self.callbacks.on_begin(self._context(0 if is_new else DROPPED), self.config.plain)
            self.signals.raise_received()
            with matmul_precision(self.config.matmul_precision):
                while self.steps < self.config.total_steps and not self._ended_by_callback:
                    self._update(logger, display)
                    self._save_or_stop(logger)
            together = True
        except (Stopped, Signalled):
            together = True
            raise
        except EnvironmentFault:
            together = True
            self.signals.raise_received()
            raise
        finally:
            with self.signals.deferred(), closing(self.collector):
                last = self._between_updates
                self.state, self.steps, self.updates = last.agent, last.steps, last.updates
                display.close()
                unsaved = is_first_rank() and self.checkpoints.saved_step != last.steps
                if gather(unsaved)[0] if together else unsaved:
                    self._save(logger, together)

    def _update(self, logger: Logger, display: ProgressDisplay) -> None:
        """One turn of the loop: collect a rollout, learn from it, record that, evaluate the policy if that is due."""
        started = time.perf_counter()
        rollout = self._collect()
        collected, before = time.perf_counter(), self.state
        is_last = self.steps + self._steps_taken(rollout.steps * world_size()) >= self.config.total_steps
        when_ready = (lambda policy: None) if is_last else self._start_rollout
        self.state, result = self.agent.learn(before, rollout, self.minibatches, when_ready)
        times = {"time/collect": collected - started, "time/update": time.perf_counter() - collected}
        trained, seconds = self._timer.training, self._timer.lap()
        if physics := self.collector.physics - self._physics:
            self._physics += physics
            times["time/physics"] = physics / (seconds - trained)

        stats = RolloutStats.of(rollout, self._episodes.take(rollout))
        self.steps += self._steps_taken(stats.steps)
        self.updates += 1
        self.skipped += result.skipped
        self._recent.extend(stats.episodes.returns)
        own = {"update/skipped": float(self.skipped), **times, "time/steps_per_second": self.steps / seconds}
        scalars = {**stats.scalars, **result.scalars, **own, **self._further_scalars(rollout, stats)}
        more = compute_diagnostics(
            self.config, self.updates, self.agent, before, self.state, rollout, result.quantities
        )
        with self.signals.deferred():
            recorded = self._with_names({**scalars, **more.scalars}, seconds)
            logger.scalars({**recorded, **self.requests.take_scalars()}, self.steps)
            logger.histograms(more.histograms, self.steps)
        self.signals.raise_received()
        display.update(self.steps, seconds, self.mean_return(), scalars.get("policy/kl", scalars.get("step/kl")))
        try:
            self.failures.count(result.failure, result.quantities, self.steps, self.updates, rollout.first)
        except Stopped:
            self._between_updates = self.run_state()
            raise
        with self._timer.paused():
            evaluation = self.evaluator.after_update(self.updates, self.state, self._recent)
        if evaluation:
            with self.signals.deferred():
                found = {"evaluation/return": evaluation.mean, "evaluation/std": evaluation.std}
                logger.scalars(self._with_names(found, seconds), self.steps)
        with self.signals.deferred():  # what on_update changes is saved with this update
            self._between_updates = self.run_state()
            answer = self.callbacks.on_update(self._context(self.updates + 1), scalars)
            self._ended_by_callback = isinstance(answer, bool | np.bool_) and bool(answer)
            self._between_updates = replace(self._between_updates, changes=tuple(self.requests.changes))
            if own := self.requests.take_scalars():
                logger.scalars(own, self.steps)

    def _steps_taken(self, transitions: int) -> int:
        """What an update takes of total_steps: its transitions, and of a game the steps of absent agents as well."""
        return self.config.batch_size if self.config.env.agents else transitions

    def _with_names(self, scalars: dict[str, float], seconds: float) -> dict[str, float]:
        """The scalars, under further names where record.names asks for them."""
        if self.config.record.names == "rlopt":
            return scalars
        return with_names(scalars, self.steps, self.updates, seconds, self.mean_return())

    def _further_scalars(self, rollout: Rollout, stats: RolloutStats) -> dict[str, float]:
        """Of the environments' infos, and of a game's agents."""
        names = self.config.record.info
        found = info_scalars(names, rollout)
        if self.config.env.agents:
            from rlopt.rollout.agents import agent_scalars

            found |= agent_scalars(self.config.env, self.config.self_play, self.updates, stats.episodes)
        if self.updates == 1 and (missing := absent(names, found)) and is_first_rank():
            console.info(f"rlopt: record.info: no info of the first rollout had {' or '.join(missing)}")
        return found

    def _collect(self) -> Rollout:
        """The next rollout. The last update may have started it while the critic learned."""
        if not self._rollout_started:
            self._start_rollout(self.agent.policy(self.state))
        rollout = on_all_ranks(self.collector.finish)
        self._rollout_started = False
        self.callbacks.on_rollout(self._context(self.updates + 1), rollout)
        return rollout

    def _start_rollout(self, policy: Any) -> None:
        self.collector.start(policy, self.requests.due(self._rollouts))
        self._rollout_started = True
        self._rollouts += 1

    def _save_or_stop(self, logger: Logger) -> None:
        """Save if that is due, then stop if a signal came. If one rank must, all ranks do."""
        asked, self.requests.saves = self.requests.saves, False
        due = is_first_rank() and (asked or self.evaluator.is_best or self.checkpoints.is_due(self.updates))
        number = self.signals.received
        if world_size() > 1:
            gathered = gather((due, number or 0))
            due, number = gathered[0][0], max(n for _, n in gathered) or None
        if due:
            self._save(logger)
        self.signals.raise_received(number)

    def _save(self, logger: Logger, together: bool = True) -> None:
        """Write a checkpoint of the run as it was after the last update; ``together`` with all ranks."""
        with self.signals.deferred():
            state = self._between_updates
            tree = state.tree(self.config.plain, together)
            if not is_first_rank():
                return
            logger.flush()
            path = self.checkpoints.save(state.steps, tree, state.score)
            if path is not None:
                self.callbacks.on_checkpoint(self._context(None), path)

    def _evaluate(self, logger: Logger) -> dict[str, Any]:
        """Evaluate the final policy, and write summary.json and the video; on the first rank."""
        evaluations = self.evaluator.at_end(self.state)
        logger.histograms({f"{k}/returns": np.asarray(v.returns) for k, v in evaluations.items()}, self.steps)
        summary = {
            "algo": self.config.algo,
            "env": self.config.env.id,
            "seed": self.config.seed,
            "steps": self.steps,
            "steps_per_second": round(self.steps / self._timer.training, 1) if self._timer.training else 0.0,
            "return_mean": self.mean_return(),
            "return_std": float(np.std(self._recent)) if self._recent else None,
        }
        for name, found in evaluations.items():
            summary |= {f"{name}_return": found.mean, f"{name}_std": found.std}
            summary |= {f"{name}_cut": found.cut} if found.cut else {}
        summary["wall_seconds"] = round(self._timer.wall, 2)
        logger.summary(summary)
        if video := self.evaluator.record_video(self.state):
            logger.image("policy/video", *video, self.steps)
        if (last := self.run_dir / "checkpoints" / file_name(self.steps)).exists():
            logger.policy(last)
        return summary

    def _open_logger(self) -> Logger:
        """Create the run's folder, with config.yaml in it, and the logger; on other ranks than the first, a silent one.

        Raises UserError where the folder cannot be written.
        """
        config, record, run_dir = self.config, self.config.record, self.run_dir
        text = to_yaml(dict(config.plain))
        if not is_first_rank():
            return Logger(run_dir, config.plain, text, tensorboard=False, csv=False)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            after, tracker = self._resumed, None
            if record.tracker is not None:  # first: where it cannot begin, nothing is left
                tracker = Tracker(record.tracker, record.project, run_dir, config.plain, after)
            replace_file(run_dir / "config.yaml", text)
            synchronise(run_dir.parent)
            logger = Logger(run_dir, config.plain, text, record.tensorboard, record.csv, after, tracker)
            (run_dir / "summary.json").unlink(missing_ok=True)  # a finished run that is extended is no longer finished
        except OSError as error:
            raise UserError(f"run_dir={shown(run_dir)} cannot be written: {error}") from error
        return logger

    def mean_return(self) -> float | None:
        """Mean return of the last training episodes; None before the first has ended."""
        return float(np.mean(self._recent)) if self._recent else None

    def _where_it_ended(self, error: Exception) -> str:
        saved = f"; {self.checkpoints.describe_saved(self.steps)}" if is_first_rank() else ""
        return f"{error}, after step {self.steps:,}{saved}"

    def _context(self, rollout: int | None) -> RunContext:
        """What a callback is given; ``rollout`` is the one before which it changes environments, see `Requests`."""

        def policy() -> Policy:
            return Policy(self.agent.evaluated_policy(self.state), self.agent.head, *self.config.spaces())

        requests, environments = self.requests, self.requests.environments(rollout)
        return RunContext(self.steps, self.updates, self.run_dir, policy, environments, requests.record, requests.save)

    def run_state(self) -> RunState:
        """The run as it is now, between two updates."""
        return RunState(
            agent=self.state, steps=self.steps, updates=self.updates, skipped=self.skipped,
            bad_in_a_row=self.failures.in_a_row, seconds=self._timer.training, wall_seconds=self._timer.wall,
            best=self.evaluator.best, score=self.evaluator.score, minibatches=self.minibatches.get_state(),
            recent=list(self._recent), env_states=self.collector.boundary,
            returns=self._episodes.returns.clone(), lengths=self._episodes.lengths.clone(),
            spaces=self._spaces, changes=tuple(self.requests.changes),
        )  # fmt: skip

    def restore(self, tree: Mapping[str, Any] | None) -> list[int]:
        """Continue from a checkpoint; call it before `run`. Without one (None) the run begins again in its folder.

        Returns the numbers of the environments whose episodes cannot be continued: they begin new ones. Raises
        UserError where the checkpoint does not belong to this run's configuration.
        """
        if tree is None:
            self._resumed = -1
            return []
        counters = dict.fromkeys(("steps", "updates", "skipped", "bad_in_a_row", "seconds", "wall_seconds"), 0)
        like = {"agent": self.state, **counters, "minibatches": self.minibatches.get_state()}
        try:
            check_structure(tree, like, "checkpoint")
            self.state = tree["agent"]
            self.steps, self.updates, self.skipped = tree["steps"], tree["updates"], tree["skipped"]
            self.failures.in_a_row, self.evaluator.best = tree["bad_in_a_row"], tree["best"]
            self._timer.restore(tree["seconds"], tree["wall_seconds"])
            self.minibatches.set_state(tree["minibatches"])
            self._recent.extend(map(float, tree["recent"]))
            self.requests.restore(with_arrays(tree.get("changes", [])))
            self._resumed = self.steps
            entries = tree["environments"]  # None before the first rollout
            return [] if entries is None else self._restore_environments(entries)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
            message = f"{type(error).__name__}: {in_one_line(error)}"
            raise UserError(
                f"{shown(self.run_dir)}: checkpoint and config.yaml do not belong together: {message}"
            ) from error

    def _restore_environments(self, entries: list[dict[str, Any] | None]) -> list[int]:
        """Put the environments back into their running episodes; the numbers of those that begin new ones."""
        collector, reset_seed = self.collector, integer(self.config.seed, Purpose.RESUMED, self.updates)
        if isinstance(collector, TensorCollector):
            here, returns, lengths = on_all_ranks(lambda: collector.restore(entries, reset_seed))
            self._episodes.returns.copy_(returns)
            self._episodes.lengths.copy_(lengths)
        else:
            here = self._restore_each(collector, entries, reset_seed)
        begun: list[int] = sorted(number for numbers in gather(here) for number in numbers)
        if begun:
            self.state["rewards"] = self.agent.rewards.begun(self.state["rewards"], begun)
        return begun

    def _restore_each(
        self, collector: Collector | Workers, entries: list[dict[str, Any] | None], reset_seed: int
    ) -> list[int]:
        """As `_restore_environments`, of this rank's environments, each of which has an entry."""
        first, count = collector.first, collector.num_envs
        if len(entries) != collector.total:
            raise ValueError(f"it has {len(entries)} environments")
        entries = entries[first : first + count]
        states = [env_state(entry) for entry in entries]
        made = [change for change in self.requests.changes if change["rollout"] < self.updates]
        with announce_slow_replay(states if is_first_rank() else ()):
            begun = on_all_ranks(lambda: collector.restore(states, reset_seed, made))
        for e, entry in enumerate(entries):
            if entry is not None and first + e not in begun:
                self._episodes.returns[e], self._episodes.lengths[e] = entry["return"], entry["length"]
        return begun

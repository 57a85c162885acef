"""Trainer: the only loop. Collect, update, record, save, until total_steps; then evaluate."""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from rlopt.core.distributed import ranks as world
from rlopt.core.parts import State
from rlopt.errors import EnvironmentFault, RankLost, Stopped
from rlopt.rollout.batch import EpisodeCounter, Episodes
from rlopt.rollout.collector import Collector
from rlopt.rollout.environments import Environment
from rlopt.rollout.inference import Inference
from rlopt.rollout.workers import Workers
from rlopt.run import checkpoint, ranks
from rlopt.run.agent import Agent
from rlopt.run.evaluate import evaluate
from rlopt.run.progress import ProgressDisplay
from rlopt.run.recorder import Recorder, Silent
from rlopt.run.tally import Tally

_RECENT = 100  # training episodes whose returns the summary describes


@dataclass(frozen=True)
class Saving:
    """When checkpoints are written, besides the one at the end."""

    every_updates: int | None
    every_seconds: float | None
    keep: int


@dataclass(frozen=True)
class Plan:
    """What the loop itself needs to know of a run."""

    algo: str
    seed: int
    total_steps: int
    max_bad_updates: int
    evaluation_episodes: int
    saving: Saving
    run_dir: Path


class Trainer:
    """Owns the run's state from the first rollout to the summary. Of several ranks only the first writes and shows."""

    def __init__(
        self,
        plan: Plan,
        environment: Environment,
        agent: Agent,
        collector: Collector | Workers,
        state: State,
        minibatches: torch.Generator,
        open_recorder: Callable[[], Recorder],
    ):
        self.plan, self.environment, self.agent, self.collector = plan, environment, agent, collector
        self.state = state
        self.minibatches = minibatches
        self._open_recorder = open_recorder
        self.steps = self.updates = self.skipped = self._bad_in_a_row = 0
        self._counter = EpisodeCounter(collector.num_envs)
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._trained_seconds = 0.0
        self._ahead = False  # the next rollout is already under way

    def run(self) -> dict[str, Any]:
        """Train to the end and return the summary. A checkpoint exists whichever way this ends."""
        leads = ranks.leads()
        with closing(ranks.agreed(self._open_recorder if leads else Silent)) as recorder:
            display = ProgressDisplay(self.plan.total_steps, None if leads else Console(quiet=True))
            start = saved = time.perf_counter()
            try:
                while self.steps < self.plan.total_steps:
                    self._update(recorder, display)
                    self._trained_seconds = time.perf_counter() - start
                    if leads and self._due(saved):
                        self.save()
                        saved = time.perf_counter()
            except EnvironmentFault as fault:
                if leads:
                    (self.plan.run_dir / "error.txt").write_text(traceback.format_exc())
                raise EnvironmentFault(
                    f"{fault}, after step {self.steps:,}. The policy so far is saved in {self.plan.run_dir}, "
                    f"the traceback in {self.plan.run_dir / 'error.txt'}"
                ) from fault
            except RankLost as lost:
                saved_in = f". The policy so far is saved in {self.plan.run_dir}" if leads else ""
                raise RankLost(f"{lost}, after step {self.steps:,}{saved_in}") from lost
            finally:
                display.close()
                if leads:
                    self.save()
                self.collector.close()
            summary = self._summary(start) if leads else {}
            recorder.summary(summary)
        return summary

    def save(self) -> Path:
        """Write a checkpoint of the run as it stands."""
        tree = {
            "agent": self.state,
            "steps": self.steps,
            "updates": self.updates,
            "skipped": self.skipped,
            "minibatches": self.minibatches.get_state(),
        }
        return checkpoint.save(self.plan.run_dir / "checkpoints", self.steps, tree, self.plan.saving.keep)

    def _update(self, recorder: Recorder, display: ProgressDisplay) -> None:
        started = time.perf_counter()
        if not self._ahead:
            self.collector.start(self.agent.policy(self.state))
        batch = ranks.agreed(self.collector.finish)
        self._ahead = False
        collected = time.perf_counter()

        def collect_next(policy: Inference) -> None:
            if self.steps + batch.steps * world() < self.plan.total_steps:
                self.collector.start(policy)
                self._ahead = True

        self.state, lesson = self.agent.learn(self.state, batch, self.minibatches, collect_next)
        learned = time.perf_counter()

        tally = Tally.of(batch, self._counter.take(batch))
        self.steps += tally.steps
        self.updates += 1
        self.skipped += lesson.skipped
        self._recent.extend(tally.episodes.returns)
        seconds = self._trained_seconds + learned - started
        scalars = {
            **_episode_scalars(tally.episodes),
            "rollout/reward": tally.reward / tally.steps if tally.steps else math.nan,
            **lesson.scalars,
            "update/skipped": float(self.skipped),
            "time/collect": collected - started,
            "time/update": learned - collected,
            "time/steps_per_second": self.steps / seconds,
        }
        recorder.scalars(scalars, self.steps)
        mean = float(np.mean(self._recent)) if self._recent else None
        display.update(self.steps, seconds, mean, scalars.get("policy/kl", scalars.get("step/kl")))
        self._bad_in_a_row = self._bad_in_a_row + 1 if lesson.failure else 0
        if self._bad_in_a_row >= self.plan.max_bad_updates:
            raise Stopped(
                f"{self._bad_in_a_row} updates in a row were skipped, the last because of: {lesson.failure} "
                f"not finite. Stopped at step {self.steps:,}; the policy is as it was before them, "
                f"in {self.plan.run_dir / 'checkpoints'}. Try a smaller learning rate or radius, or more damping"
            )

    def _due(self, saved: float) -> bool:
        saving = self.plan.saving
        by_count = saving.every_updates is not None and self.updates % saving.every_updates == 0
        by_clock = saving.every_seconds is not None and time.perf_counter() - saved >= saving.every_seconds
        return by_count or by_clock

    def _summary(self, start: float) -> dict[str, Any]:
        summary = {
            "algo": self.plan.algo,
            "env": self.environment.id,
            "seed": self.plan.seed,
            "steps": self.steps,
            "steps_per_second": round(self.steps / self._trained_seconds, 1),
            "return_mean": float(np.mean(self._recent)) if self._recent else None,
            "return_std": float(np.std(self._recent)) if self._recent else None,
        }
        if self.plan.evaluation_episodes:
            policy = self.agent.evaluated_policy(self.state)
            episodes, seed = self.plan.evaluation_episodes, self.plan.seed
            for key, deterministic in (("evaluation", True), ("sampled_evaluation", False)):
                result = evaluate(self.environment, policy, self.agent.head, episodes, seed, deterministic)
                summary |= {f"{key}_return": result.mean, f"{key}_std": result.std}
        return summary | {"wall_seconds": round(time.perf_counter() - start, 2)}


def _episode_scalars(episodes: Episodes) -> dict[str, float]:
    if not episodes.returns:
        return {}
    return {"episode/return": float(np.mean(episodes.returns)), "episode/length": float(np.mean(episodes.lengths))}

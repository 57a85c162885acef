"""Judge: what is measured of a policy, in a run's course and at its end. The best checkpoint is the best by this.

By evaluations every so often, where they are asked for; else by the returns of the last training episodes.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from rlopt.core.parts import State
from rlopt.envs.spec import EnvSpec
from rlopt.evaluation.episodes import Evaluation, evaluate
from rlopt.evaluation.video import Video, animation
from rlopt.loggers import console
from rlopt.parallel.ranks import is_first_rank, on_all_ranks
from rlopt.training.agent import Agent
from rlopt.training.plan import Plan
from rlopt.training.timer import Timer


class Evaluator:
    """Evaluations take place on the first rank alone, and are no part of training's time."""

    def __init__(self, plan: Plan, environment: EnvSpec, agent: Agent, clock: Timer):
        self._plan, self._environment, self._agent, self._clock = plan, environment, agent, clock
        self.best: float | None = None  # highest return of the periodic evaluations
        self.score: float | None = None  # what was measured of the policy as it stands; None where it is not finite

    @property
    def found_best(self) -> bool:
        return self.score is not None and self.score == self.best

    def after(self, updates: int, state: State, recent: Collection[float]) -> Evaluation | None:
        """Measure the policy of this update, where that is due; ``recent`` are the returns of the last episodes."""
        every = self._plan.evaluation_every
        if every is None:
            self.score = _finite(float(np.mean(list(recent)))) if recent else None
            return None
        self.score = None
        if updates % every:
            return None
        found: Evaluation | None = on_all_ranks(lambda: self._evaluated(state, True) if is_first_rank() else None)
        if found:
            self.score = _finite(found.mean)
            self.best = max((x for x in (self.best, self.score) if x is not None), default=None)
        return found

    def last(self, state: State) -> dict[str, Evaluation]:
        """The last policy's evaluations, with its mode and with its samples."""
        episodes = self._plan.evaluation_episodes
        if not episodes:
            return {}
        console.info(f"evaluation: {episodes} episodes with the mode, and {episodes} sampled")
        kinds = {"evaluation": True, "sampled_evaluation": False}
        return {name: self._evaluated(state, deterministic) for name, deterministic in kinds.items()}

    def film(self, state: State) -> tuple[bytes, int, int] | None:
        """A short film of the policy as a GIF, its height and width, where one is asked for and can be made."""
        plan = self._plan
        if not plan.recording.video_steps:
            return None
        policy = self._agent.evaluated_policy(state)
        try:
            reel = Video(self._environment, policy, self._agent.head, plan.seed)
            return animation(reel, plan.recording.video_steps)
        except Exception as error:  # noqa: BLE001  # whatever an environment's drawing does, the run is done
            console.info(f"rlopt: there is no film: {type(error).__name__}: {error}")
            return None

    def _evaluated(self, state: State, deterministic: bool) -> Evaluation:
        policy, plan = self._agent.evaluated_policy(state), self._plan
        with self._clock.paused():
            return evaluate(
                self._environment, policy, self._agent.head, plan.evaluation_episodes, plan.seed, deterministic
            )


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None

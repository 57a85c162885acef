"""Evaluator: measures a run's policy during training and at the end. The best checkpoint is the best by its score.

The score is the return of periodic evaluations where they are asked for, and else that of the last training episodes.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from rlopt.config.options import RunConfig
from rlopt.core.parts import State
from rlopt.evaluation.episodes import Evaluation, evaluate
from rlopt.evaluation.video import Video, animation
from rlopt.loggers import console
from rlopt.parallel.ranks import is_first_rank, on_all_ranks
from rlopt.training.agent import Agent


class Evaluator:
    """Evaluates the policy, on the first rank alone. The other ranks wait."""

    def __init__(self, config: RunConfig, agent: Agent):
        self._config, self._agent = config, agent
        self.best: float | None = None  # highest return of a periodic evaluation
        self.score: float | None = None  # of the policy after the last update; None where it is not known or not finite

    @property
    def is_best(self) -> bool:
        """True where the last update's policy has the highest return of a periodic evaluation."""
        return self.score is not None and self.score == self.best

    def after_update(self, updates: int, state: State, recent: Collection[float]) -> Evaluation | None:
        """The evaluation that is due after this many updates, if any, and the policy's new ``score``.

        Where no evaluations are made during training ``recent``, the last training returns, are the score.
        """
        every = self._config.evaluation.every_updates
        if every is None:
            self.score = _finite(float(np.mean(list(recent)))) if recent else None
            return None
        self.score = None
        if updates % every:
            return None
        found = on_all_ranks(lambda: self._evaluate(state, deterministic=True) if is_first_rank() else None)
        if found:
            self.score = _finite(found.mean)
            self.best = max((x for x in (self.best, self.score) if x is not None), default=None)
        return found

    def at_end(self, state: State) -> dict[str, Evaluation]:
        """The final policy's evaluations: with the mode of its distribution, and with samples of it."""
        episodes = self._config.evaluation.episodes
        if not episodes:
            return {}
        console.info(f"evaluation: {episodes} episodes with the mode, and {episodes} sampled")
        kinds = {"evaluation": True, "sampled_evaluation": False}
        return {name: self._evaluate(state, deterministic) for name, deterministic in kinds.items()}

    def record_video(self, state: State) -> tuple[bytes, int, int] | None:
        """A short GIF of the policy, its height and its width; None where none is asked for or it cannot be made."""
        steps = self._config.record.video_steps
        if not steps:
            return None
        policy = self._agent.evaluated_policy(state)
        try:
            video = Video(self._config.env, policy, self._agent.head, self._config.seed)
            return animation(video, steps)
        except Exception as error:  # noqa: BLE001  # the run is done, and drawing may raise anything
            console.info(f"rlopt: there is no video: {type(error).__name__}: {error}")
            return None

    def _evaluate(self, state: State, deterministic: bool) -> Evaluation:
        policy, config = self._agent.evaluated_policy(state), self._config
        episodes, limit = config.evaluation.episodes, config.evaluation.max_steps
        return evaluate(config.env, policy, self._agent.head, episodes, config.seed, deterministic, limit)


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None

"""Logger: writes what a run records: TensorBoard events, scalars.csv and summary.json.

These are the scalars by group. The actor's have no prefix, the critic's begin with ``critic/``. For their layout in
TensorBoard see loggers/tensorboard.py; for what is recorded only every few updates see training/diagnostics.py.

| name | is |
|---|---|
| episode/return, episode/length       | mean over the episodes that ended in this rollout, raw rewards |
| episode/return_min, episode/return_max | the least and the greatest return of these episodes |
| rollout/reward                       | raw, mean over the transitions of this rollout |
| step/kl, step/kl_predicted           | nats: measured on the whole batch; by the quadratic model |
| step/improvement                     | of the objective, measured on the whole batch |
| step/improvement_predicted           | of the objective: alpha g^T x |
| step/kl_measured                     | nats: of the last step, on its own samples |
| step/improvement_measured            | of the objective: by the last step, on its own samples |
| step/size, step/accepted             | alpha (or learning rate); 1 if the step was taken |
| step/rate, step/radius               | of this update, where a scheduler changes them |
| step/at_largest, step/clipped        | 1 if alpha is its upper bound; 1 if the radius shortened it |
| step/backtracks                      | candidates refused by the line search |
| solver/iterations, solver/residual   | of the linear solve; |g - (M + lambda I) x| / |g| |
| solver/negative_curvature            | 1 if CG met it |
| solver/pairs, solver/clamped         | L-BFGS: pairs in use; diagonal: negative entries taken for 0 |
| solver/remainder                     | low rank: the curvature assumed outside its eigenvectors |
| damping/value, damping/agreement     | lambda as used; what it learns from, 1 where the model holds |
| objective/value                      | at the start of the last step |
| objective/gradient_norm              | at the start of the last step |
| objective/beta                       | weight of KL in this update's objective (kl_penalty) |
| estimator/weight                     | mean importance weight, before self-normalisation; near 1 (svrpg, recursive) |
| estimator/effective_share            | of the samples that as many equal weights would be: (mean w)^2 / mean w^2 |
| reuse/weight, reuse/effective_share  | of the samples of the last batches: mean of w; (mean w)^2 / mean w^2 |
| policy/entropy                       | nats, mean over states, after the update |
| policy/std                           | of actions that are real numbers, mean over states, after the update |
| policy/clip_fraction                 | share of the batch whose ratio is beyond objective.clip (clipped) |
| policy/kl                            | nats: of the policy alone, where network and step/kl are shared with a value |
| critic/loss                          | mean squared error on the targets, after the update |
| critic/target_mean, critic/target_std | of its targets, by running statistics, where it normalises them |
| critic/explained_variance            | of the targets, before the update |
| critic/episodes                      | episodic natural actor-critic: whole episodes that it learned from |
| exploration/error, exploration/reward | mean intrinsic reward of a transition: raw; over the deviation of returns |
| exploration/explained_variance       | of the intrinsic critic's targets, before the update |
| evaluation/return, evaluation/std    | of periodic evaluations: raw returns, with the policy's mode |
| update/skipped                       | steps not taken since training began because a number was not finite |
| time/steps_per_second                | over the whole run so far, without start-up and evaluations |
| time/collect, time/update            | seconds of this update |
| time/physics                         | steps a second as a share of what mj_step alone does on as many cores |
| info/...                             | of record.info, see rollout/infos.py |
| agents/..., self_play/...            | of games of several agents, see rollout/agents.py |
| at_a_glance/...                      | TensorBoard alone: copies of eight scalars, see loggers/tensorboard.py |
| final/...                            | TensorBoard alone: summary.json's returns; mean_in_training, of their curve |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlopt.errors import UserError
from rlopt.files import finite_json, replace_file, shown
from rlopt.loggers import console, csv
from rlopt.loggers.csv import NAME as CSV_NAME
from rlopt.loggers.csv import CSVWriter
from rlopt.loggers.tensorboard import TensorBoardWriter
from rlopt.loggers.trackers import Tracker

_MOST_WAITING = 100_000  # rows of scalars that are kept while a file cannot be written


class _Curves:
    """One of the files that hold curves. Scalars that it cannot write are kept, and written when it can again.

    An error is printed once, and the run goes on.
    """

    def __init__(self, name: str, writer: TensorBoardWriter | CSVWriter):
        self._name, self._writer = name, writer
        self._waiting: deque[Callable[[], object]] = deque()
        self._lost = 0
        self._warned = False

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write the scalars of one update."""
        writer = self._writer
        self.write(partial(writer.append if isinstance(writer, CSVWriter) else writer.scalars, values, step), keep=True)

    def write(self, call: Callable[[], object], keep: bool) -> None:
        """Call what waits and then ``call``, which writes all or nothing. It waits if it fails and ``keep`` is true."""
        self._waiting.append(call)
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
        except OSError as error:
            self._warn(error, "Training goes on, and its rows are written when that is possible")
            if not keep or len(self._waiting) > _MOST_WAITING:
                self._waiting.pop()
                self._lost += keep
        except ValueError as error:  # not to be written at any time
            self._warn(error, "Training goes on without this row")
            self._waiting.popleft()
            self._lost += 1

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        self.write(self._writer.flush, keep=False)

    def close(self) -> None:
        """Try a last time to write what waits; print how much is lost."""
        self.write(lambda: None, keep=False)
        with suppress(OSError):
            self._writer.close()
        if lost := self._lost + len(self._waiting):
            console.info(f"rlopt: {lost:,} rows of {self._name} are lost: they could not be written")

    def _warn(self, error: Exception, consequence: str) -> None:
        if not self._warned:
            console.info(f"rlopt: {self._name} cannot be written: {error}. {consequence}")
        self._warned = True


class Logger:
    """Writes to one run's folder. Where one of its files cannot be written, the other one and the run go on.

    A run that is resumed ``after`` a step keeps what was recorded up to this step; readers do not see later points.
    Without ``tensorboard`` and ``csv`` it writes summary.json alone. What it writes it gives to a ``tracker`` too.
    """

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        config_text: str,
        tensorboard: bool,
        csv: bool,
        after: int | None = None,
        tracker: Tracker | None = None,
    ):
        self.run_dir, self._tracker = run_dir, tracker
        self._config = config
        self._events = self._table = None
        self._curves: dict[str, _Curves] = {}
        try:
            if tensorboard:
                self._events = TensorBoardWriter(run_dir, after)
                self._curves["events"] = _Curves(f"the event file in {shown(run_dir)}", self._events)
            if csv:
                self._table = CSVWriter(run_dir, after)
                self._curves["table"] = _Curves(str(shown(run_dir / CSV_NAME)), self._table)
            if self._events and (after is None or after < 0):
                self._events.begin(config_text)
        except BaseException:
            self.close()
            raise

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write the scalars of one update."""
        for curves in self._curves.values():
            curves.scalars(dict(values), step)
        if self._tracker:
            self._tracker.scalars(values, step)

    def histograms(self, values: Mapping[str, NDArray[Any]], step: int) -> None:
        """Write a histogram of each array's finite numbers, for TensorBoard."""
        if self._events:
            self._curves["events"].write(partial(self._events.histograms, values, step), keep=False)

    def image(self, name: str, encoded: bytes, height: int, width: int, step: int) -> None:
        """Write a PNG, or a GIF, which moves, for TensorBoard."""
        if self._events:
            self._curves["events"].write(partial(self._events.image, name, encoded, height, width, step), keep=False)
        if self._tracker:
            self._tracker.video(name, encoded, step)

    def policy(self, checkpoint: Path) -> None:
        """Give a tracker the last checkpoint."""
        if self._tracker:
            self._tracker.policy(checkpoint)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        for curves in self._curves.values():
            curves.flush()

    def summary(self, summary: Mapping[str, Any]) -> None:
        """Write TensorBoard's hparams tab, and then summary.json with the same results, which ends the run.

        Killed between the two, the run is evaluated again and TensorBoard has the same point twice. Raises UserError
        where summary.json cannot be written.
        """
        results = {f"final/{k}": v for k, v in summary.items() if k.startswith(("evaluation", "sampled", "return"))}
        results |= {"final/mean_in_training": self._mean_in_training()}
        results = {k: float(v) for k, v in results.items() if v is not None}
        if self._events:
            write = partial(self._events.results, self._config, results, summary["steps"])
            self._curves["events"].write(write, keep=True)
            self._curves["events"].flush()
        try:
            replace_file(self.run_dir / "summary.json", finite_json(dict(summary), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"summary.json cannot be written to {shown(self.run_dir)}: {error}") from error
        if self._tracker:
            self._tracker.summary(summary)

    def _mean_in_training(self) -> float | None:
        """The area under the curve of training returns over its steps; None where scalars.csv has none."""
        try:
            points = csv.read(self.run_dir / CSV_NAME, ["episode/return"])["episode/return"] if self._table else []
        except (OSError, ValueError, KeyError):
            return None
        x, y = (np.array([point[i] for point in points if np.isfinite(point[1])]) for i in (0, 1))
        if len(x) < 2:
            return float(y[0]) if len(y) else None
        return float(np.sum((y[1:] + y[:-1]) / 2 * np.diff(x)) / (x[-1] - x[0]))

    def close(self) -> None:
        for curves in self._curves.values():
            curves.close()
        if self._tracker:
            self._tracker.close()

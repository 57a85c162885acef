"""Logger: writes what a run records: TensorBoard events, scalars.csv and summary.json.

These are the scalars by group. The actor's have no prefix, the critic's begin with ``critic/``. For their layout in
TensorBoard see loggers/tensorboard.py; for what is recorded only every few updates see training/diagnostics.py.

| name | is |
|---|---|
| episode/return, episode/length       | mean over the episodes that ended in this rollout, raw rewards |
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
| policy/entropy                       | nats, mean over states, after the update |
| policy/kl                            | nats: of the policy alone, where network and step/kl are shared with a value |
| critic/loss                          | mean squared error on the targets, after the update |
| critic/explained_variance            | of the targets, before the update |
| critic/episodes                      | episodic natural actor-critic: whole episodes that it learned from |
| evaluation/return, evaluation/std    | of periodic evaluations: raw returns, with the policy's mode |
| update/skipped                       | steps not taken since training began because a number was not finite |
| time/steps_per_second                | over the whole run so far, without start-up and evaluations |
| time/collect, time/update            | seconds of this update |
| at_a_glance/...                      | TensorBoard alone: copies of eight scalars, see loggers/tensorboard.py |
| final/...                            | TensorBoard alone: the returns in summary.json |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rlopt.errors import UserError
from rlopt.files import finite_json, replace_file
from rlopt.loggers import console
from rlopt.loggers.csv import CSVWriter
from rlopt.loggers.tensorboard import TensorBoardWriter


class Logger:
    """Writes to one run's folder. An error in writing curves is printed once, and the run goes on.

    A run that is resumed ``after`` a step keeps what was recorded up to this step; readers do not see later points.
    Without ``tensorboard`` and ``csv`` it writes summary.json alone.
    """

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        config_text: str,
        tensorboard: bool,
        csv: bool,
        after: int | None = None,
    ):
        self.run_dir = run_dir
        self._failed = False
        self._config = config
        self._events = self._table = None
        try:
            self._events = TensorBoardWriter(run_dir, after) if tensorboard else None
            self._table = CSVWriter(run_dir, after) if csv else None
            if self._events and (after is None or after < 0):
                self._events.begin(config_text)
        except BaseException:
            self.close()
            raise

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write the scalars of one update."""
        with self._tolerant():
            if self._events:
                self._events.scalars(values, step)
            if self._table:
                self._table.append(values, step)

    def histograms(self, values: Mapping[str, NDArray[Any]], step: int) -> None:
        """Write a histogram of each array's finite numbers, for TensorBoard."""
        if self._events:
            with self._tolerant():
                self._events.histograms(values, step)

    def image(self, name: str, encoded: bytes, height: int, width: int, step: int) -> None:
        """Write a PNG, or a GIF, which moves, for TensorBoard."""
        if self._events:
            with self._tolerant():
                self._events.image(name, encoded, height, width, step)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        with self._tolerant():
            for written in (self._events, self._table):
                if written:
                    written.flush()

    def summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, and TensorBoard's hparams tab with the same results. Raises UserError where it cannot."""
        try:
            replace_file(self.run_dir / "summary.json", finite_json(dict(summary), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"summary.json cannot be written to {self.run_dir}: {error}") from error
        results = {f"final/{k}": v for k, v in summary.items() if k.startswith(("evaluation", "sampled", "return"))}
        results = {k: float(v) for k, v in results.items() if v is not None}
        if self._events:
            with self._tolerant():
                self._events.results(self._config, results, summary["steps"])

    def close(self) -> None:
        with self._tolerant():
            for written in (self._events, self._table):
                if written:
                    written.close()

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Within, an error is printed if it is the first."""
        try:
            yield
        except (OSError, ValueError) as error:
            if not self._failed:
                self._failed = True
                console.info(f"rlopt: the curves in {self.run_dir} are no longer recorded: {error}")

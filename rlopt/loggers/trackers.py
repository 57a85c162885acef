"""record.tracker=wandb, mlflow or trackio: a run's record there as well as in its folder.

| of a run                     | Weights & Biases         | MLflow               | Trackio              |
|---|---|---|---|
| scalars, as in scalars.csv   | history, over ``step``   | metrics, by step     | logs, by step        |
| config.yaml                  | config                   | parameters           | config               |
| summary.json                 | summary                  | metrics final/...    | logs final/...       |
| policy/video                 | media                    | artifact video/      | media                |
| the last checkpoint          | artifact of type "model" | artifact policy/     | -                    |

Each is an extra (``pip install 'rlopt-geometry[wandb]'``), and is set as it is everywhere: WANDB_MODE=offline
needs no account, MLFLOW_TRACKING_URI says where MLflow keeps its runs (in plain files: MLFLOW_ALLOW_FILE_STORE=true),
TRACKIO_DIR where Trackio does. record.project is the project, or MLflow's experiment.

A resumed run goes on in the same run of the tracker, which tracker.json in its folder names. After a process was
killed, what it does again since its last checkpoint is not sent to MLflow twice, but for a row that was under way.
Weights & Biases and Trackio write with a delay, so to them it is: they may have some of these rows twice, and may lack
what they were given last before the kill. A tracker that fails is named once, and the run goes on without it.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from rlopt.errors import UserError, in_one_line, needs_extra
from rlopt.files import flatten, replace_file
from rlopt.files.reading import read_json
from rlopt.loggers import console

NAME = "tracker.json"
_ROOM = 400  # characters of the file, so that its length does not change with the step
_ALL = 10**9  # rows of a step
_LONGEST_TEXT = 500  # characters of an MLflow parameter
_MOST_PARAMETERS = 100  # of one request to MLflow


class Backend(Protocol):
    """One run in a tracker. ``known`` is the id of the run to go on with; None begins a new one, named ``id``."""

    id: str

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...

    def video(self, name: str, gif: Path, step: int) -> None: ...

    def summary(self, summary: Mapping[str, Any]) -> None: ...

    def policy(self, checkpoint: Path) -> None: ...

    def close(self, finished: bool) -> None: ...


class _WandB:
    def __init__(self, project: str, name: str, known: str | None, config: Mapping[str, Any], run_dir: Path):
        import wandb  # type: ignore[import-not-found]

        self._wandb, self.id = wandb, known or uuid.uuid4().hex[:12]
        about = {"project": project, "name": name, "id": self.id, "config": dict(config), "dir": str(run_dir)}
        self._run = wandb.init(resume="allow", settings=wandb.Settings(console="off"), **about)
        self._run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def video(self, name: str, gif: Path, step: int) -> None:
        self._run.log({name: self._wandb.Video(str(gif), format="gif"), "step": step})

    def summary(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))

    def policy(self, checkpoint: Path) -> None:
        artifact = self._wandb.Artifact(f"policy-{self.id}", type="model")
        artifact.add_file(str(checkpoint))
        self._run.log_artifact(artifact)

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


class _MLflow:
    def __init__(self, project: str, name: str, known: str | None, config: Mapping[str, Any], run_dir: Path):
        import mlflow  # type: ignore[import-not-found]

        self._entities, self._client = mlflow.entities, mlflow.MlflowClient()
        if known is not None:
            self.id = known
            self._client.update_run(known, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(project)
        place = experiment.experiment_id if experiment else self._client.create_experiment(project)
        self.id = self._client.create_run(place, run_name=name).info.run_id
        options = [(key, str(value)[:_LONGEST_TEXT]) for key, value in flatten(dict(config)).items()]
        for start in range(0, len(options), _MOST_PARAMETERS):
            some = options[start : start + _MOST_PARAMETERS]
            self._client.log_batch(self.id, params=[self._entities.Param(*option) for option in some])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def video(self, name: str, gif: Path, step: int) -> None:
        self._client.log_artifact(self.id, str(gif), "video")

    def summary(self, summary: Mapping[str, Any]) -> None:
        self.scalars(_final(summary), summary["steps"])

    def policy(self, checkpoint: Path) -> None:
        self._client.log_artifact(self.id, str(checkpoint), "policy")

    def close(self, finished: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


class _Trackio:
    def __init__(self, project: str, name: str, known: str | None, config: Mapping[str, Any], run_dir: Path):
        import trackio  # type: ignore[import-not-found]

        self._trackio, self.id = trackio, known or f"{name}-{uuid.uuid4().hex[:6]}"
        options = {key: str(value) for key, value in flatten(dict(config)).items()}
        how = "never" if known is None else "allow"
        trackio.init(project=project, name=self.id, config=options, resume=how)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(values), step=step)

    def video(self, name: str, gif: Path, step: int) -> None:
        self._trackio.log({name: self._trackio.Video(str(gif), format="gif")}, step=step)

    def summary(self, summary: Mapping[str, Any]) -> None:
        self.scalars(_final(summary), summary["steps"])

    def policy(self, checkpoint: Path) -> None:
        pass

    def close(self, finished: bool) -> None:
        self._trackio.finish()


def _final(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary."""
    numbers = {k: v for k, v in summary.items() if isinstance(v, int | float) and k != "steps"}
    return {f"final/{name}": float(value) for name, value in numbers.items()}


BACKENDS: dict[str, Callable[[str, str, str | None, Mapping[str, Any], Path], Backend]] = {
    "wandb": _WandB,
    "mlflow": _MLflow,
    "trackio": _Trackio,
}


def check(kind: str) -> None:
    """Raise UserError where the tracker's package is not installed."""
    if find_spec(kind) is None:
        raise UserError(needs_extra(f"record.tracker={kind} needs a package that is not installed", kind))


class Tracker:
    """Sends a run's record to a tracker, and to the same run of it where the run is resumed ``after`` a step.

    Raises UserError where it cannot begin; what fails later is printed once.
    """

    def __init__(self, kind: str, project: str, run_dir: Path, config: Mapping[str, Any], after: int | None):
        self._kind, self._project, self._file = kind, project, run_dir / NAME
        self._failed = self._finished = False
        self._length = -1  # of the file
        before = {} if after is None else self._saved()
        self._row = (-1, 0)  # the last one: its step, and how many there are of this step
        self._sent = (before.get("step", -1), before.get("rows", _ALL))  # the row up to which everything is there
        if kind != "mlflow" and not before.get("closed"):  # after a kill only MLflow has all that it was given
            self._sent = min(self._sent, (after or 0, _ALL))
        try:
            self._run = BACKENDS[kind](project, run_dir.name, before.get("id"), config, run_dir)
        except Exception as error:
            hint = "; WANDB_MODE=offline needs no account" if kind == "wandb" else ""
            message = f"{type(error).__name__}: {in_one_line(error)}"
            raise UserError(f"record.tracker={kind} cannot begin: {message}{hint}") from error

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Send a row of scalars, unless an earlier process has."""
        self._row = (step, self._row[1] + 1 if step == self._row[0] else 1)
        if self._row <= self._sent:
            return
        with self._safely():
            self._run.scalars(values, step)
            self._save(self._row)

    def video(self, name: str, gif: bytes, step: int) -> None:
        """Send a GIF."""
        with self._safely(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name.rpartition('/')[2]}.gif"
            path.write_bytes(gif)
            self._run.video(name, path, step)

    def summary(self, summary: Mapping[str, Any]) -> None:
        """Send the summary of the finished run."""
        self._finished = True
        with self._safely():
            self._run.summary(summary)

    def policy(self, checkpoint: Path) -> None:
        """Send the last checkpoint."""
        with self._safely():
            self._run.policy(checkpoint)

    def close(self) -> None:
        """End the run there; a run that is not finished is marked as one that was ended."""
        with self._safely():
            self._run.close(self._finished)
            self._save(max(self._row, self._sent), closed=True)

    @contextmanager
    def _safely(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  # a tracker may raise anything, and the run is worth more
            if not self._failed:
                message = f"{type(error).__name__}: {in_one_line(error)}"
                console.info(f"rlopt: record.tracker={self._kind} fails: {message}. Training goes on")
            self._failed = True

    def _saved(self) -> dict[str, Any]:
        """What an earlier process of the run has left; nothing where it has sent to another tracker."""
        try:
            found = read_json(self._file)
        except (OSError, ValueError):
            return {}
        same = isinstance(found, dict) and (found.get("tracker"), found.get("project")) == (self._kind, self._project)
        valid = same and isinstance(found.get("id"), str) and isinstance(found.get("step"), int)
        valid = valid and isinstance(found.get("rows", _ALL), int)  # files of earlier versions have steps alone
        return found if valid else {}

    def _save(self, row: tuple[int, int], closed: bool = False) -> None:
        """Note what is sent, up to ``row``. One write over the same bytes, so that a kill leaves no half."""
        about = {"tracker": self._kind, "project": self._project, "id": self._run.id}
        text = json.dumps({**about, "step": row[0], "rows": row[1], "closed": closed}).ljust(_ROOM) + "\n"
        if self._length != len(text):
            replace_file(self._file, text)
            self._length = len(text)
            return
        descriptor = os.open(self._file, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

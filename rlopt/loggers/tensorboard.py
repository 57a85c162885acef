"""A run for TensorBoard: its events, and the layout of the page.

TensorBoard sorts groups by name and opens the first. So the scalars that answer "does it learn, and if not, why not?"
are written a second time under at_a_glance/, in the order of the questions:

| 1_return             | rises: it learns                                                                         |
| 2_kl                 | near 0: the policy does not move; far above the radius: it jumps                         |
| 3_entropy            | near its end early: it has stopped exploring                                             |
| 4_explained_variance | 1: the critic knows the returns; 0 or below: the advantages are noise                    |
| 5_improvement        | of the objective, measured; 0 or below: the steps do not do their work                   |
| 6_accepted           | 0: steps are refused                                                                     |
| 7_gradient_norm      | 0: nothing to learn from; spikes: rewards or ratios are out of hand                      |
| 8_skipped            | above 0: numbers were not finite                                                         |

The Custom Scalars tab shows every other scalar by question, with a prediction and its measurement in one chart.

TensorBoard reads a folder's event files in the order of their names, which begin with a time in seconds. A resumed run
hides points of the files that were read before its own. With the clock's time for a name, two files of one second, or a
clock that was set back, would bring the hidden points back. So a new file here has a later name than all others.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import custom_scalars, histogram, hparams, text

from rlopt.errors import UserError
from rlopt.files import flatten
from rlopt.files.appending import AppendedFile

GLANCE = {
    "1_return": "episode/return",
    "2_kl": "step/kl",
    "3_entropy": "policy/entropy",
    "4_explained_variance": "critic/explained_variance",
    "5_improvement": "step/improvement",
    "6_accepted": "step/accepted",
    "7_gradient_norm": "objective/gradient_norm",
    "8_skipped": "update/skipped",
}
LAYOUT = {  # category -> chart -> scalars
    "1 Does it learn?": {
        "return of episodes, and of evaluations": ["episode/return", "evaluation/return"],
        "least and greatest return of a rollout's episodes": ["episode/return_min", "episode/return_max"],
        "length of episodes": ["episode/length"],
        "reward of a transition": ["rollout/reward"],
    },
    "2 Is the step right?": {
        "KL: predicted, measured / nats": ["step/kl", "step/kl_predicted", "policy/kl"],
        "improvement: predicted, measured": ["step/improvement", "step/improvement_predicted"],
        "last step alone: KL / nats": ["step/kl_measured"],
        "last step alone: improvement": ["step/improvement_measured"],
        "alpha or learning rate": ["step/size"],
        "rate and radius, where a scheduler moves them": ["step/rate", "step/radius"],
        "accepted, shortened, at its largest": ["step/accepted", "step/clipped", "step/at_largest"],
        "candidates refused": ["step/backtracks"],
        "KL spent off the natural gradient / share": ["step/waste", "step/waste_residual"],
        "length along the natural gradient": ["step/signal"],
        "objective": ["objective/value"],
    },
    "3 Is the direction right?": {
        "norm of the gradient": ["objective/gradient_norm"],
        "relative residual of the solve": ["solver/residual"],
        "iterations of the solver": ["solver/iterations"],
        "lambda": ["damping/value"],
        "negative curvature": ["solver/negative_curvature", "solver/clamped", "metric/negative"],
        "largest eigenvalue of the metric": ["metric/largest"],
        "condition of the metric, at least": ["metric/condition"],
    },
    "4 Does it explore, does the critic know?": {
        "entropy / nats": ["policy/entropy"],
        "standard deviation of actions": ["policy/std"],
        "explained variance": ["critic/explained_variance"],
        "critic's loss": ["critic/loss"],
    },
    "5 Numbers and time": {
        "skipped steps": ["update/skipped"],
        "steps per second": ["time/steps_per_second"],
        "seconds of an update": ["time/collect", "time/update"],
        "share of the time within MuJoCo": ["time/physics"],
    },
    "6 Of some parts only": {
        "spread of evaluations": ["evaluation/std"],
        "weight of KL in the objective": ["objective/beta"],
        "share of ratios beyond the clip": ["policy/clip_fraction"],
        "importance weights: mean, effective share": ["estimator/weight", "estimator/effective_share"],
        "weights of earlier batches: mean, effective share": ["reuse/weight", "reuse/effective_share"],
        "intrinsic reward: raw, over the deviation of returns": ["exploration/error", "exploration/reward"],
        "explained variance of intrinsic returns": ["exploration/explained_variance"],
        "critic's targets: running mean, deviation": ["critic/target_mean", "critic/target_std"],
        "what lambda learns from": ["damping/agreement"],
        "curvature outside the eigenvectors": ["solver/remainder"],
        "L-BFGS pairs in use": ["solver/pairs"],
        "whole episodes learned from": ["critic/episodes"],
    },
}
COLUMNS = {  # copies for the hparams tab, which sorts its columns by name and shows the first five
    "1 algo": "algo",
    "2 env": "env.id",
    "3 seed": "seed",
    "4 metric": "metric.part",
    "5 solver": "solver.part",
}
SPEED = "time/steps_per_second"  # a curve, whose last value is a result
_FILE_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\.")


class TensorBoardWriter:
    """Writes TensorBoard events to a new file in a run's folder. Each record reaches the system before the next.

    Points that an earlier writer put beyond step ``after`` are hidden. Methods raise OSError where a record cannot be
    written; there is no thread and no queue that could lose it unnoticed.
    """

    def __init__(self, run_dir: Path, after: int | None = None):
        run_dir.mkdir(parents=True, exist_ok=True)
        self._folder = run_dir
        seconds = [int(match[1]) for path in run_dir.iterdir() if (match := _FILE_NAME.match(path.name))]
        second = max([int(time.time()), *(n + 1 for n in seconds)])
        name = f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._file = AppendedFile(run_dir / name, new=True)
        self._write(Event(file_version="brain.Event:2"))
        if after is not None:
            self._write(Event(step=after + 1, session_log=SessionLog(status=SessionLog.START)))

    def begin(self, config_text: str) -> None:
        """Write the configuration and the layout, which stay the same over a run."""
        self._append(text("config", f"```yaml\n{config_text}\n```"))
        self._append(text("files", _files(self._folder)))
        charts = {
            category: {title: ["Multiline", [f"{name}$" for name in names]] for title, names in by_title.items()}
            for category, by_title in LAYOUT.items()
        }
        self._append(custom_scalars(charts))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars in one event, those of GLANCE twice."""
        copies = {f"at_a_glance/{name}": values[source] for name, source in GLANCE.items() if source in values}
        entries = [Summary.Value(tag=name, simple_value=value) for name, value in {**copies, **values}.items()]
        self._append(Summary(value=entries), step)

    def histograms(self, values: Mapping[str, NDArray[Any]], step: int) -> None:
        """Write a histogram of each array's finite numbers."""
        for name, array in values.items():
            finite = array[np.isfinite(array)].astype(np.float64)
            if finite.size:
                self._append(histogram(name, finite, bins=64), step)

    def image(self, name: str, encoded: bytes, height: int, width: int, step: int) -> None:
        """Write a PNG, or a GIF, which moves."""
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._append(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def results(self, config: Mapping[str, Any], results: Mapping[str, float], step: int) -> None:
        """Write the hparams tab: the configuration beside the results."""
        options = _hparams(config)
        columns = {name: options[source] for name, source in COLUMNS.items() if source in options} | options
        for entry in hparams(columns, {**results, SPEED: 0.0}):  # of which names alone are written here
            self._append(entry)
        self.scalars(results, step)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        self._file.synchronise()

    def close(self) -> None:
        self._file.close()

    def _append(self, summary: Summary, step: int = 0) -> None:
        self._write(Event(summary=summary, step=step))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        record = BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.append(record.getvalue())


def add_figure(run_dir: Path, name: str, png: Path, step: int) -> None:
    """Put a figure among TensorBoard's images, as the run RUN/name.

    It gets a folder of its own. In the run's folder TensorBoard would take the newer events for the run's continuation,
    and no longer read the older file.
    """
    if (run_dir / name).is_symlink():
        raise UserError(f"{run_dir / name} is a link; remove it, or put a folder in its place")
    encoded = png.read_bytes()
    width, height = struct.unpack(">II", encoded[16:24])  # in a PNG's first chunk
    with closing(TensorBoardWriter(run_dir / name)) as events:
        events.image(name, encoded, height, width, step)


def _files(run_dir: Path) -> str:
    """Where the run's other files are, and the command for its report, as Markdown."""
    place = Path(os.fsencode(run_dir.resolve()).decode(errors="replace"))  # names may be bytes that are no letters
    return (
        f"`{place}` holds config.yaml, scalars.csv, summary.json and checkpoints/; video.mp4 after "
        f"`rlopt eval {shlex.quote(str(place))} --video`.\n\n`rlopt report {shlex.quote(str(place.parent))}` makes "
        "report.html of all runs there."
    )


def _hparams(config: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """The configuration as the hparams tab can hold it: dotted names, and for each part the name of its class."""
    columns: dict[str, bool | float | str] = {}
    for name, value in flatten(config).items():
        if isinstance(value, str) and name.rpartition(".")[2] == "_target_":
            value = value.rpartition(".")[2]
        if not isinstance(value, (bool, int, float)):
            value = str(value).encode(errors="replace").decode()  # a path may hold bytes that are no letters
        columns[name.replace("_target_", "part")] = value
    return columns

"""A run for TensorBoard: its events, and how the page is laid out.

TensorBoard sorts groups by name and opens the first. So what answers "does it learn, and if not, why not?" is written a
second time under at_a_glance/, in the order in which one asks:

| 1_return             | rises: it learns                                                                         |
| 2_kl                 | near 0: the policy does not move; far above the radius: it jumps                         |
| 3_entropy            | near its end early: it has stopped exploring                                             |
| 4_explained_variance | 1: the critic knows the returns; 0 or below: the advantages are noise                    |
| 5_improvement        | of the objective, measured; not above 0: the steps do not do what they are for           |
| 6_accepted           | 0: steps are refused                                                                     |
| 7_gradient_norm      | 0: nothing to learn from; spikes: rewards or ratios are out of hand                      |
| 8_skipped            | above 0: numbers were not finite                                                         |

The Custom Scalars tab lays every other scalar out by question, predictions in one chart with what was measured.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, histogram, hparams, text

from rlopt.errors import UserError
from rlopt.loggers.event_file import EventFile

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
        "length of episodes": ["episode/length"],
        "reward of a transition": ["rollout/reward"],
    },
    "2 Is the step right?": {
        "KL: predicted, measured / nats": ["step/kl", "step/kl_predicted", "policy/kl"],
        "improvement: predicted, measured": ["step/improvement", "step/improvement_predicted"],
        "last step alone: KL / nats": ["step/kl_measured"],
        "last step alone: improvement": ["step/improvement_measured"],
        "alpha or learning rate": ["step/size"],
        "accepted, shortened, at its largest": ["step/accepted", "step/clipped", "step/at_largest"],
        "candidates refused": ["step/backtracks"],
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
        "explained variance": ["critic/explained_variance"],
        "critic's loss": ["critic/loss"],
    },
    "5 Numbers and time": {
        "skipped steps": ["update/skipped"],
        "steps per second": ["time/steps_per_second"],
        "seconds of an update": ["time/collect", "time/update"],
    },
    "6 Of some parts only": {
        "spread of evaluations": ["evaluation/std"],
        "weight of KL in the objective": ["objective/beta"],
        "what lambda learns from": ["damping/agreement"],
        "curvature outside the eigenvectors": ["solver/remainder"],
        "L-BFGS pairs in use": ["solver/pairs"],
        "whole episodes learned from": ["critic/episodes"],
    },
}
COLUMNS = {  # of the hparams tab, which sorts them and shows the first five: copies of the whole run's most telling
    "1 algo": "algo",
    "2 env": "env.id",
    "3 seed": "seed",
    "4 metric": "metric.part",
    "5 solver": "solver.part",
}


class TensorBoardWriter:
    """Writes TensorBoard events under one run directory. What an earlier writer put beyond step ``after`` is hidden."""

    def __init__(self, run_dir: Path, after: int | None = None):
        self._file = EventFile(run_dir, None if after is None else after + 1)

    def begin(self, config_text: str) -> None:
        """What stays the same over a run."""
        self._file.append(text("config", f"```yaml\n{config_text}\n```"))
        charts = {
            category: {title: ["Multiline", [f"{name}$" for name in names]] for title, names in of_category.items()}
            for category, of_category in LAYOUT.items()
        }
        self._file.append(custom_scalars(charts))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """All in one event."""
        copies = {f"at_a_glance/{name}": values[source] for name, source in GLANCE.items() if source in values}
        entries = [Summary.Value(tag=name, simple_value=value) for name, value in {**copies, **values}.items()]
        self._file.append(Summary(value=entries), step)

    def histograms(self, values: Mapping[str, NDArray[Any]], step: int) -> None:
        for name, array in values.items():
            finite = array[np.isfinite(array)].astype(np.float64)
            if finite.size:
                self._file.append(histogram(name, finite, bins=64), step)

    def image(self, name: str, encoded: bytes, height: int, width: int, step: int) -> None:
        """A PNG, or a GIF, which moves."""
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._file.append(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def results(self, config: Mapping[str, Any], results: Mapping[str, float], step: int) -> None:
        """The hparams tab: configuration beside results."""
        flat = _flat(config)
        columns = {name: flat[source] for name, source in COLUMNS.items() if source in flat} | flat
        for name, value in columns.items():
            if isinstance(value, str):  # a path may have bytes that are no letters
                columns[name] = value.encode(errors="replace").decode()
        for entry in hparams(columns, dict(results)):
            self._file.append(entry)
        self.scalars(results, step)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def add_figure(run_dir: Path, name: str, png: Path, step: int) -> None:
    """Put a figure of a run among TensorBoard's images, as the run RUN/name.

    In a folder of its own: TensorBoard would take newer events in the run's for what follows it, and leave it.
    """
    if (run_dir / name).is_symlink():
        raise UserError(f"{run_dir / name} is a link; remove it, or put a folder in its place")
    encoded = png.read_bytes()
    width, height = struct.unpack(">II", encoded[16:24])  # of a PNG's first chunk
    with closing(TensorBoardWriter(run_dir / name)) as events:
        events.image(name, encoded, height, width, step)


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """Nested config -> dotted names, with values the hparams tab can hold."""
    flat: dict[str, bool | float | str] = {}
    for key, value in node.items():
        name = f"{prefix}{key}".replace("_target_", "part")
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[name] = value.rsplit(".", 1)[-1] if key == "_target_" and isinstance(value, str) else value
        else:
            flat[name] = str(value)
    return flat

"""How figures look, without a screen; lines differ in dash and lightness, so that they can be told apart in grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

CURVES: list[tuple[str, Any]] = [
    ("#000000", "-"),
    ("#b34700", (0, (5, 2))),
    ("#6fa8dc", "-"),
    ("#5b7f3a", (0, (1, 1.2))),
    ("#8a5fa8", (0, (5, 1.5, 1, 1.5))),
    ("#c9a227", (0, (3, 1))),
    ("#555555", (0, (8, 2))),
]


def small(titles: float) -> None:
    """Small type, for figures that stand beside text; titles in points."""
    plt.rcParams.update({"font.size": 9, "axes.titlesize": titles, "figure.dpi": 120, "savefig.bbox": "tight"})


def panels(columns: int, width: float, height: float, **options: Any) -> tuple[plt.Figure, Any]:
    """One row of them; inches."""
    return plt.subplots(1, columns, figsize=(width, height), layout="constrained", **options)


def save(figure: plt.Figure, path: Path, **options: Any) -> None:
    figure.savefig(path, **options)
    plt.close(figure)

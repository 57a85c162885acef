"""Lines that differ in dash and lightness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
_NAMED = {"gradient descent": 0, "Nesterov": 1, "CG": 2}


def style_of(method: str) -> tuple[str, Any]:
    return CURVES[_NAMED[method]]


def figure_of(columns: int, width: float, height: float, rows: int = 1) -> tuple[plt.Figure, Any]:
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained")


def save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path)
    plt.close(figure)

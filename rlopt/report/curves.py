"""Learning curves of several runs on one grid.

Every curve is joined by straight lines and averaged over each of the grid's cells, so that runs with many updates are
smoothed and runs with few are interpolated by one and the same rule. The grid covers what all of them have: from the
latest first point to the earliest last one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlopt.report.scalars import Array

CELLS = 100


def aligned(curves: Sequence[tuple[Array, Array]], cells: int = CELLS) -> tuple[Array, Array]:
    """Curves (x, y) with x increasing -> the cells' middles (G,) and the curves' means there (G, R).

    G is 1 where all have one point in common, 0 where they have none.
    """
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not first < last:
        there = np.array([first])[: int(first == last)]
        return there, np.array([np.interp(there, x, y) for x, y in curves]).T
    edges = np.linspace(first, last, cells + 1)
    return (edges[1:] + edges[:-1]) / 2, np.array([_means(x, y, edges) for x, y in curves]).T


def average(x: Array, y: Array) -> float:
    """Mean of one curve over its whole range."""
    return float(y[0] if len(x) == 1 else _means(x, y, x[[0, -1]])[0])


def _means(x: Array, y: Array, edges: Array) -> Array:
    """Mean of the line through (x, y) between neighbouring edges."""
    corners = np.union1d(x, edges)
    heights = np.interp(corners, x, y)
    area = np.concatenate([[0.0], np.cumsum(np.diff(corners) * (heights[1:] + heights[:-1]) / 2)])
    return np.diff(area[np.searchsorted(corners, edges)]) / np.diff(edges)

"""Which of two methods is better, for every pair: the probability of improvement, its interval and an exact test.

The interval is the bootstrap's over seeds. With few of them it is too narrow, and there are as many questions as pairs;
so a pair is also put to a test that is exact with any number of seeds. If on every environment the scores of the two
are from one distribution, then the sum over environments of Mann and Whitney's U has a known one. A small p-value says
that they differ on some environment; which is ahead is told by the sum. The p-values are corrected for the number of
pairs by Holm's procedure (1979), those by steps and those by seconds each on their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments._shared import style
from experiments._shared.data import write_rows
from rlopt.report.statistics import Array, Estimate, centre, improvement

COLUMNS = ["first", "second", "by", "probability", "low", "high", "p", "p_holm"]
LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """Of two methods the one that is more often better, the other, and how certain that is."""

    first: str
    second: str
    ahead: Estimate  # the probability that a run of the first is better than one of the second
    p: float  # of the exact test
    p_holm: float  # corrected for all pairs

    @property
    def ahead_of_chance(self) -> bool:
        """Whether the interval leaves out one half."""
        return bool(self.ahead.low > 0.5)

    @property
    def confirmed(self) -> bool:
        """Whether the exact test, corrected for all pairs, says so too."""
        return self.ahead_of_chance and self.p_holm <= LEVEL


def compared(strata: Mapping[str, Sequence[Array]]) -> list[Pair]:
    """All pairs of ``strata``, which has for each method an array of scores for each environment."""
    found = []
    for x, y in combinations(strata, 2):
        first, second, ahead = x, y, improvement(strata[x], strata[y])
        if ahead.value < 0.5:
            first, second = y, x
            ahead = Estimate(1 - ahead.value, 1 - ahead.high, 1 - ahead.low)
        found.append((first, second, ahead, stratified_p(strata[x], strata[y])))
    corrected = holm([p for *_, p in found])
    return [Pair(*each, p) for each, p in zip(found, corrected, strict=True)]


def stratified_p(first: Sequence[Array], second: Sequence[Array]) -> float:
    """The two-sided p-value of the sum over environments of U, by its exact distribution (ties count half)."""
    total, distribution = 0.0, np.ones(1)
    for x, y in zip(first, second, strict=True):
        total += np.heaviside(x[:, None] - y, 0.5).sum()
        ways = _ways(len(x), len(y))
        distribution = np.convolve(distribution, ways / ways.sum())
    middle = (len(distribution) - 1) / 2
    far = np.abs(np.arange(len(distribution)) - middle) >= abs(total - middle) - 1e-9
    return min(1.0, float(distribution[far].sum()))


@lru_cache
def _ways(m: int, n: int) -> Array:
    """In how many orders of m and n scores U is 0, 1, ..., m n: the last is of one group or of the other."""
    if m == 0 or n == 0:
        return np.ones(1)
    ways = np.zeros(m * n + 1)
    ways[n:] += _ways(m - 1, n)  # above all n of the other group
    ways[: m * (n - 1) + 1] += _ways(m, n - 1)
    return ways


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: the chance of one or more false discoveries is at most the level."""
    corrected, largest = [0.0] * len(values), 0.0
    for place, index in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = largest
    return corrected


def table(by_steps: Sequence[Pair], by_seconds: Sequence[Pair], titles: Mapping[str, str]) -> str:
    """Of each method: how many others it is ahead of and behind, by the interval and by the test."""
    names = "ahead of | behind | interval holds 1/2"
    lines = ["**Pairs**: others that a method is ahead of or behind, by the interval (confirmed by the test)", "",
             f"| method | by steps: {names} | by seconds: {names} |", f"|---{'|---' * 6}|"]  # fmt: skip
    for method, title in titles.items():
        shown: list[str] = []
        for pairs in (by_steps, by_seconds):
            won = [pair for pair in pairs if pair.ahead_of_chance and pair.first == method]
            lost = [pair for pair in pairs if pair.ahead_of_chance and pair.second == method]
            shown += [f"{len(each)} ({sum(pair.confirmed for pair in each)})" for each in (won, lost)]
            shown.append(str(len(titles) - 1 - len(won) - len(lost)))
        lines.append(f"| {title} | {' | '.join(shown)} |")
    return "\n".join(lines)


def write(by_steps: Sequence[Pair], by_seconds: Sequence[Pair], file: Path) -> None:
    """Every pair with its interval and p-values."""
    rows = []
    for by, pairs in (("steps", by_steps), ("seconds", by_seconds)):
        for pair in pairs:
            ahead = (float(value) for value in (pair.ahead.value, pair.ahead.low, pair.ahead.high))
            rows.append([pair.first, pair.second, by, *ahead, pair.p, pair.p_holm])
    write_rows(file, COLUMNS, rows, digits=3)


def draw(strata: Sequence[Mapping[str, Sequence[Array]]], pairs: Sequence[Sequence[Pair]], titles: Mapping[str, str],
         picture: Path) -> None:  # fmt: skip
    """By steps and by seconds: the probability that the row is better than the column; coloured where confirmed."""
    side = 1.6 + 0.42 * len(titles)
    figure, axes = plt.subplots(1, 2, figsize=(2 * side + 1.5, side), layout="constrained")
    for axis, scores, found, by in zip(axes, strata, pairs, ("by steps", "by seconds"), strict=True):
        order = sorted(titles, key=lambda method: -float(centre(np.concatenate(scores[method]), "iqm")))
        _matrix(axis, found, order)
        axis.set_xticks(range(len(order)), [titles[method] for method in order], rotation=45, ha="right")
        axis.set_yticks(range(len(order)), [titles[method] for method in order])
        axis.set_title(f"P(row better than column), {by}")
    style.save(figure, picture, dpi=110)


def _matrix(axis: Axes, pairs: Sequence[Pair], order: Sequence[str]) -> None:
    place = {method: number for number, method in enumerate(order)}
    colored = np.full((len(order), len(order)), 0.5)
    for pair in pairs:
        i, j, value = place[pair.first], place[pair.second], float(pair.ahead.value)
        for row, column, chance in ((i, j, value), (j, i, 1 - value)):
            if pair.confirmed:
                colored[row, column] = chance
            color = "black" if pair.ahead_of_chance else "#999999"
            axis.text(column, row, f"{chance:.2f}", ha="center", va="center", fontsize=8, color=color)
    axis.imshow(colored, cmap="RdBu", vmin=-0.2, vmax=1.2, aspect="auto")
    axis.tick_params(length=0)

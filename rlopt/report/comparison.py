"""What a report says of runs: their scores, the table, profiles and probabilities of improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rlopt.report.curves import average
from rlopt.report.grouping import Group
from rlopt.report.runs import LeftOut, Run
from rlopt.report.scalars import Array
from rlopt.report.statistics import Estimate, estimate, improvement, pooled, profile

Ranges = Mapping[str, tuple[float, float]]
_THRESHOLDS = 101


@dataclass(frozen=True)
class Comparison:
    groups: Sequence[Group]
    scores: Sequence[Array]  # by group, then by seed
    score: str  # what they are
    ranges: Ranges  # by environment: the returns that are 0 and 1 once normalised
    given: frozenset[str]  # the environments whose range was given
    left_out: Sequence[LeftOut]

    @property
    def environments(self) -> list[str]:
        return list(dict.fromkeys(g.environment for g in self.groups))

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(g.method for g in self.groups))

    def of(self, method: str) -> dict[str, Array]:
        """A method's scores by environment: as they are if there is one environment only, else normalised."""
        found = {}
        for g, scores in zip(self.groups, self.scores, strict=True):
            if g.method == method:
                low, high = self.ranges[g.environment] if len(self.environments) > 1 else (0.0, 1.0)
                found[g.environment] = (scores - low) / (high - low)
        return found


def compare(groups: Sequence[Group], left_out: Sequence[LeftOut], ranges: Ranges) -> Comparison:
    """Scores are evaluation returns where every run has one, else what training ended with."""
    evaluated = all(isinstance(r.summary.get("evaluation_return"), (int, float)) for g in groups for r in g.runs)
    scores = [np.array([_score(r, evaluated) for r in g.runs]) for g in groups]
    what = "evaluation return" if evaluated else "return of the last tenth of training"
    every = {g.environment: ranges.get(g.environment) or _range(groups, scores, g.environment) for g in groups}
    return Comparison(groups, scores, what, every, frozenset(ranges), left_out)


def _score(run: Run, evaluated: bool) -> float:
    if evaluated:
        return float(run.summary["evaluation_return"])
    late = run.steps >= run.steps[-1] - 0.1 * (run.steps[-1] - run.steps[0])
    return float(np.mean(run.values[late]))


def _range(groups: Sequence[Group], scores: Sequence[Array], environment: str) -> tuple[float, float]:
    """From the mean return of the first policies to the highest score; nothing learnt, from lowest to highest."""
    here = [i for i, g in enumerate(groups) if g.environment == environment]
    first = float(np.mean([r.values[0] for i in here for r in groups[i].runs]))
    every = np.concatenate([scores[i] for i in here])
    low, high = min(first, float(every.max())), float(every.max())
    low = low if low < high else float(every.min())
    return (low, high) if low < high else (low - 1.0, high)


HEADS = ("environment", "method", "seeds", "mean (95% t interval)", "IQM (95% bootstrap)", "lowest", "highest",
         "mean in training", "seconds")  # fmt: skip
POOLED_HEADS = ("method", "runs", "mean (95% bootstrap)", "IQM (95% bootstrap)")


def table(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row of HEADS for every group."""
    rows = []
    for g, scores in zip(comparison.groups, comparison.scores, strict=True):
        places = _places([s for g2, s in zip(comparison.groups, comparison.scores, strict=True)
                          if g2.environment == g.environment])  # fmt: skip
        training = float(np.mean([average(r.steps, r.values) for r in g.runs]))
        seconds = float(np.mean([r.seconds[-1] for r in g.runs]))
        mean, iqm = estimate(scores, "mean", "t"), estimate(scores, "iqm", "bootstrap")
        numbers = (number(x, places) for x in (float(scores.min()), float(scores.max()), training))
        rows.append((g.environment, g.method, str(len(g.runs)), spelled(mean, places), spelled(iqm, places), *numbers,
                     number(seconds, 0 if seconds >= 10 else 1)))  # fmt: skip
    return rows


def pooled_table(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row of POOLED_HEADS for every method that has runs in all of several environments."""
    rows: list[tuple[str, ...]] = []
    for method in comparison.methods:
        strata = comparison.of(method)
        if len(strata) == len(comparison.environments) > 1:
            every = list(strata.values())
            found = (spelled(pooled(every, "mean"), 3), spelled(pooled(every, "iqm"), 3))
            rows.append((method, str(sum(map(len, every))), *found))
    return rows


def profiles(comparison: Comparison) -> tuple[Array, dict[str, Estimate]]:
    """Thresholds and the profile of every method that has runs in all environments."""
    strata = {m: list(comparison.of(m).values()) for m in comparison.methods}
    strata = {m: s for m, s in strata.items() if len(s) == len(comparison.environments)}
    if not strata:
        return np.zeros(0), {}
    every = np.concatenate([x for s in strata.values() for x in s])
    room = 0.05 * (np.ptp(every) or abs(every[0]) or 1.0)
    thresholds = np.linspace(every.min() - room, every.max() + room, _THRESHOLDS)
    return thresholds, {m: profile(s, thresholds) for m, s in strata.items()}


def improvements(comparison: Comparison) -> dict[tuple[str, str], Estimate]:
    """(X, Y) -> P(X > Y) over the environments that both have; X is the likelier one to be ahead."""
    found = {}
    for x, y in combinations(comparison.methods, 2):
        first, second = comparison.of(x), comparison.of(y)
        both = [e for e in first if e in second]
        if both:
            ahead = improvement([first[e] for e in both], [second[e] for e in both])
            if ahead.value < 0.5:
                (x, y), ahead = (y, x), Estimate(1 - ahead.value, 1 - ahead.high, 1 - ahead.low)
            found[x, y] = ahead
    return found


def number(value: float, places: int) -> str:
    return "-" if not np.isfinite(value) else f"{value:,.{places}f}"


def spelled(e: Estimate, places: int) -> str:
    """Value (low to high); the value alone where there is no interval."""
    interval = f" ({number(float(e.low), places)} to {number(float(e.high), places)})" if np.isfinite(e.low) else ""
    return number(float(e.value), places) + interval


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right."""
    rule = ["---" if head in ("environment", "method") else "---:" for head in heads]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *escaped))


def _places(scores: Sequence[Array]) -> int:
    """Digits behind the point that suit the largest of them."""
    largest = max(float(np.abs(s).max()) for s in scores)
    return 0 if largest >= 1000 else 1 if largest >= 10 else 2 if largest >= 1 else 4

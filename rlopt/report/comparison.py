"""The numbers of a report: scores, tables, performance profiles and probabilities of improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations

import numpy as np

from rlopt.report.grouping import Group
from rlopt.report.runs import LeftOut, Run
from rlopt.report.statistics import Array, Estimate, average, estimate, improvement, pooled, profile, within

Ranges = Mapping[str, tuple[float, float]]
_SHOWN = {ord("|"): r"\|", ord("`"): r"\`", ord("\n"): " "}
_THRESHOLDS = 101  # of a performance profile


@dataclass(frozen=True)
class Comparison:
    """Groups of runs with their scores."""

    groups: Sequence[Group]
    scores: Sequence[Array]  # by group, then by seed
    score: str  # the scores' name
    ranges: Ranges  # by environment: the returns that are normalised to 0 and 1
    given: frozenset[str]  # the environments whose range was given, not taken from the runs
    left_out: Sequence[LeftOut]

    @property
    def environments(self) -> list[str]:
        return list(dict.fromkeys(g.environment for g in self.groups))

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(g.method for g in self.groups))

    def scores_of(self, method: str) -> dict[str, Array]:
        """A method's scores by environment; normalised if there are several environments."""
        found = {}
        for g, scores in zip(self.groups, self.scores, strict=True):
            if g.method == method:
                low, high = self.ranges[g.environment] if len(self.environments) > 1 else (0.0, 1.0)
                found[g.environment] = (scores - low) / (high - low)
        return found


def compare(groups: Sequence[Group], left_out: Sequence[LeftOut], ranges: Ranges) -> Comparison:
    """Score the runs: by evaluation return if every run has one, else by the mean return of training's last tenth."""
    evaluated = all(isinstance(r.summary.get("evaluation_return"), (int, float)) for g in groups for r in g.runs)
    scores = [np.array([_score(r, evaluated) for r in g.runs]) for g in groups]
    what = "evaluation return" if evaluated else "return of the last tenth of training"
    every = {g.environment: ranges.get(g.environment) or _range(groups, scores, g.environment) for g in groups}
    return Comparison(groups, scores, what, every, frozenset(ranges), left_out)


def _score(run: Run, evaluated: bool) -> float:
    """The evaluation return, or the mean of the curve's last tenth."""
    if evaluated:
        return float(run.summary["evaluation_return"])
    late = run.steps >= run.steps[-1] - 0.1 * (run.steps[-1] - run.steps[0])
    return float(np.mean(run.values[late]))


def _range(groups: Sequence[Group], scores: Sequence[Array], environment: str) -> tuple[float, float]:
    """(mean return of the first policies, highest score); (lowest, highest score) if no run is above its start."""
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
    """Rows with the columns HEADS, one for each group."""
    rows = []
    pairs = list(zip(comparison.groups, comparison.scores, strict=True))
    for g, scores in pairs:
        decimals = _decimals([others for other, others in pairs if other.environment == g.environment])
        training = float(np.mean([average(r.steps, r.values) for r in g.runs]))
        seconds = float(np.mean([r.seconds[-1] for r in g.runs]))
        estimates = within(estimate(scores, "mean", "t"), g.possible), estimate(scores, "iqm", "bootstrap")
        numbers = float(scores.min()), float(scores.max()), training
        rows.append((
            g.environment, g.method, str(len(g.runs)), *(format_estimate(e, decimals) for e in estimates),
            *(format_number(x, decimals) for x in numbers), format_number(seconds, 0 if seconds >= 10 else 1),
        ))  # fmt: skip
    return rows


def pooled_table(comparison: Comparison) -> list[tuple[str, ...]]:
    """Rows with the columns POOLED_HEADS, for methods with runs in all of several environments."""
    rows: list[tuple[str, ...]] = []
    for method in comparison.methods:
        strata = comparison.scores_of(method)
        if len(strata) == len(comparison.environments) > 1:
            every = list(strata.values())
            found = (format_estimate(pooled(every, "mean"), 3), format_estimate(pooled(every, "iqm"), 3))
            rows.append((method, str(sum(map(len, every))), *found))
    return rows


def profiles(comparison: Comparison) -> tuple[Array, dict[str, Estimate]]:
    """Thresholds (N,), and the profile of each method with runs in all environments."""
    strata = {m: list(comparison.scores_of(m).values()) for m in comparison.methods}
    strata = {m: s for m, s in strata.items() if len(s) == len(comparison.environments)}
    if not strata:
        return np.zeros(0), {}
    every = np.concatenate([x for s in strata.values() for x in s])
    room = 0.05 * (np.ptp(every) or abs(every[0]) or 1.0)
    thresholds = np.linspace(every.min() - room, every.max() + room, _THRESHOLDS)
    return thresholds, {m: profile(s, thresholds) for m, s in strata.items()}


def improvements(comparison: Comparison) -> dict[tuple[str, str], Estimate]:
    """(X, Y) -> P(X > Y) over the environments of both. X is the method with the larger probability."""
    found = {}
    for x, y in combinations(comparison.methods, 2):
        first, second = comparison.scores_of(x), comparison.scores_of(y)
        both = [e for e in first if e in second]
        if both:
            ahead = improvement([first[e] for e in both], [second[e] for e in both])
            if ahead.value < 0.5:
                (x, y), ahead = (y, x), Estimate(1 - ahead.value, 1 - ahead.high, 1 - ahead.low)
            found[x, y] = ahead
    return found


def format_number(value: float, decimals: int) -> str:
    """The number with commas, four significant digits of one that is large, or - if it is not finite."""
    return "-" if not np.isfinite(value) else f"{value:,.{decimals}f}" if abs(value) < 1e9 else f"{value:.3e}"


def format_estimate(e: Estimate, decimals: int) -> str:
    """``value (low to high)``, or the value alone if there is no interval."""
    low, high = (format_number(float(x), decimals) for x in (e.low, e.high))
    return format_number(float(e.value), decimals) + (f" ({low} to {high})" if np.isfinite(e.low) else "")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with numbers to the right. What a name holds of HTML, links and line breaks is shown as text."""
    rule = ["---" if head in ("environment", "method") else "---:" for head in heads]
    escaped = [[escape(cell, quote=False).translate(_SHOWN).replace("](", r"]\(") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *escaped))


def _decimals(scores: Sequence[Array]) -> int:
    """Digits behind the point, by the largest score."""
    largest = max(float(np.abs(s).max()) for s in scores)
    return 0 if largest >= 1000 else 1 if largest >= 10 else 2 if largest >= 1 else 4

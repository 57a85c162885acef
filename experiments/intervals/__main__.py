"""How often a 95% interval over seeds holds the truth: scripts/reproduce intervals [--quick] [--figures]

Scores of R runs are drawn from a distribution whose mean and interquartile mean are known; the intervals are those of
`rlopt plot` and `rlopt report`. Writes results/coverage.csv, a table and coverage.png; --figures makes the last two
anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments._shared import study, style
from experiments._shared.data import read_rows, write_rows

HERE = Path(__file__).parent
RUNS = (3, 5, 10, 20)
SIMULATIONS = 4000
_INTERVALS = [("mean", "t"), ("mean", "bootstrap"), ("iqm", "t"), ("iqm", "bootstrap")]
_KEYS = ["scores", "runs", "centre", "interval", "coverage", "width", "simulations"]


def normal(u: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri(u)


def exponential(u: np.ndarray) -> np.ndarray:
    return -np.log1p(-u)


def failing(u: np.ndarray) -> np.ndarray:
    """One run in five fails: scores in 0 to .2, the others' in .8 to 1."""
    return np.where(u < 0.2, u, 0.75 + 0.25 * u)


# name -> its quantiles
SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": normal,
    "exponential": exponential,
    "one in five fails": failing,
}


def truth(quantiles: Callable[[np.ndarray], np.ndarray], centre: str) -> float:
    """Mean, or mean between the quartiles, of the distribution."""
    low, high = (0.25, 0.75) if centre == "iqm" else (0.0, 1.0)
    edges = np.linspace(low, high, 1_000_001)
    return float(quantiles((edges[1:] + edges[:-1]) / 2).mean())


def coverage(scores: str, runs: int, simulations: int) -> list[dict[str, object]]:
    """A row of results for every interval."""
    from rlopt.report.statistics import estimate

    quantiles = SCORES[scores]
    drawn = quantiles(np.random.default_rng([runs, list(SCORES).index(scores)]).random((simulations, runs)))
    rows = []
    for centre, interval in _INTERVALS:
        found, true = estimate(drawn, centre, interval), truth(quantiles, centre)
        held = np.mean((found.low <= true) & (true <= found.high))
        width = np.mean(found.high - found.low)
        row = (scores, runs, centre, interval, f"{held:.4f}", f"{width:.4f}", simulations)
        rows.append(dict(zip(_KEYS, row, strict=True)))
    return rows


def table(rows: list[dict[str, str]]) -> str:
    heads = ["mean, t", "mean, bootstrap", "IQM, t", "IQM, bootstrap"]
    lines = ["| scores | runs | " + " | ".join(heads) + " |", "|---|---:|" + "---:|" * len(heads)]
    found = {(r["scores"], int(r["runs"]), r["centre"], r["interval"]): float(r["coverage"]) for r in rows}
    for scores in SCORES:
        for runs in RUNS:
            cells = [f"{found[scores, runs, *pair]:.3f}".lstrip("0") for pair in _INTERVALS]
            lines.append(f"| {scores} | {runs} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, str]], path: Path) -> None:
    styles = [("black", "-", "o"), ("black", (0, (5, 2)), "s"), ("#6fa8dc", "-", "^"), ("#6fa8dc", (0, (5, 2)), "D")]
    figure, panels = plt.subplots(1, len(SCORES), figsize=(11, 3.5), sharey=True, layout="constrained")
    for panel, scores in zip(panels, SCORES, strict=True):
        for (centre, interval), (color, dash, marker) in zip(_INTERVALS, styles, strict=True):
            own = [r for r in rows if (r["scores"], r["centre"], r["interval"]) == (scores, centre, interval)]
            panel.plot([int(r["runs"]) for r in own], [float(r["coverage"]) for r in own], color=color, linestyle=dash,
                       marker=marker, label=f"{'IQM' if centre == 'iqm' else centre}, {interval}")  # fmt: skip
        panel.axhline(0.95, color="0.5", linewidth=0.8, linestyle=(0, (1, 2)))
        panel.set(title=f"scores: {scores}", xlabel="runs", xscale="log")
        panel.set_xticks(RUNS, RUNS)
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="95% intervals that hold the truth")
    panels[0].legend(frameon=False)
    style.save(figure, path, dpi=110)


def main() -> None:
    options = study.parser("Coverage of the intervals over seeds.", "200 simulations").parse_args()
    out = study.folder(HERE, options)
    file = out / "results/coverage.csv"
    if not options.figures:
        simulations = 200 if options.quick else SIMULATIONS
        found = [row for scores in SCORES for runs in RUNS for row in coverage(scores, runs, simulations)]
        write_rows(file, _KEYS, [list(row.values()) for row in found])
    rows = read_rows(file)
    draw(rows, out / "coverage.png")
    print(table(rows))


if __name__ == "__main__":
    main()

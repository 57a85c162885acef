"""Table and figure of what peers.py measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from experiments.speed.report import insert

FILLS = ("0.85", "0.55", "0.2", "0.0")  # peer, then rlopt's variants


def show(results: dict[str, Any]) -> None:
    """Steps per second, the ratio to the peer, the share of the simulator's rate and of time spent in updates."""
    print(f"\n{results['machine']}; load {' to '.join(f'{x:.1f}' for x in results['load'])} before and after\n")
    print(f"{'Gymnasium, random actions':<52}steps/s, median (range)")
    for env, sides in results["raw"].items():
        for side, values in sides.items():
            print(f"  {f'{env} environments, {side}':<50}{spread(values)}")
    heads = ("of one core", "of all cores", "in updates")
    print(f"\n{'training':<42}{'steps/s, median (range)':<30}{'against the peer (by round)':<30}{'  '.join(heads)}")
    for title, contest in results["contests"].items():
        one, every = raw_rates(results, contest["settings"])
        rates = contest["steps_per_second"]
        for side, values in rates.items():
            against = "" if side == contest["peer"] else ratio(values, rates[contest["peer"]])
            middle = statistics.median(values)
            shares = f"{middle / one:>11.0%}  {middle / every:>12.0%}  {contest['updating'][side]:>10.0%}"
            print(f"  {f'{title}: {side}':<40}{spread(values):<30}{against:<30}{shares}")
        print(f"    {contest['peer']} with {contest['best']['vector']} and {contest['best']['threads']} threads")


def raw_rates(results: dict[str, Any], settings: dict[str, Any]) -> tuple[float, float]:
    """The simulator's rate on one core and on all, medians; the best of the ways measured."""
    sides = results["raw"][f"{settings['env']}, {settings['num_envs']}"]
    middles = {side: statistics.median(values) for side, values in sides.items()}
    one = max(middle for side, middle in middles.items() if side.endswith("one core"))
    return one, max(middles.values())


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Ratio of medians, and the range of the rounds' own ratios."""
    rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median(ours) / statistics.median(theirs)
    return f"{middle:.2f}  ({min(rounds):.2f} to {max(rounds):.2f})"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):>7,.0f}  ({min(values):,.0f} to {max(values):,.0f})"


def write(results: dict[str, Any]) -> None:
    """The table, into the README."""
    lines = ["| | steps/s, median (range) | against the peer (by round) | of one core | of all cores | in updates | "
             "of mj_step |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for title, contest in results["contests"].items():
        rates = contest["steps_per_second"]
        for side, values in rates.items():
            against = "" if side == contest["peer"] else ratio(values, rates[contest["peer"]])
            shares = [statistics.median(values) / raw for raw in raw_rates(results, contest["settings"])]
            cells = [
                f"{title}: {side}",
                spread(values),
                against,
                *(f"{x:.0%}" for x in (*shares, contest["updating"][side])),
                f"{contest['physics'][side]:.0%}" if side in contest["physics"] else "",
            ]
            lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |")
    chosen = (
        f"{c['peer']}: {c['best']['vector']}, {c['best']['threads']} torch threads"
        for c in results["contests"].values()
    )
    raw = (
        f"{env} environments, {side}: {spread(v).strip()}"
        for env, sides in results["raw"].items()
        for side, v in sides.items()
    )
    lines += [
        "",
        f"{results['machine']}. Fastest settings: {'; '.join(chosen)}. Simulator alone, steps/s: {'; '.join(raw)}.",
    ]
    insert("peers", lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of medians with the range of the rounds; dashed: the simulator alone."""
    contests = results["contests"]
    figure, axes = plt.subplots(1, len(contests), figsize=(2.2 * len(contests), 3.6), sharey=True)
    for number, (axis, (title, contest)) in enumerate(zip(axes, contests.items(), strict=True)):
        rates = contest["steps_per_second"]
        theirs = statistics.median(rates[contest["peer"]])
        for place, (side, values) in enumerate(rates.items()):
            middle = statistics.median(values) / 1000
            error = [[middle - min(values) / 1000], [max(values) / 1000 - middle]]
            axis.bar(place, middle, color=FILLS[place], edgecolor="black", yerr=error, capsize=3, ecolor="0.4")
            if side != contest["peer"]:
                axis.text(place, max(values) / 1000 + 0.4, f"{middle * 1000 / theirs:.1f}x", ha="center", fontsize=9,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
        for level, words in zip(raw_rates(results, contest["settings"]), ("one core", "all cores"), strict=True):
            axis.axhline(level / 1000, color="black", linestyle="--", linewidth=0.8)
            if number == 0:
                axis.text(-0.45, level / 1000 + 0.3, f"simulator alone, {words}", fontsize=7)
        labels = [side.replace(" ", "\n").replace("-b", "-\nb") for side in rates]
        axis.set_xticks(range(len(rates)), labels, fontsize=7)
        axis.set_title(title, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("thousand environment steps per second")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)

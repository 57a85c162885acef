"""The figures, drawn from results/. Families differ in marker and lightness, so that grey suffices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from experiments._shared.data import read_json, read_rows
from experiments._shared.style import panels, save, small

STYLES: dict[str, tuple[str, str]] = {  # marker, colour
    "diagonal": ("o", "#9a9a9a"),
    "Lehman": ("v", "#d9d9d9"),
    "block": ("s", "#6fa8dc"),
    "low rank": ("D", "#e69f3c"),
    "low rank, mean": ("d", "#fbe3c0"),
    "K-FAC": ("^", "#b34700"),
    "E-KFAC": ("P", "#7a2f00"),
    "KFRA": ("X", "#e08a5a"),
    "L-BFGS": ("h", "#1f4e9c"),
    "CG": ("*", "#000000"),
    "exact": ("p", "#ffffff"),
}
LINED = ("low rank", "low rank, mean", "L-BFGS", "CG")  # one point for each r, m, number of iterations
SHORT = {"hutchinson, 10 draws": "H", "curvature propagation, 10 draws": "CP", "Lehman, sum": "sum",
         "Lehman, abs": "abs", "block, incoming": "in", "block, outgoing": "out", "block, layer": "layer"}  # fmt: skip


def draw(out: Path) -> None:
    small(titles=10)
    errors, costs = read_rows(out / "results/errors.csv"), read_rows(out / "results/cost.csv")
    numbers = read_json(out / "results/numbers.json")
    save(cost(errors, costs, numbers, "error", "error of (F + λ I)⁻¹ g, relative"), out / "cost.png")
    save(cost(errors, costs, numbers, "angle", "sine of the angle to (F + λ I)⁻¹ g"), out / "cost-angle.png")
    save(damping(errors, numbers), out / "damping.png")
    save(memory(costs, numbers), out / "memory.png")


def cost(
    errors: list[dict[str, str]], costs: list[dict[str, str]], numbers: dict[str, Any], what: str, label: str
) -> plt.Figure:
    """Error of the inverse product, or its angle, against cost; a row a policy, a column a damping."""
    dampings = sorted({float(r["damping"]) for r in errors})
    dampings = [d for d in dampings if d in (1e-3, 1e-2, 1e-1)]
    shape = len(numbers), len(dampings)
    floor = 1e-4 if what == "error" else 0  # nothing below it matters
    figure, axes = plt.subplots(*shape, figsize=(11.5, 3.9 * shape[0]), sharey="row", sharex=True, layout="constrained",
                                squeeze=False)  # fmt: skip
    for row, policy in zip(axes, numbers, strict=True):
        for ax, lam in zip(row, dampings, strict=True):
            at = {r["name"]: float(r["gradients"]) for r in costs if r["policy"] == policy}
            here = [r for r in errors if r["policy"] == policy and float(r["damping"]) == lam]
            _points(ax, [(r, at[r["name"]], max(float(r[what]), floor)) for r in here if r["family"] != "exact"])
            ax.plot(at["exact"], floor, STYLES["exact"][0], color="white", markeredgecolor="black", markersize=8)
            ax.axhline(1, color="0.6", linewidth=0.8)
            ax.set(xscale="log", yscale="log" if floor else "linear", title=f"{policy}, λ = {lam:g}")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("")
            ax.grid(color="0.92", linewidth=0.6)
        row[0].set_ylabel(f"{label},\nnorm of F + λ I" + (f"; below {floor:g} drawn there" if floor else ""))
    for ax in axes[-1]:
        ax.set_xlabel("time to prepare and solve, gradients")
    _legend(figure)
    return figure


def _points(ax: Axes, points: list[tuple[dict[str, str], float, float]], plain: tuple[str, ...] = ()) -> None:
    """One marker a row; families in ``plain`` without their rows' names."""
    for family, (marker, color) in STYLES.items():
        named = family not in plain
        own = [(row, x, y) for row, x, y in points if row["family"] == family]
        if not own:
            continue
        x, y = [p[1] for p in own], [p[2] for p in own]
        line = {"linestyle": "-", "linewidth": 0.8} if family in LINED else {"linestyle": "none"}
        ax.plot(x, y, marker=marker, color=color, markersize=9 if marker == "*" else 7, markeredgecolor="black",
                markeredgewidth=0.6, **line, zorder=3)  # fmt: skip
        for row, a, b in own:
            text = SHORT.get(row["name"]) or (row["name"].split(", ")[1] if family in LINED else "")
            place = {"low rank, mean": (3, -9), "CG": (3, -9), "Lehman": (-17, 4)}.get(family, (4, 4))
            ax.annotate(text if named else "", (a, b), xytext=place, textcoords="offset points", fontsize=6.5,
                        color="0.25", zorder=4)  # fmt: skip


def _legend(figure: plt.Figure, without: tuple[str, ...] = ()) -> None:
    names = {"low rank": "low rank, by r", "low rank, mean": "low rank + mean, by r", "L-BFGS": "L-BFGS, by pairs",
             "CG": "CG, by iterations", "Lehman": "Lehman: sum, abs", "exact": "exact (dense)",
             "diagonal": "diagonal: exact, H Hutchinson, CP curvature propagation",
             "block": "blocks: incoming, outgoing, layer"}  # fmt: skip
    handles = [
        plt.Line2D([], [], linestyle="none", marker=marker, color=color, markeredgecolor="black", markersize=7,
                   label=names.get(family, family))
        for family, (marker, color) in STYLES.items() if family not in without
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def damping(errors: list[dict[str, str]], numbers: dict[str, Any]) -> plt.Figure:
    """Left the spectrum of F, right the error over lambda; a row a policy."""
    figure, axes = plt.subplots(len(numbers), 2, figsize=(11, 3.7 * len(numbers)), layout="constrained", squeeze=False,
                                width_ratios=(1, 1.6))  # fmt: skip
    lines = {
        "diagonal": (0, (1, 1.2)), "block, incoming": (0, (5, 2)), "block, layer": "-", "K-FAC": "-",
        "E-KFAC": (0, (3, 1)), "KFRA": (0, (4, 1.5, 1, 1.5)), "low rank, 10": "-", "low rank, 100": (0, (5, 2)),
        "CG, 10": (0, (1, 1.2)),
    }  # fmt: skip
    for (left, right), policy in zip(axes, numbers, strict=True):
        about = numbers[policy]
        places = [1 + i * about["eigenvalue_step"] for i in range(len(about["eigenvalues"]))]
        left.plot(places, [max(v, 1e-16) for v in about["eigenvalues"]], color="black", linewidth=1.6)
        left.set(xscale="log", yscale="log", xlabel="number of the eigenvalue", ylabel="eigenvalue of F (nats)",
                 ylim=(1e-9, None), title=f"{policy}: {about['parameters']:,} parameters")  # fmt: skip
        for r, part in about["part_of_trace"].items():
            if int(r) < about["parameters"] // 4:
                left.axvline(int(r), color="0.6", linewidth=0.7, linestyle="--")
                left.annotate(f"{part:.0%}", (int(r), 1e-9), xytext=(2, 4), textcoords="offset points", fontsize=7)
        for name, line in lines.items():
            own = [r for r in errors if (r["policy"], r["name"]) == (policy, name)]
            curve = [(float(r["damping"]), float(r["error"])) for r in own]
            if not curve:
                continue
            family = next(r["family"] for r in errors if r["name"] == name)
            marker, color = STYLES[family]
            right.plot(*zip(*curve, strict=True), marker=marker, color=color, linestyle=line, markersize=6,
                       markeredgecolor="black", markeredgewidth=0.5, label=name)  # fmt: skip
        right.axhline(1, color="0.6", linewidth=0.8)
        right.set(xscale="log", yscale="log", xlabel="λ, in units of F", title=f"{policy}: error over damping",
                  ylabel="error of (F + λ I)⁻¹ g, relative")  # fmt: skip
        right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes[0, 0].text(0.03, 0.27, "dashed: the r of low rank,\nand its part of the trace", transform=axes[0, 0].transAxes,
                    fontsize=7, color="0.35")  # fmt: skip
    return figure


def memory(costs: list[dict[str, str]], numbers: dict[str, Any]) -> plt.Figure:
    """Frobenius error of the matrix against the numbers that it is stored as."""
    figure, axes = panels(len(numbers), 5.8 * max(len(numbers), 2), 4.6, sharey=True, squeeze=False)
    for ax, policy in zip(axes[0], numbers, strict=True):
        here = [r for r in costs if r["policy"] == policy and r["frobenius"] and r["family"] != "exact"]
        points = [(r, float(r["stored"]), float(r["frobenius"])) for r in here]
        _points(ax, points, plain=("diagonal", "Lehman", "low rank, mean"))
        P = numbers[policy]["parameters"]
        ax.axvline(P, color="0.5", linewidth=0.8, linestyle="--")
        ax.text(P, 1.6e-4, " the whole matrix", rotation=90, fontsize=7, va="bottom", ha="right", color="0.35")
        ax.set(xscale="log", yscale="log", xlabel="numbers stored, per parameter", title=f"{policy}: P = {P:,}",
               ylim=(1e-4, 3))  # fmt: skip
        ax.grid(color="0.92", linewidth=0.6)
    axes[0, 0].set_ylabel("‖F_s - F‖ / ‖F‖, Frobenius norm")
    _legend(figure, without=("exact", "CG", "L-BFGS"))
    return figure

"""Figures of convergence: bounds, rates, paths, step lengths and the escape from local minima, from results/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from experiments._shared.style import CURVES, panels, save, small
from experiments.landscapes import functions

UPDATES = "updates k"
ERROR = "$f_k - f^*$, units of f"
STYLES = dict(zip(("gradient descent", "Nesterov", "CG"), CURVES, strict=False))


def draw(out: Path, results: dict[str, Any]) -> None:
    small(titles=9.5)
    save(bounds(results["quadratics"], results["chain"]), out / "bounds.png")
    save(rates(results["rates"], results["spectra"]), out / "rates.png")
    save(paths(results["paths"]), out / "paths.png")
    save(steps(results["steps"]), out / "steps.png")
    save(escape(results["escape"]), out / "escape.png")


def bounds(quadratics: list[dict[str, Any]], chain: dict[str, Any]) -> plt.Figure:
    figure, (left, middle, right) = panels(3, 12, 3.9)
    for method, marker in (("gradient descent", "o"), ("Nesterov", "^")):
        promised = [row[method]["bound"] for row in quadratics]
        measured = [row[method]["measured"] for row in quadratics]
        color, _ = STYLES[method]
        left.plot(promised, measured, marker, color=color, markersize=5, markerfacecolor="none", label=method)
    ends = np.array([15, 6000])
    left.plot(ends, ends, color="0.5", linewidth=1, label="bound = measured")
    left.set(xscale="log", yscale="log", xlabel="updates the bound promises", ylabel="updates measured",
             title=f"{len(quadratics)} random quadratics, to $10^{{-8}}$ of the start")  # fmt: skip
    left.legend(frameon=False)

    curves = chain["curves"]
    for method, errors in curves["measured"].items():
        color, dash = STYLES[method]
        middle.plot(errors, color=color, linestyle=dash, linewidth=1.8, label=method)
    for (name, bound), dash in zip(curves["bounds"].items(), ("-", "-", ":"), strict=True):
        color = "0.4" if name.startswith("lower") else STYLES[name.split(", ")[1]][0]
        middle.plot(bound, color=color, linestyle=dash, linewidth=0.7)
        at = {"upper, gradient descent": 150, "upper, Nesterov": 108, "lower, any": 44}[name]
        middle.annotate(name, (at, bound[at]), fontsize=7.5, color="0.2", textcoords="offset points",
                        xytext=(6, -6) if name.startswith("lower") else (4, 5))  # fmt: skip
    first = curves["measured"]["CG"][0]
    middle.set(yscale="log", ylim=(1e-10 * first, 1e3 * first), xlim=(-5, 290), xlabel=UPDATES, ylabel=ERROR,
               title=f"Nesterov's chain, κ = {curves['kappa']:g}, n = {curves['size']}")  # fmt: skip
    middle.legend(frameon=False, loc="upper right", fontsize=8)

    found = chain["exponents"]
    for method, marker in (("gradient descent", "o"), ("Nesterov", "^"), ("CG", "s")):
        color, dash = STYLES[method]
        label = f"{method}: κ^{found['exponents'][method]:.2f}"
        right.plot(found["kappas"], found["counts"][method], marker=marker, color=color, linestyle=dash, label=label,
                   markersize=5, markerfacecolor="none")  # fmt: skip
    right.set(xscale="log", yscale="log", xlabel="condition number κ", ylabel="updates measured",
              title="the chain, n = 10 √κ, to $10^{-6}$ of the start")  # fmt: skip
    right.legend(frameon=False)
    return figure


def rates(found: dict[str, Any], spectra: list[dict[str, Any]]) -> plt.Figure:
    figure, (left, right) = panels(2, 10, 3.8)
    for (name, curve), (color, dash) in zip(found["curves"].items(), CURVES, strict=False):
        label = f"{name}: $k^{{{found['slopes'][name]:.2f}}}$"
        left.plot(range(1, len(curve)), curve[1:], color=color, linestyle=dash, label=label)
    k = np.arange(1, len(curve))
    left.plot(k, found["distance_squared"] / (2 * k), color="0.6", linewidth=0.8)
    left.plot(k, 2 * found["distance_squared"] / (k + 1) ** 2, color="0.6", linewidth=0.8, linestyle=(0, (6, 2)),
              label="thin: the bounds L d²/2k and 2 L d²/(k+1)²")  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel=UPDATES, ylabel=ERROR, title="convex, μ as good as 0")
    left.legend(frameon=False, fontsize=8, loc="lower left")

    names = [row["spectrum"] for row in spectra]
    y = np.arange(len(names))
    for i, method in enumerate(("gradient descent", "Nesterov", "CG")):
        color, _ = STYLES[method]
        counts = [row[method] for row in spectra]
        right.barh(y + 0.25 * (1 - i), counts, 0.23, color=color, label=method, edgecolor="black", linewidth=0.4)
        for at, count in zip(y, counts, strict=True):
            right.annotate(f"{count}", (count, at + 0.25 * (1 - i)), xytext=(3, 0), textcoords="offset points",
                           va="center", fontsize=7.5)  # fmt: skip
    right.set(xscale="log", xlabel="updates to the tolerance", title="κ = 1000, four spectra of 40 eigenvalues",
              yticks=y, yticklabels=names, xlim=(1, 2e7))  # fmt: skip
    right.invert_yaxis()
    right.legend(frameon=False, loc="upper right", fontsize=8)
    return figure


VIEWS = {
    "canyon": ("narrow canyon, κ = 100", (-5, 2.5), (-3.2, 2)),
    "example": ("5x² + 13y², κ = 2.6", (-1.4, 2.4), (-1.3, 1.3)),
    "rosenbrock": ("Rosenbrock", (-2, 1.8), (-0.8, 2.2)),
}


def paths(found: dict[str, Any]) -> plt.Figure:
    figure, axes = panels(3, 12, 4.2)
    for ax, (name, methods) in zip(axes, found.items(), strict=True):
        title, x, y = VIEWS[name]
        landscape = getattr(functions, name)()
        contours(ax, landscape, x, y)
        for (method, path), (color, dash) in zip(methods.items(), CURVES, strict=False):
            points = np.array(path)
            ax.plot(*points.T, color=color, linestyle=dash, linewidth=1.3, marker=".", markersize=2.5, label=method)
        ax.plot(*landscape.start, "o", color="black", markersize=5)
        best = (1, 1) if name == "rosenbrock" else (0, 0)
        ax.plot(*best, "*", color="black", markerfacecolor="white", markersize=11)
        ax.set(xlim=x, ylim=y, title=title, xlabel="x (no unit)", ylabel="y (no unit)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def contours(ax: Axes, landscape: functions.Landscape, x: tuple[float, float], y: tuple[float, float]) -> None:
    u, v = np.linspace(*x, 160), np.linspace(*y, 120)
    z = np.array([[float(landscape.f(torch.tensor([a, b]))) for a in u] for b in v])
    ax.contour(u, v, np.log10(z + 1e-3), levels=10, colors="0.8", linewidths=0.6, linestyles="-")


def steps(found: dict[str, Any]) -> plt.Figure:
    figure, (left, middle, right) = panels(3, 12, 3.7)
    for ax, name in ((left, "example"), (middle, "canyon")):
        for (label, curve), (color, dash) in zip(found["curves"][name].items(), CURVES, strict=False):
            ax.plot(curve, color=color, linestyle=dash, label=label)
        first = curve[0]
        ax.set(yscale="log", ylim=(1e-9 * first, 1e4 * first), xlabel=UPDATES, ylabel=ERROR, title=VIEWS[name][0])
    left.legend(frameon=False, fontsize=8, loc="upper right")
    for (name, counts), (color, dash) in zip(found["counts"].items(), CURVES, strict=False):
        there = [(a, n) for a, n in zip(counts["alpha_L"], counts["updates"], strict=True) if n]
        right.plot(*np.array(there).T, color=color, linestyle=dash, marker="o", markersize=3,
                   label=f"{VIEWS[name][0]} (line search: {counts['line_search']})")  # fmt: skip
    right.axvline(2, color="0.5", linewidth=0.8)
    right.annotate("diverges\nbeyond 2", (2, 15), xytext=(5, 0), textcoords="offset points", fontsize=8)
    right.set(xscale="log", yscale="log", xlim=(0.03, 6), ylim=(2, 4000), xlabel="step times curvature, α L",
              ylabel="updates to $10^{-6}$ of the start", title="too small, adequate, too large")  # fmt: skip
    right.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def escape(found: dict[str, Any]) -> plt.Figure:
    figure, (left, right) = panels(2, 10.5, 3.8)
    x = np.linspace(-9.5, 4, 500)
    left.plot(x, x**2 / 20 + 0.3 * (1 - np.cos(2 * x)), color="0.6", linewidth=1)
    for (name, path), (color, dash), lift in zip(found["paths"].items(), CURVES[:2], (0.0, 0.25), strict=True):
        p = np.array(path)[:, 0]
        height = p**2 / 20 + 0.3 * (1 - np.cos(2 * p)) + lift
        label = f"{name}: ends at {p[-1]:.2f}" + (", drawn .25 higher" if lift else "")
        left.plot(p, height, color=color, linestyle=dash, marker="o", markersize=2.5, linewidth=0.8, label=label)
    left.set(xlabel="x (no unit)", ylabel="f along y = 0, units of f", title=f"from x = -7.5, step {found['rate']:g}")
    left.legend(frameon=False, fontsize=8)
    for (mu, ends), (color, _), marker, size in zip(found["ends"].items(), CURVES, "os^D", (9, 6, 4, 3), strict=False):
        right.plot(found["starts"], ends, marker, color=color, markersize=size, markerfacecolor="none",
                   label=f"momentum {mu}")  # fmt: skip
    right.axhline(0, color="0.6", linewidth=0.8)
    right.set(xlabel="start x (no unit)", ylabel="x that is reached", title="the lowest minimum is at 0", ylim=(-7, 10))
    right.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    return figure

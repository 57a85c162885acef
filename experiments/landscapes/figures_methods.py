"""Figures that compare methods: preconditioning, damping, schedules, adaptive methods and the race of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments._shared.style import CURVES, panels, save


def draw(out: Path, results: dict[str, Any]) -> None:
    save(preconditioning(results["preconditioning"]), out / "preconditioning.png")
    save(damping(results["damping"]), out / "damping.png")
    save(schedules(results["schedules"], results["written"]["alike"]), out / "schedules.png")
    save(adaptive(results["rotation"], results["lengths"], results["written"]["lengths"]), out / "adaptive.png")
    save(race(results["race"]), out / "race.png")


def preconditioning(found: dict[str, Any]) -> plt.Figure:
    figure, (left, middle, right) = panels(3, 12, 3.7)
    row = next(row for row in found["same"] if row["landscape"] == "canyon")
    plain, within, outside = (np.array(row[name]) for name in ("plain", "reparametrised", "preconditioned"))
    left.plot(*plain.T, color="0.6", linestyle=(0, (1, 1)), label="gradient descent in w")
    left.plot(*within.T, color="#6fa8dc", linewidth=5, label="in u = R⁻¹ w, drawn as R u")
    left.plot(*outside.T, color="black", linewidth=1, label="in w with P = R Rᵀ")
    left.plot(0, 0, "*", color="black", markerfacecolor="white", markersize=11)
    left.set(title=f"canyon: equal to {row['difference']:.0e}", xlabel="w₁ (no unit)", ylabel="w₂ (no unit)")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    names = list(dict.fromkeys(row["preconditioner"] for row in found["data"]))
    for name, (color, dash), marker in zip(names, CURVES, "osD^", strict=False):
        rows = [row for row in found["data"] if row["preconditioner"] == name]
        x = range(len(rows))
        middle.plot(x, [row["kappa"] for row in rows], color=color, linestyle=dash, marker=marker, markersize=4,
                    label=f"P = {name}" if name != "none" else "P = I")  # fmt: skip
    middle.set(yscale="log", xticks=list(x), xticklabels=[f"{row['correlation']:g}" for row in rows], ylim=(0.5, 1e14),
               xlabel="correlation of the features", ylabel="condition number of Rᵀ H R",
               title="features of standard deviation .1 to 10")  # fmt: skip
    middle.legend(frameon=False, fontsize=8, loc="upper left")
    bent = found["bent"]
    right.plot(bent["rates"], bent["differences"], "o-", color="black", label="Gauss-Newton, (x, y) and (x, y - x²)")
    slope = np.array(bent["rates"]) * bent["differences"][-1] / bent["rates"][-1]
    right.plot(bent["rates"], slope, color="0.6", linewidth=0.8, label="proportional to α")
    right.set(xscale="log", yscale="log", xlabel="step α", ylabel="distance of the ends (no unit)",
              title="invariance to a bent change of coordinates")  # fmt: skip
    right.set_xticks(bent["rates"], [f"{rate:g}" for rate in bent["rates"]])
    right.set_yticks([0.01, 0.03, 0.1, 0.3], ["0.01", "0.03", "0.1", "0.3"])
    right.minorticks_off()
    right.legend(frameon=False, fontsize=8)
    return figure


def damping(found: dict[str, Any]) -> plt.Figure:
    figure, axes = panels(4, 13, 3.3)
    for ax, row in zip(axes, found["rows"], strict=True):
        there = [(lam, n) for lam, n in zip(found["lambdas"], row["constant"], strict=True) if n]
        failed = [lam for lam, n in zip(found["lambdas"], row["constant"], strict=True) if not n]
        if there:
            ax.plot(*np.array(there).T, "o-", color="black", markersize=4, label="constant λ, α = 1")
        ax.plot(failed, [found["limit"]] * len(failed), "x", color="black", label=f"not within {found['limit']}")
        if row["levenberg_marquardt"]:
            ax.axhline(row["levenberg_marquardt"], color="#b34700", linestyle=(0, (5, 2)), label="Levenberg-Marquardt")
        if row["undamped"]:
            ax.axhline(row["undamped"], color="#6fa8dc", label="λ = 0")
        none = "no Cholesky at the start" if row["indefinite_at_start"] else f"not within {found['limit']}"
        ax.set(xscale="log", yscale="log", ylim=(1, 700), xlabel="λ, units of M",
               title=row["case"] + ("" if row["undamped"] else f"\nλ = 0: {none}"))  # fmt: skip
    axes[0].set_ylabel("updates to the tolerance")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def schedules(found: dict[str, Any], alike: dict[str, Any]) -> plt.Figure:
    figure, axes = panels(4, 14, 3.5)
    titles = {"RMSprop": "RMSprop, step .1", "Adam": "Adam, step 1", "momentum": "momentum, lowered half-way"}
    for ax, (method, curves) in zip(axes, found.items(), strict=False):
        for (name, curve), (color, dash) in zip(curves.items(), CURVES, strict=False):
            ax.plot(np.maximum(curve, 1e-20), color=color, linestyle=dash, label=name, linewidth=1.2)
        ax.set(yscale="log", ylim=(1e-18, 1e3), xlabel="updates k", ylabel="$f_k - f^*$, units of f",
               title=f"canyon: {titles[method]}")  # fmt: skip
        ax.legend(frameon=False, fontsize=8, loc="lower left")
    axes[3].plot(alike["alpha_L"], alike["differences"], "o-", color="black", markersize=4)
    axes[3].set(xscale="log", yscale="log", xlabel="step times curvature, α L", ylabel="largest distance, relative",
                title=f"Nesterov's path against momentum's, μ = {alike['momentum']:g}")  # fmt: skip
    return figure


def adaptive(rotation: dict[str, Any], lengths: dict[str, Any], corrections: dict[str, Any]) -> plt.Figure:
    figure, (left, middle, right) = panels(3, 12.5, 3.8)
    for (name, counts), (color, dash), marker in zip(rotation["updates"].items(), CURVES, "osDv^P*", strict=True):
        there = [(a, n) for a, n in zip(rotation["angles"], counts, strict=True) if n]
        missing = "" if len(there) == len(counts) else f" (> {rotation['limit']} else)"
        left.plot(*np.array(there).reshape(-1, 2).T, color=color, linestyle=dash, marker=marker, markersize=4,
                  label=name + missing)  # fmt: skip
    left.set(yscale="log", ylim=(0.8, 3e4), xlabel="canyon's angle to the axes, degrees", ylabel="updates to $10^{-6}$",
             title="diagonal methods depend on the axes")  # fmt: skip
    left.legend(frameon=False, fontsize=7.5, ncols=2, loc="upper left")
    for (name, curve), (color, dash) in zip(lengths.items(), CURVES, strict=False):
        middle.plot(range(1, len(curve) + 1), curve, color=color, linestyle=dash, label=name)
    middle.set(xscale="log", yscale="log", xlabel="updates k", ylabel="|step| / learning rate",
               title="the gradient is 1 at every step")  # fmt: skip
    middle.legend(frameon=False, fontsize=8)
    names = {"t": "1 - βᵗ (Kingma and Ba; torch)", "1": "1 - β, as on one slide", "none": "none"}
    for (name, curve), (color, dash) in zip(corrections.items(), CURVES, strict=False):
        right.plot(range(1, len(curve) + 1), curve, color=color, linestyle=dash, label=names[name])
    right.set(xscale="log", ylim=(0, 9.5), xlabel="updates k", ylabel="|step| / learning rate",
              title="Adam's bias correction, same gradient")  # fmt: skip
    right.legend(frameon=False, fontsize=8, loc="upper left", title="moments divided by", title_fontsize=8)
    return figure


COLUMNS = {
    "example": "5x² + 13y²", "canyon": "canyon\nκ = 100", "ill_conditioned": "20 dim.\nκ = 10⁴",
    "rosenbrock": "Rosen-\nbrock", "network": "tanh\nnetwork", "bumpy": "local\noptima",
}  # fmt: skip


def race(found: dict[str, Any]) -> plt.Figure:
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    table = {(row["method"], row["landscape"]): row["updates"] for row in found["rows"]}
    figure, ax = panels(1, 7, 6)
    shade = np.full((len(methods), len(COLUMNS)), np.log10(found["limit"]) * 1.25)
    for i, method in enumerate(methods):
        for j, name in enumerate(COLUMNS):
            count = table.get((method, name), -1)
            text = "-" if count == -1 else "not" if count is None else str(count)
            if count is not None and count > 0:
                shade[i, j] = np.log10(count)
            if count == -1:
                shade[i, j] = np.nan
            ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color="black")
    ax.imshow(shade, cmap="Greys", vmin=0, vmax=2.2 * np.log10(found["limit"]), aspect="auto")
    ax.set_xticks(range(len(COLUMNS)), COLUMNS.values())
    ax.set_yticks(range(len(methods)), methods)
    ax.xaxis.tick_top()
    ax.set_xlabel(
        f"updates to the tolerance, best rate or damping; not: not within {found['limit']}; -: does not apply"
    )
    return figure

"""The figures, drawn from results/. Lines differ in dash and lightness, so that they can be told apart in grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments._shared.style import CURVES, panels, save, small

TITLES = {"linear": "linear regression (quadratic)", "logistic": "logistic regression"}
EXCESS = "$E[h(\\theta_k)] - h^*$, units of h"


def draw(out: Path, results: dict[str, Any]) -> None:
    small(titles=9.5)
    save(rate(results["rate"]), out / "rate.png")
    save(schedules(results["schedules"]), out / "schedules.png")
    save(early(results["early"], results["mean_path"], results["overlap"]), out / "early.png")
    save(reduction(results["reduction"]), out / "reduction.png")
    save(curvature(results["curvature"]), out / "curvature.png")


def rate(found: dict[str, Any]) -> plt.Figure:
    figure, axes = panels(2, 11, 4.2, sharey=True)
    for ax, kind in zip(axes, TITLES, strict=True):
        curves = {name: rows for name, rows in found[kind].items() if name != "constant"}
        ax.axhspan(0.9, 1.1, color="0.9", linewidth=0)
        ax.axhline(1, color="0.5", linewidth=0.8)
        for (name, rows), (color, dash) in zip(curves.items(), CURVES, strict=False):
            mean, low, high = np.array(rows).T
            ax.plot(found["at"], mean, color=color, linestyle=dash, label=name)
            ax.fill_between(found["at"], low, high, color=color, alpha=0.2, linewidth=0)
        ax.set(xscale="log", yscale="log", ylim=(0.1, 100), xlabel="steps k, one term each",
               title=f"{TITLES[kind]}: tr(H⁻¹Σ)/2 = {found[kind]['constant']:.3f}")  # fmt: skip
    axes[0].set_ylabel("k (E h - h*) / (tr(H⁻¹Σ) / 2)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def schedules(found: dict[str, Any]) -> plt.Figure:
    figure, axes = panels(2, 11, 4.1)
    for ax, kind in zip(axes, TITLES, strict=True):
        for (name, curve), (color, dash) in zip(found[kind].items(), CURVES, strict=False):
            ax.plot(found["at"], curve, color=color, linestyle=dash, label=name)
        ax.set(xscale="log", yscale="log", xlabel="steps k, one term each", ylabel=EXCESS, title=TITLES[kind])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, title="step a_k")
    return figure


def early(found: dict[str, Any], mean: dict[str, Any], overlap: dict[str, Any]) -> plt.Figure:
    figure, (left, middle, right) = panels(3, 13, 3.9)
    k = np.array(found["at"])
    curves = {name: curve for name, curve in found.items() if name not in ("at", "constant", "kappa")}
    for (name, curve), (color, dash) in zip(curves.items(), CURVES, strict=False):
        left.plot(k, curve, color=color, linestyle=dash, label=name)
    left.plot(k, found["constant"] / k, color="0.5", linewidth=0.8, label="tr(H⁻¹Σ) / 2k")
    left.set(xscale="log", yscale="log", xlabel="steps k, one term each", ylabel=EXCESS,
             title="far from the optimum, ill-conditioned")  # fmt: skip
    left.legend(frameon=False, fontsize=7.5, loc="lower left")
    for kind, (color, dash), marker in zip(TITLES, CURVES[:2], "os", strict=True):
        there = [(a, t) for a, t in zip(mean["at"], mean[kind], strict=True) if t is not None]
        middle.plot(*np.array(there).T, color=color, linestyle=dash, marker=marker, markersize=4, label=TITLES[kind])
        right.plot(range(1, len(overlap[kind]) + 1), overlap[kind], color=color, linestyle=dash, label=TITLES[kind])
    middle.axhline(1, color="0.5", linewidth=0.8)
    middle.set(xscale="log", yscale="log", xlabel="steps k", ylabel="T² of E $θ_k$ = GD's $θ_k$, over its 95% quantile",
               title=f"is the mean path gradient descent's? ({mean['seeds']} seeds)")  # fmt: skip
    middle.legend(frameon=False, fontsize=8)
    right.set(xscale="log", yscale="log", xlabel="steps of gradient descent", ylabel="|mean $g_i$|² / mean |$g_i$|²",
              title="how far the terms' gradients agree")  # fmt: skip
    right.legend(frameon=False, fontsize=8)
    return figure


def reduction(found: dict[str, Any]) -> plt.Figure:
    figure, axes = panels(2, 11, 4.1)
    for ax, kind in zip(axes, TITLES, strict=True):
        for (name, curve), (color, dash) in zip(found[kind]["curves"].items(), CURVES, strict=False):
            x = np.arange(len(curve)) * (3 if name == "SVRG" else 1)
            factor = found[kind]["fits"][name]["factor_per_pass"]
            label = f"{name}: × {factor:.2f} a pass" if name.startswith("S") and "SGD" not in name else name
            ax.plot(x, np.maximum(curve, 1e-18), color=color, linestyle=dash, label=label)
        ax.set(yscale="log", ylim=(1e-16, 30), xlabel="gradients of terms / m (passes)", ylabel=EXCESS,
               title=TITLES[kind])  # fmt: skip
        ax.legend(frameon=False, fontsize=8)
    return figure


def curvature(found: dict[str, Any]) -> plt.Figure:
    figure, axes = panels(3, 13, 3.9)
    errors, labels = found["errors"], [f"{decay:g}".lstrip("0") or "0" for decay in found["errors"]["decays"]]
    x = range(len(labels))
    titles = {"moving": "first quarter: θ on its way", "settled": "last quarter: θ settled"}
    names = {"all": "B against H($θ_k$)", "noise": "noise of the minibatches", "staleness": "staleness"}
    for ax, (phase, title) in zip(axes, titles.items(), strict=False):
        for (part, label), (color, dash) in zip(names.items(), CURVES, strict=False):
            ax.plot(x, errors[phase][part], color=color, linestyle=dash, marker="o", markersize=3, label=label)
        ax.set(xticks=x, xticklabels=labels, xlabel="decay β of the running mean", ylim=(0, None),
               ylabel="relative error, Frobenius norm", title=f"{title} ({found['steps']} steps)")  # fmt: skip
        ax.legend(frameon=False, fontsize=8)
    kfac = found["kfac"]
    for name, (color, dash) in zip(("early", "last"), CURVES, strict=False):
        mean, half = np.array(kfac[name]).T
        axes[2].errorbar(x, mean, half, color=color, linestyle=dash, marker="o", markersize=3, capsize=2,
                         label=f"after {kfac[name + '_step']} updates")  # fmt: skip
    axes[2].set(xticks=x, xticklabels=labels, xlabel="decay β of K-FAC's factors", ylabel=EXCESS, yscale="log",
                title=f"K-FAC on minibatches of {found['batch']}")  # fmt: skip
    axes[2].set_yticks([0.02, 0.03, 0.05, 0.08], ["0.02", "0.03", "0.05", "0.08"])
    axes[2].minorticks_off()
    axes[2].legend(frameon=False, fontsize=8)
    return figure

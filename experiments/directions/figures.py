"""The figures, drawn from results/. Lines differ in dash and lightness, points in shape, so that grey suffices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments._shared.data import read_json, read_rows
from experiments._shared.style import panels, save, small
from experiments.directions import picture

NAMES = {
    "identity": "gradient",
    "gauss_newton": "Gauss-Newton",
    "empirical_fisher": "empirical Fisher",
    "fisher": "Fisher",
    "gradient_covariance": "gradient covariance",
    "hessian": "Newton",
    "ggn": "generalised Gauss-Newton",
}
STYLES: dict[str, dict[str, Any]] = {
    "identity": {"color": "#000000", "linestyle": (0, (1, 1.2)), "marker": "o"},
    "gauss_newton": {"color": "#6fa8dc", "linestyle": "-", "marker": "s"},
    "empirical_fisher": {"color": "#1f4e9c", "linestyle": (0, (5, 2)), "marker": "^"},
    "fisher": {"color": "#1f4e9c", "linestyle": "-", "marker": "v"},
    "gradient_covariance": {"color": "#7f7f7f", "linestyle": (0, (4, 1.5, 1, 1.5)), "marker": "D"},
    "hessian": {"color": "#b34700", "linestyle": "-", "marker": "X"},
    "ggn": {"color": "#e69f3c", "linestyle": (0, (3, 1)), "marker": "P"},
}
_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}


def draw(out: Path) -> None:
    small(titles=10)
    numbers = read_json(out / "results/numbers.json")
    save(ellipses(numbers["picture"]), out / "picture.png")
    save(midway(read_rows(out / "results/inspected.csv")), out / "midway.png")
    save(damping(read_rows(out / "results/damped.csv"), numbers["policies"]), out / "damping.png")
    save(warm(read_rows(out / "results/warm.csv")), out / "warm.png")


def ellipses(found: dict[str, Any]) -> plt.Figure:
    """Trust regions that touch the line g^T d = const where the steps end; and a point where Newton's is none."""
    figure, (near, far) = panels(2, 11, 5.4)
    _contours(near, picture.NEAR, 0.17)
    _line(near, found["near"], picture.GAIN)
    turn = np.linspace(0, 2 * np.pi, 400)
    for metric, step in found["near"]["steps"].items():
        L = np.linalg.cholesky(np.array(step["matrix"]))
        ring = np.linalg.solve(L.T, np.sqrt(step["size"]) * np.array([np.cos(turn), np.sin(turn)]))
        style = STYLES[metric]
        at = np.array(picture.NEAR)
        near.plot(*(at[:, None] + ring), color=style["color"], linestyle=style["linestyle"], linewidth=1.4)
        near.plot(*np.transpose([at, at + step["d"]]), color=style["color"], linewidth=1)
        near.plot(*(at + step["d"]), style["marker"], color=style["color"], markersize=8, markeredgecolor="black",
                  markeredgewidth=0.6)  # fmt: skip
        near.plot([], [], color=style["color"], linestyle=style["linestyle"], marker=style["marker"], markersize=7,
                  markeredgecolor="black", markeredgewidth=0.6,
                  label=f"{NAMES[metric]}, cosine {step['cosine']:.2f}")  # fmt: skip
    near.set_title("Near the optimum: all six are trust regions, all steps gain the same")
    _contours(far, picture.FAR, 0.17)
    _line(far, found["far"], 0.0)
    steps, mended = found["far"]["steps"], found["far"]["mended"]
    least = found["far"]["hessian_least"]
    arrows = (
        (steps["identity"]["d"], "identity", "gradient"),
        (steps["empirical_fisher"]["d"], "empirical_fisher", "natural gradient"),
        (steps["hessian"]["d"], "hessian", f"Newton, eigenvalue {least:.2f} in M"),
        (mended["damped"], "ggn", f"Newton, λ = {-1.5 * least:.2f}"),
        (mended["absolute"], "gradient_covariance", "Newton, absolute eigenvalues"),
    )
    for d, metric, label in arrows:
        style = STYLES[metric]
        far.plot(*np.transpose([picture.FAR, np.add(picture.FAR, d)]), color=style["color"], linewidth=1.6,
                 linestyle=style["linestyle"], marker=style["marker"], markevery=[1], markersize=8, label=label,
                 markeredgecolor="black", markeredgewidth=0.6)  # fmt: skip
    far.set_title("Far from it: Newton's step goes down")
    for ax in (near, far):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), frameon=False, fontsize=8, ncols=2)
    return figure


def _contours(ax: Axes, centre: tuple[float, float], half: float) -> None:
    x, y = (c + np.linspace(-half, half, 80) for c in centre)
    k, sigma = np.meshgrid(x, y)
    heights = picture.J(k, sigma)
    lines = ax.contour(k, sigma, heights, levels=9, colors="0.8", linewidths=0.8)
    low = heights[6]  # along the lower edge, clear of the steps
    inside = [level for level in lines.levels if low.min() < level < low.max()]
    at = [(float(np.interp(level, np.sort(low), x[np.argsort(low)])), y[6]) for level in inside]
    ax.clabel(lines, fmt="J = %.2f", fontsize=7, colors="0.45", manual=at)
    ax.plot(*centre, "o", color="black", markersize=4, zorder=5)
    ax.set(xlabel="k, gain (action per unit of state)", ylabel="σ, standard deviation of the action", aspect="equal",
           xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))  # fmt: skip


def _line(ax: Axes, found: dict[str, Any], gain: float) -> None:
    """g^T d = gain, and the other half-plane in grey."""
    g, at = np.array(found["gradient"]), np.array(found["theta"])
    along = np.array([-g[1], g[0]]) / np.linalg.norm(g)
    ends = np.array([at + g * gain / (g @ g) + t * along for t in (-1, 1)])
    ax.plot(*ends.T, color="black", linewidth=0.8, linestyle="--")
    zero = np.array([at + t * along for t in (-1, 1)])
    back = zero - g / np.linalg.norm(g)
    ax.fill(*np.concatenate([zero, back[::-1]]).T, facecolor="0.9", zorder=0)
    text = f"gᵀd = {gain:g}" if gain else "gᵀd = 0"
    place = at + g * gain / (g @ g) + 0.125 * along
    ax.text(*place, text, fontsize=8, ha="center", va="center", bbox=_WHITE)
    down = at - 0.115 * g / np.linalg.norm(g) + 0.09 * along
    ax.text(*down, "gᵀd < 0", fontsize=8, ha="center", color="0.35")


def midway(rows: list[dict[str, str]]) -> plt.Figure:
    """Cosine of every metric with every solver, one panel a task, one column a metric."""
    envs = _unique(rows, "env")
    figure, axes = panels(len(envs), 11, 4, sharey=True, squeeze=False)
    metrics = list(NAMES)
    for ax, env in zip(axes[0], envs, strict=True):
        for place, metric in enumerate(metrics):
            here = [r for r in rows if (r["env"], r["metric"], r["radius"]) == (env, metric, "0.01")]
            for solver, shift, style in (
                ("dense", -0.25, {"marker": "o", "color": "black", "markerfacecolor": "white"}),
                ("cg", 0.0, {"marker": "s", "color": "#1f4e9c"}),
                (None, 0.25, {"marker": "x", "color": "0.45"}),
            ):
                chosen = [r for r in here if (r["solver"] if r["solver"] in ("dense", "cg") else None) == solver]
                values = [float(r["cosine_gradient"]) for r in chosen if r["cosine_gradient"]]
                at = place + shift + np.linspace(-0.08, 0.08, len(values))
                ax.plot(at, values, linestyle="none", markersize=5, **style)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xticks(range(len(metrics)), [NAMES[m].replace(" ", "\n") for m in metrics], fontsize=8)
        seeds, steps = (len({r[key] for r in rows if r["env"] == env}) for key in ("seed", "step"))
        title = f"{env}: {steps} moments of {seeds} training run{'s' if seeds > 1 else ''}, λ = 0.01"
        ax.set(title=title, ylim=(-0.12, 1.05))
        ax.text(0.99, 0.02, "outside the half-plane", transform=ax.transAxes, ha="right", fontsize=8, color="0.35")
        ax.axhspan(-0.12, 0, color="0.9", zorder=0)
    axes[0, 0].set_ylabel("cosine of direction and gradient")
    for marker, color, label, face in (("o", "black", "dense", "white"), ("s", "#1f4e9c", "CG, cold", "#1f4e9c"),
                                       ("x", "0.45", "all other solvers (one policy)", "0.45")):  # fmt: skip
        axes[0, 0].plot([], [], marker, color=color, markerfacecolor=face, label=label)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def damping(rows: list[dict[str, str]], policies: dict[str, Any]) -> plt.Figure:
    """Cosine of (M + lambda I)^-1 g over lambda, no safeguards."""
    envs = list(policies)
    figure, axes = panels(len(envs), 11, 4.2, sharey=True, squeeze=False)
    for ax, env in zip(axes[0], envs, strict=True):
        for metric in NAMES:
            if metric == "identity":
                continue
            own = [r for r in rows if (r["env"], r["metric"]) == (env, metric)]
            curve = [(float(r["damping"]), float(r["cosine"])) for r in own]
            style = STYLES[metric]
            marks = {"marker": style["marker"], "markevery": 8, "markersize": 5}
            label = NAMES[metric] + (", signed" if metric == "ggn" else "")
            ax.plot(*zip(*curve, strict=True), color=style["color"], linestyle=style["linestyle"], linewidth=1.4,
                    label=label, **marks)  # fmt: skip
            least = policies[env]["eigenvalues"][metric][0]
            if metric in ("hessian", "ggn") and least < 0:
                ax.axvline(-least, color=style["color"], linewidth=1, linestyle=style["linestyle"])
        ax.text(0.02, 0.03, "outside the half-plane", transform=ax.transAxes, fontsize=8, color="0.35")
        ax.axhspan(-1, 0, color="0.9", zorder=0)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(xscale="log", xlabel="λ, in units of M", ylim=(-1, 1.05),
               title=f"{env} after {policies[env]['steps']:,} steps; uprights: λ = -least eigenvalue")  # fmt: skip
    axes[0, 0].set_ylabel("cosine of (M + λ I)⁻¹ g and g")
    axes[0, 0].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.08), ncols=2)
    return figure


def warm(rows: list[dict[str, str]]) -> plt.Figure:
    envs = _unique(rows, "env")
    figure, axes = panels(len(envs), 11, 3.6, sharey=True, squeeze=False)
    for ax, env in zip(axes[0], envs, strict=True):
        for start, color, marker, shift in (("cold", "#6fa8dc", "s", -0.15), ("warm", "#b34700", "X", 0.15)):
            found = [(int(r["iterations"]), float(r["cosine"])) for r in rows if (r["env"], r["start"]) == (env, start)]
            n, c = np.array(found).T
            ax.plot(n + shift, c, marker, color=color, markersize=3, alpha=0.5, markeredgewidth=0)
            means = [c[n == i].mean() for i in np.unique(n)]
            line = "-" if start == "cold" else (0, (4, 2))
            ax.plot(np.unique(n), means, color=color, linewidth=1.8, linestyle=line, marker=marker, markersize=5,
                    markeredgecolor="black", markeredgewidth=0.5,
                    label=f"{start} start; line: mean over batches")  # fmt: skip
        ax.axhspan(-0.25, 0, color="0.9", zorder=0)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.text(0.99, 0.03, "outside the half-plane", transform=ax.transAxes, ha="right", fontsize=8, color="0.35")
        ax.set(title=f"{env}: Fisher metric, λ = 0.01", xlabel="iterations of CG", ylim=(-0.25, 1.05),
               xticks=(1, 5, 10, 15, 20))  # fmt: skip
    axes[0, 0].set_ylabel("cosine of direction and gradient")
    axes[0, -1].legend(fontsize=8)
    return figure


def _unique(rows: list[dict[str, str]], key: str) -> list[str]:
    return list(dict.fromkeys(r[key] for r in rows))

"""The figures, drawn from results/. Lines differ in dash and lightness, so that they can be told apart in grey."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from experiments._shared.style import save, small
from experiments.lqr import records
from experiments.lqr.settings import FLOOR, HORIZON, METHODS, Setting

NAMES = {"vanilla": "vanilla gradient", "natural": "natural gradient", "trpo": "TRPO"}
STYLES = {
    "vanilla": {"color": "#b34700", "linestyle": (0, (5, 2))},
    "natural": {"color": "#000000", "linestyle": "-"},
    "trpo": {"color": "#6fa8dc", "linestyle": (0, (1, 1.2))},
}
_LEVELS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)  # of -J
K_LABEL = "k, gain (action per unit of state)"
_STAR = {"marker": "*", "markersize": 13, "color": "black", "markerfacecolor": "white", "linestyle": "none"}


def draw(out: Path, chosen: list[Setting]) -> None:
    """All figures into ``out``, from out/results."""
    small(titles=10)
    fields = records.read_fields(out / "results/fields.csv")
    exact = records.read_exact(out / "results/exact.csv")
    sampled = records.read_sampled(out / "results/sampled.csv")
    for setting in chosen:
        save(vector_fields(setting, fields[setting.name], exact), out / f"fields-{setting.name}.png")
        save(trajectories(setting, exact, sampled), out / f"trajectories-{setting.name}.png")
    for system in ("unit", "minus_one"):
        pair = [s for s in chosen if s.name.startswith(system)]
        save(returns(pair, exact, sampled), out / f"return-{system}.png")
    save(final_k(chosen, sampled), out / "final-k.png")


def vector_fields(setting: Setting, field: np.ndarray, exact: records.ExactPaths) -> plt.Figure:
    """Unit arrows of both gradients over contours of J, in the layout of Peters and Schaal (2008), Fig. 1."""
    size = (9.5, 6.8) if setting.log else (11, 3.7)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    k, sigma, J = field[:, 0], field[:, 1], field[:, 2]
    height = np.log(sigma) if setting.log else sigma
    columns = np.round(k / (0.2 if setting.log else 0.1), 6) % 1 == 0
    shown = columns & np.isin(height, np.unique(height)[::2])
    for ax, method, arrow in zip(axes, ("vanilla", "natural"), (field[:, 3:5], field[:, 5:7]), strict=True):
        _unstable(ax, setting)
        lines = ax.tricontour(k, height, np.log(-J), levels=np.log(_LEVELS), colors="0.65", linewidths=0.8,
                               linestyles="-")  # fmt: skip
        unit = arrow[shown] / np.linalg.norm(arrow[shown], axis=1, keepdims=True)
        ax.quiver(k[shown], height[shown], *unit.T, color="0.35", angles="xy", scale_units="xy",
                  scale=6 if setting.log else 11, width=0.003 if setting.log else 0.0022, headwidth=4.5)  # fmt: skip
        for label in ax.clabel(lines, fmt=lambda level: f"J = {-np.exp(level):.3g}", fontsize=7, colors="0.2"):
            label.set(bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=4)
        path = exact[setting.name, "flow", method, setting.start]
        label = f"from ({setting.start[0]:g}, {setting.start[1]:g}): ends at k = {path[-1, 0]:.3f}"
        ax.plot(path[:, 0], _height(setting, path[:, 1]), **STYLES[method], linewidth=2.4, label=label, zorder=5)
        ax.plot(path[0, 0], _height(setting, path[:1, 1]), "o", color="black", markersize=5, zorder=5)
        _optimum(ax, setting)
        ax.set(title=NAMES[method], xlabel=K_LABEL, xlim=(-2.05, 0.05), aspect="equal")
        ax.set_xticks(np.arange(-2, 0.1, 0.5))
        ax.set_ylim((np.log(0.045), 0.1) if setting.log else (-0.03, 1.06))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08 if setting.log else -0.2), frameon=False, fontsize=8,
                  ncols=1 if setting.log else 3)  # fmt: skip
    axes[0].set_ylabel("log σ" if setting.log else "σ, standard deviation of the action")
    figure.suptitle(f"Directions of steepest ascent in (k, {setting.axis}): {setting.title}", fontsize=10)
    return figure


def trajectories(setting: Setting, exact: records.ExactPaths, sampled: records.SampledPaths) -> plt.Figure:
    """Learning from several starts: closed form above, the trainer below."""
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6), sharex=True, sharey=True, layout="constrained")
    for column, method in enumerate(METHODS):
        above = [path for key, path in exact.items() if key[:3] == (setting.name, "climb", method)]
        below = [v[:, :2] for key, v in sampled.items() if key[:2] == (setting.name, method) and key[3] == 0]
        for path in above:
            axes[1, column].plot(path[:, 0], _height(setting, path[:, 1]), color="0.75", linewidth=2.5)
        for ax, paths in ((axes[0, column], above), (axes[1, column], below)):
            _unstable(ax, setting)
            for path in paths:
                height = _height(setting, path[:, 1])
                ax.plot(path[:, 0], height, **STYLES[method], linewidth=1.4)
                ax.plot(path[0, 0], height[0], "o", color="black", markersize=4)
                ax.plot(path[-1, 0], height[-1], "x", color="black", markersize=6)
            _optimum(ax, setting)
            ax.set(xlim=(-2.05, 0.05), ylim=(np.log(0.0065), 0.15) if setting.log else (-0.05, 1.02))
        axes[0, column].set_title(NAMES[method])
        axes[1, column].set_xlabel(K_LABEL)
    axes[0, 0].set_ylabel(f"closed form\n{setting.axis}")
    axes[1, 0].set_ylabel(f"trainer, sampled (seed 0)\n{setting.axis}")
    axes[0, 0].plot([], [], "o", color="black", markersize=4, label="start")
    axes[0, 0].plot([], [], "x", color="black", markersize=6, label=f"end, σ < {FLOOR:g}")
    axes[0, 0].plot([], [], color="0.75", linewidth=2.5, label="closed form, behind the sampled path")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle(f"Learning in (k, {setting.axis}): {setting.title}", fontsize=10)
    return figure


def returns(pair: list[Setting], exact: records.ExactPaths, sampled: records.SampledPaths) -> plt.Figure:
    """Return against updates and samples: of the policy as it acts, and of its mean action from s = 1."""
    figure, axes = plt.subplots(2, len(pair), figsize=(10.5, 7.2), sharex="col", layout="constrained", squeeze=False)
    for column, setting in enumerate(pair):
        top, bottom = axes[:, column]
        for method in METHODS:
            runs = _seeds(setting, method, sampled)
            style = STYLES[method]
            cost = _band([np.log(-run[: np.isfinite(run[:, 2]).sum(), 2]) for run in runs])
            mean_action = _band([setting.mean_action_return(run[:, 0]) for run in runs])
            for ax, (mean, low, high) in ((top, [np.exp(x) for x in cost]), (bottom, mean_action)):
                ax.plot(mean, **style, linewidth=1.8, label=f"{NAMES[method]}, sampled")
                ax.fill_between(np.arange(len(mean)), low, high, color=style["color"], alpha=0.25, linewidth=0)
            path = exact[setting.name, "climb", method, setting.start]
            marks = {"linestyle": "none", "marker": {"vanilla": "s", "natural": "o", "trpo": "^"}[method]}
            marks |= {"color": style["color"], "markersize": 4, "markerfacecolor": "white", "markevery": 4}
            label = f"{NAMES[method]}, closed form"
            top.plot(-setting.system.J(*path.T), **marks, label=label)
            bottom.plot(setting.mean_action_return(path[:, 0]), **marks, label=label)
        samples = setting.envs * HORIZON  # an update
        upper = top.secondary_xaxis(
            "top", functions=(lambda u, s=samples: u * s / 1e3, lambda n, s=samples: n * 1e3 / s)
        )
        upper.set_xlabel("samples, thousands")
        best = float(setting.mean_action_return(setting.system.optimum()))
        bottom.axhline(best, color="0.5", linewidth=0.8, label="k = k*")
        top.set(title=f"(k, {setting.axis})", yscale="log")
        top.invert_yaxis()
        bottom.set_xlabel("updates")
    axes[0, 0].set_ylabel("-J, discounted cost of the policy as it acts\n(logarithmic, up is better)")
    axes[1, 0].set_ylabel("discounted return of the mean action a = k s\nfrom s = 1")
    axes[1, -1].legend(fontsize=7, framealpha=1)
    seeds = len(_seeds(pair[0], "natural", sampled))
    figure.suptitle(f"Mean over {seeds} seeds (of -J geometric), band: 95% interval. {pair[0].title}", fontsize=10)
    return figure


def final_k(chosen: list[Setting], sampled: records.SampledPaths) -> plt.Figure:
    """k when exploration dies, every seed, with the mean and its 95% interval."""
    figure, axes = plt.subplots(1, len(chosen), figsize=(11, 3.6), layout="constrained")
    for ax, setting in zip(axes, chosen, strict=True):
        k_star = setting.system.optimum()
        ax.axhspan(k_star - 0.05, k_star + 0.05, color="0.88")
        ax.axhline(k_star, color="0.4", linewidth=0.8, label="k* ± .05")
        for place, method in enumerate(METHODS):
            final = np.array([run[run[:, 1] >= FLOOR][-1, 0] for run in _seeds(setting, method, sampled)])
            spread = place + np.linspace(-0.28, 0.05, len(final))
            ax.plot(spread, final, "o", markersize=3.5, color=STYLES[method]["color"], markerfacecolor="white")
            mean, low, high = _band([np.array([value]) for value in final])
            ax.errorbar(place + 0.22, mean[0], [[(mean - low)[0]], [(high - mean)[0]]], fmt="s", color="black",
                        markersize=4, capsize=4)  # fmt: skip
        ax.set(title=f"A = {float(setting.system.A):.3g}, (k, {setting.axis})", xlim=(-0.6, 2.6))
        ax.set_xticks(range(len(METHODS)), ["vanilla", "natural", "TRPO"])
        ax.margins(y=0.15)
    axes[0].set_ylabel(f"k at the last update with σ ≥ {FLOOR:g}")
    axes[0].legend(fontsize=8, loc="best")
    seeds = len(_seeds(chosen[0], "natural", sampled))
    figure.suptitle(f"Where learning ends, {seeds} seeds: each (circle), mean and 95% interval (square)", fontsize=10)
    return figure


def _seeds(setting: Setting, method: str, sampled: records.SampledPaths) -> list[np.ndarray]:
    return [run for key, run in sampled.items() if key[:3] == (setting.name, method, setting.start)]


def _band(runs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 95% interval over seeds, for as long as all of them last; each (N,)."""
    rows = np.stack([run[: min(map(len, runs))] for run in runs])
    mean = rows.mean(0)
    half = stats.t.ppf(0.975, len(rows) - 1) * rows.std(0, ddof=1) / np.sqrt(len(rows))
    return mean, mean - half, mean + half


def _height(setting: Setting, sigma: np.ndarray) -> np.ndarray:
    return np.log(sigma) if setting.log else sigma


def _optimum(ax: Axes, setting: Setting) -> None:
    """A star at (k*, 0); in log sigma it lies below every picture, and a dotted line leads there."""
    k_star = setting.system.optimum()
    if setting.log:
        ax.axvline(k_star, color="black", linewidth=1, linestyle=":", label="k*; the optimum is at log σ = -∞")
    else:
        ax.plot(k_star, 0, **_STAR, label="optimum (k*, 0)", zorder=5, clip_on=False)


def _unstable(ax: Axes, setting: Setting) -> None:
    """Hatched: gamma (A + B k)^2 >= 1, J = -inf."""
    k = np.linspace(-2.05, 0.05, 400)
    ax.fill_between(k, 0, 1, where=~setting.system.stable(k), transform=ax.get_xaxis_transform(), facecolor="0.93",
                    edgecolor="0.75", hatch="///", linewidth=0, label="unstable, J = -∞")  # fmt: skip

"""The figure of an inspection: directions in a grid of metrics and solvers, and the metrics' spectra."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rlopt.errors import UserError
from rlopt.files import replace_file
from rlopt.inspection.inspect import Inspection, Spectrum


def draw_figure(found: Inspection, title: str, path: Path) -> None:
    """Draw directions and spectra to ``path``. Needs matplotlib. Raises UserError where the file cannot be written."""
    import matplotlib
    from matplotlib.figure import Figure

    solvers = sorted({d.solver for d in found.directions})
    with matplotlib.rc_context({"font.size": 9, "hatch.linewidth": 0.5}):
        canvas = Figure(
            figsize=(6.5 + 0.75 * len(solvers), 2.2 + 0.5 * max(len(found.spectra), 5)), layout="constrained"
        )
        left, right = canvas.subplots(1, 2, width_ratios=(1 + 0.75 * len(solvers), 5.5))
        canvas.suptitle(title, fontsize=10)
        _draw_directions(left, found, solvers)
        _draw_spectra(right, found)
        try:
            drawn = io.BytesIO()
            canvas.savefig(drawn, dpi=130, format=path.suffix[1:] or None)
            replace_file(path, drawn.getvalue())
        except (OSError, ValueError) as error:
            raise UserError(f"the figure {path} cannot be written: {error}") from error


def _draw_directions(axes: Any, found: Inspection, solvers: list[str]) -> None:
    """Draw a cell for every pair: darker for more improvement; in it the improvement and the cosine to the gradient."""
    from matplotlib.patches import Rectangle

    metrics = [s.metric for s in found.spectra]
    gains = [d.improvement for d in found.directions if d.improvement is not None]
    low, high = (max(min(gains), 0.0), max(gains)) if gains else (0.0, 0.0)
    for d in found.directions:
        x, y = solvers.index(d.solver), metrics.index(d.metric)
        shade, text, hatch = 1.0, "failed", "////"
        if d.improvement is not None:
            shade = 0.97 - 0.5 * (d.improvement - low) / ((high - low) or 1) if d.improvement >= low else 1.0
            text, hatch = f"{d.improvement:#.3g}\n{d.cosine_gradient:.2f}", ""
        axes.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=str(shade), edgecolor="0.6", linewidth=0.5, hatch=hatch)
        )
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1} if hatch else None
        axes.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)
    axes.set(xlim=(-0.5, len(solvers) - 0.5), ylim=(len(metrics) - 0.5, -0.5), ylabel="metric", xlabel="solver")
    axes.set_xticks(range(len(solvers)), solvers, rotation=30, ha="right")
    axes.set_yticks(range(len(metrics)), metrics)
    axes.tick_params(length=0)
    axes.set_title(
        f"improvement of the objective at KL {found.radius:g} nats (darker is more, white a loss)\n"
        "over cosine to the gradient; blank where the solver cannot serve the metric or was left out",
        fontsize=9,
    )
    axes.spines[:].set_visible(False)


def _draw_spectra(axes: Any, found: Inspection) -> None:
    """Draw eigenvalues by magnitude, one line for each metric; markers of negative ones are hollow."""
    shown = [s for s in found.spectra if s.eigenvalues]
    top = max((s.largest or 0.0 for s in shown), default=1.0)
    for i, s in enumerate(shown):
        _draw_spectrum(axes, s, i, len(shown))
    if found.damping > 0:
        axes.axhline(found.damping, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
        style = {"ha": "right", "va": "bottom", "fontsize": 8, "bbox": box}
        where = {"xy": (1, found.damping), "xycoords": ("axes fraction", "data")}
        axes.annotate(f"lambda = {found.damping:g}", **where, **style)
    axes.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue of M, by magnitude (units of M)")
    axes.set_ylim(1e-7 * top, 3 * top)
    axes.set_title("leading eigenvalues, equal ones once\n(Lanczos; hollow: negative)", fontsize=9)
    if shown:
        axes.legend(frameon=False, fontsize=8, loc="lower left", handlelength=3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_spectrum(axes: Any, s: Spectrum, index: int, count: int) -> None:
    """Draw one metric's spectrum, number ``index`` of ``count``."""
    values = sorted(s.eigenvalues, key=abs, reverse=True)
    color = str(0.75 * index / max(count - 1, 1))
    style = {"marker": "os^Dv<>Pp*h"[index % 11], "markersize": 4}
    line = {"color": color, "linestyle": ("-", "--", "-.", ":")[index % 4], "linewidth": 1}
    ranks, sizes = list(range(1, len(values) + 1)), [abs(value) for value in values]
    above, below = [i for i, v in enumerate(values) if v > 0], [i for i, v in enumerate(values) if v < 0]
    axes.plot(ranks, sizes, markevery=above, label=s.metric, **line, **style)
    hollow = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": color}
    axes.plot([ranks[i] for i in below], [sizes[i] for i in below], **hollow, **style)

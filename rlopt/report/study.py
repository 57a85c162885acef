"""A study of `hydra/sweeper=optuna` on the report's page: which options matter, where the best lie, what to type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from rlopt.report.figures import new_panels, short_text
from rlopt.report.page import image, note, table_of
from rlopt.report.trials import best, command, describe, importance, trials_of

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_MOST_OPTIONS, _MOST_CHOICES = 12, 40  # that are drawn


def section(study: Study) -> list[str]:
    """The study's part of the page."""
    found = [f"<h2>Study: {escape(describe(study))}</h2>"]
    top = best(study)
    if top is None:
        return found
    found += [
        f"<p>The best is trial {top.number}, with return {top.value:,.6g}. To train with its options:</p>",
        f"<p class=wide><code>{escape(command(study, top))}</code></p>",
        note(
            "This value is the best of several, from one run each, and so is likely to be above what these options "
            "give on the average. Train with other seeds before you rely on it."
        ),
        image(history(study), "Return of every trial, and the best so far"),
    ]
    if shares := importance(study):
        found += [
            image(bars(shares), "Importance of each option"),
            note(
                "Importance: by how much the values of an option in the better tenth of the trials differ in "
                "distribution from those in all (PED-ANOVA). Few trials make it rough."
            ),
        ]
    found += [
        image(parallel(study), "Options and return of every trial"),
        note("A line is a trial that is done; the darker, the better. The best one is orange."),
    ]
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    rows = [_row(trial, names) for trial in study.trials]
    heads = ("trial", "state", "return", *names)
    return [*found, f"<details><summary>{len(rows)} trials</summary>", table_of(heads, rows), "</details>"]


def history(study: Study) -> Figure:
    """The value of each trial that is done, and the best up to it."""
    done = trials_of(study, "COMPLETE")
    numbers, values = [t.number for t in done], np.array([t.value for t in done], float)
    so_far = (np.maximum if _is_maximised(study) else np.minimum).accumulate(values)
    figure, (panel,) = new_panels(1, 1)
    panel.plot(numbers, values, "o", color="#6fa8dc", markersize=5, label="a trial")
    panel.step(numbers, so_far, where="post", color="#000000", linewidth=1.6, label="best so far")
    panel.set(xlabel="trial", ylabel="return")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def bars(shares: Mapping[str, float]) -> Figure:
    """Importance, a bar for each option."""
    names = [short_text(name) for name in shares]
    figure, (panel,) = new_panels(1, 1, 1.0 + 0.36 * len(names), beside=names)
    panel.barh(range(len(names)), list(shares.values()), color="#6fa8dc", height=0.6)
    panel.set(xlabel="importance (share)", xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    panel.set_yticks(range(len(names)), names)
    panel.tick_params(axis="y", length=0)
    return figure


def parallel(study: Study) -> Figure:
    """Parallel coordinates: an axis for each option, and one for the return; a line for each trial that is done."""
    done = sorted(trials_of(study, "COMPLETE"), key=lambda t: t.value or 0.0, reverse=not _is_maximised(study))
    names = list(dict.fromkeys(name for trial in done for name in trial.params))[:_MOST_OPTIONS]
    axes = [_Axis([t.params.get(name) for t in done], _is_log(done, name)) for name in names]
    axes.append(_Axis([t.value for t in done], False))
    figure, (panel,) = new_panels(1, 1, 4.0, wide=max(6.0, 1.7 * len(axes)))
    for rank, _ in enumerate(done):
        shade = 0.85 - 0.7 * rank / max(1, len(done) - 1)  # the best is the darkest
        color, width = ("#b34700", 2.2) if rank == len(done) - 1 else (str(shade), 1.1)
        panel.plot(range(len(axes)), [axis.places[rank] for axis in axes], color=color, linewidth=width)
    for x, axis in enumerate(axes):
        panel.axvline(x, color="#000000", linewidth=0.8)
        for place, text in axis.ticks:
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
            beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "va": "center", "bbox": box}
            panel.annotate(short_text(text), (x, place), (4, 0), **beside)
    panel.set_xticks(range(len(axes)), [*map(short_text, names), "return"])
    panel.set(xlim=(-0.1, len(axes) - 0.45), ylim=(-0.05, 1.05))
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    panel.tick_params(axis="x", length=0)
    return figure


class _Axis:
    """Where the values of one option lie between 0 and 1: by size where all are numbers, else each text on its own."""

    def __init__(self, values: Sequence[Any], log: bool):
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            raw = np.array(values, float)
            scaled = np.log10(raw) if log else raw
            low, high = scaled.min(), scaled.max()
            span = high - low or 1.0
            self.places = list((scaled - low) / span)
            marks = np.linspace(low, high, 5) if high > low else np.array([low])
            self.ticks = [((m - low) / span, f"{10**m if log else m:.4g}") for m in marks]
        else:
            texts = list(dict.fromkeys(map(str, values)))
            at = {text: i / max(1, len(texts) - 1) for i, text in enumerate(sorted(texts))}
            self.places = [at[str(v)] for v in values]
            self.ticks = [(place, text) for text, place in list(at.items())[:_MOST_CHOICES]]


def _is_maximised(study: Study) -> bool:
    return study.direction.name == "MAXIMIZE"


def _is_log(trials: Sequence[FrozenTrial], name: str) -> bool:
    return any(getattr(trial.distributions.get(name), "log", False) for trial in trials)


def _format(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(trial: FrozenTrial, names: Sequence[str]) -> tuple[str, ...]:
    value = "" if trial.value is None else f"{trial.value:,.6g}"
    return (
        str(trial.number),
        trial.state.name.lower(),
        value,
        *(_format(trial.params.get(name, "")) for name in names),
    )

"""The report as one HTML page. Figures are inside it; it loads nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from urllib.parse import quote

from matplotlib.figure import Figure

from rlopt.report import figures
from rlopt.report.comparison import (
    HEADS,
    POOLED_HEADS,
    Comparison,
    format_estimate,
    improvements,
    pooled_table,
    profiles,
    table,
)
from rlopt.report.grouping import varying_options
from rlopt.report.statistics import Estimate

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #111; max-width: 1500px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: .2em; } h2 { font-size: 1.15em; margin-top: 2.2em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .25em .8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { border-bottom: 1px solid #111; font-weight: 600; vertical-align: bottom; }
td.text, th.text { text-align: left; white-space: normal; } .wide { overflow-x: auto; }
img { max-width: 100%; display: block; margin: 1em 0; } .row { display: flex; flex-wrap: wrap; gap: 0 3em; }
.row > div { flex: 0 1 auto; min-width: 0; max-width: 100%; } .note { color: #444; font-size: 14px; max-width: 60em; }
.row .note { max-width: 42em; }
code { font-size: 13px; } summary { cursor: pointer; }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; } body { background: #15171a; color: #e4e4e4; } .note { color: #b5b5b5; }
  th, td { border-color: #3a3d42; } th { border-color: #e4e4e4; }
  img { background: #fff; filter: invert(.92) hue-rotate(180deg) brightness(1.3); }
}
@media (max-width: 600px) { body { margin: 1em auto; } table { display: block; overflow-x: auto; } }
"""
_MOST_DRAWN = 15  # pairs of methods in a figure; the table has all


def page(comparison: Comparison, about: str, folder: Path, first: Sequence[str] = ()) -> str:
    """The page's text, for a file in ``folder``.

    ``about`` names the folder of the runs and the version; ``first`` comes before the curves.
    """
    title = f"{_list_names(comparison.methods, 'methods')} on {_list_names(comparison.environments, 'environments')}"
    return "\n".join([
        "<!doctype html>", '<html lang="en">', '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">', f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>", f"<h1>{escape(title)}</h1>", f"<p class=note>{escape(about)}</p>",
        *first, *_left_out(comparison), *_curves(comparison), *_own(comparison), *_returns(comparison),
        *_profiles(comparison), *_improvements(comparison), *_settings(comparison, folder), "</html>", "",
    ])  # fmt: skip


def _list_names(names: Sequence[str], what: str) -> str:
    """The names, or their count if they are long."""
    text = ", ".join(names)
    return text if len(text) <= 60 else f"{len(names)} {what}"


def _left_out(comparison: Comparison) -> list[str]:
    if not comparison.left_out:
        return []
    items = [f"<li><code>{escape(str(one.path))}</code>: {escape(one.why)}</li>" for one in comparison.left_out]
    return [f"<h2>Left out: {len(items)}</h2>", "<ul class=note>", *items, "</ul>"]


def _curves(comparison: Comparison) -> list[str]:
    drawn = [image(figures.curves(comparison.groups, [axis], "episode/return", "mean", "t"), f"Return by {axis}")
             for axis in ("steps", "seconds")]  # fmt: skip
    notes = (
        "Seeds are averaged at equal steps, up to the last step that all of a method's runs have. The scale fits the "
        "runs: an interval from few of them may be wider than the panel.",
        "Seconds of collecting and updating, without start-up and evaluation. They compare only where the runs had "
        "like machines to themselves.",
    )
    beside = [f"<div>{picture}{note(text)}</div>" for picture, text in zip(drawn, notes, strict=True)]
    return ["<h2>Learning curves</h2>", "<div class=row>", *beside, "</div>"]


def _own(comparison: Comparison) -> list[str]:
    """Curves of the scalars of record.info, of the groups whose runs all have them."""
    names = list(dict.fromkeys(name for g in comparison.groups for run in g.runs for name in run.own))
    found = []
    for name in names:
        having = [g for g in comparison.groups if all(name in run.own for run in g.runs)]
        groups = [
            replace(g, runs=tuple(replace(r, steps=r.own[name].steps, values=r.own[name].values) for r in g.runs))
            for g in having
        ]
        if groups:
            found.append(image(figures.curves(groups, ["steps"], name, "mean", "t"), name))
    return ["<h2>Scalars of the environments</h2>", *found, note("The entries of record.info.")] if found else []


def _returns(comparison: Comparison) -> list[str]:
    found = [
        f"<h2>{comparison.score.capitalize()}</h2>",
        table_of(HEADS, table(comparison)),
        image(figures.returns(comparison.groups, comparison.scores, comparison.score), "Every run's score"),
        note(
            "Each of the lower marks is a run; above them the mean of the seeds and its 95% t interval. IQM: "
            "interquartile mean, of the middle half of the runs. On normal scores a t interval holds the truth 95 "
            "times in 100, the bootstrap's 74 times from 3 runs, 84 from 5, 90 from 10 (the mean's)."
        ),
        *_bounds(comparison),
    ]
    if rows := pooled_table(comparison):
        ranges = "; ".join(
            f"{e} {low:,.4g} and {high:,.4g}" + (" (given)" if e in comparison.given else "")
            for e, (low, high) in comparison.ranges.items()
        )
        found += ["<h2>All environments together</h2>", table_of(POOLED_HEADS, rows),
                  note(f"Normalised scores: 0 is the return of the untrained policies, 1 the best run's. {ranges}. "
                        "The bootstrap is stratified by environment.")]  # fmt: skip
    return found


def _bounds(comparison: Comparison) -> list[str]:
    """The footnote on intervals that end where the returns do."""
    known = {g.environment: g.possible for g in comparison.groups if g.possible}
    told = "; ".join(f"{environment} {low:g} to {high:g}" for environment, (low, high) in known.items())
    return (
        [note(f"t intervals, here and in the curves, end at the least and the greatest return: {told}.")]
        if told
        else []
    )


def _profiles(comparison: Comparison) -> list[str]:
    thresholds, found = profiles(comparison)
    if not found:
        return []
    what = comparison.score if len(comparison.environments) == 1 else f"normalised {comparison.score}"
    drawn = figures.profiles(found, thresholds, comparison.groups, what)
    return ["<h2>Performance profile</h2>", image(drawn, "Fraction of runs above every score"),
            note("Higher is better; where two lines cross, neither method is better throughout.")]  # fmt: skip


def _improvements(comparison: Comparison) -> list[str]:
    found = improvements(comparison)
    if not found:
        return []
    rows = [(x, y, format_estimate(e, 2)) for (x, y), e in found.items()]
    drawn = [image(figures.improvements(found), "P(X > Y) of every pair")] if len(found) <= _MOST_DRAWN else []
    heads = ("method X", "method Y", "P(X > Y) (95% bootstrap)")
    return ["<h2>Probability of improvement</h2>", *drawn, table_of(heads, rows), note(_explain_improvement(found))]


def _explain_improvement(found: Mapping[tuple[str, str], Estimate]) -> str:
    text = "The probability that a run of X scores above a run of Y; ties count half. Mean over environments."
    if any(e.low == e.high for e in found.values()):
        text += (
            " An interval of no width is no certainty: it appears when the runs of X and Y do not overlap, or are all "
            "equal. Two equal methods with 3 runs each do not overlap once in 10 times."
        )
    return text


def _settings(comparison: Comparison, folder: Path) -> list[str]:
    configs = [g.config for g in comparison.groups]
    keys = varying_options(configs)
    rows = [(key, *(config.get(key, "") for config in configs)) for key in keys]
    shared = [(key, value) for key, value in configs[0].items() if key not in keys and key != "env.id"]
    heads = ("option", *(f"{g.method}, {g.environment}" for g in comparison.groups))
    every = [(g, run) for g in comparison.groups for run in g.runs]
    runs = [(g.environment, g.method, str(run.seed), str(run.path), "") for g, run in every]
    found = ["<h2>Settings and runs</h2>"]
    for title, head, body in (
        (f"{len(keys)} options differ", heads, rows),
        (f"{len(shared)} options are the same in all", ("option", "value"), shared),
        (f"{len(runs)} runs", ("environment", "method", "seed", "folder", "files"), runs),
    ):
        if body:
            links = [_links(run.path, folder) for _, run in every] if body is runs else []
            found += [f"<details><summary>{title}</summary>", table_of(head, body, links), "</details>"]
    return found


def _links(run_dir: Path, folder: Path) -> str:
    """Links from a page in ``folder`` to a run's configuration, and to its video where there is one."""
    there = [run_dir / name for name in ("config.yaml", "video.mp4", "video.gif") if (run_dir / name).is_file()]
    places = [quote(os.fsencode(os.path.relpath(path.absolute(), folder.absolute()))) for path in there]
    return " ".join(f'<a href="{place}">{path.stem}</a>' for path, place in zip(there, places, strict=True))


def table_of(heads: Sequence[str], rows: Sequence[Sequence[str]], links: Sequence[str] = ()) -> str:
    """A table of text; ``links``, by row, are HTML in the place of its last column."""
    text = {
        i for i, head in enumerate(heads) if head.startswith(("environment", "method", "option", "folder", "files"))
    }

    def line(cells: Sequence[str], tag: str, link: str = "") -> str:
        kinds = [f"{tag} class=text" if i in text else tag for i in range(len(cells))]
        shown = [*map(escape, cells[: len(cells) - bool(link)]), *([link] if link else [])]
        return "<tr>" + "".join(f"<{k}>{c}</{tag}>" for k, c in zip(kinds, shown, strict=True)) + "</tr>"

    lines = [line(row, "td", links[i] if links else "") for i, row in enumerate(rows)]
    return "\n".join(["<div class=wide><table>", line(heads, "th"), *lines, "</table></div>"])


def note(text: str) -> str:
    return f"<p class=note>{escape(text)}</p>"


def image(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figures.write(figure, buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    width = round(figure.get_figwidth() * 95)
    return f'<img width={width} alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'

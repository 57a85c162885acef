"""Presets: a page for each, made from conf/algo when this module is imported; `page` makes one of them.

``rlopt.guide.presets.trpo`` is the page of TRPO as Markdown. The site adds results and curves to it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml

from rlopt.config.choices import choices, conf_dir, defaults, described, file, is_variant

_OPTION = re.compile(r"\b[a-z_]+(?:\.[a-z_]+)*=[\w.\[\],]*[\w\]]")
_PARTS = "Each can be chosen anew: `rlopt.guide.choosing` says how, `rlopt.guide.options` lists them."
_RECIPES = "Settings for an environment, used when both are chosen; `recipe=null` leaves them out."
SHOWN = ("objective", "estimator", "metric", "solver", "damping", "step", "schedule")  # of the table of all presets


class Head(NamedTuple):
    """The comments at the head of a preset's file."""

    title: str
    equation: str  # as it is written, without the marks of comments
    source: str  # Markdown
    deviations: str  # Markdown


def head(preset: str) -> Head:
    """The head of conf/algo/PRESET.yaml: a title, an indented equation, the source, and what deviates from it."""
    lines = [line.removeprefix("#") for line in file("algo", preset).read_text().splitlines() if line.startswith("#")]
    lines = [line for line in lines if "@package" not in line]
    title, rest = lines[0].strip(), lines[1:]
    equation = [line for line in rest if line.startswith("   ")]
    first = rest.index(equation[0])
    equation = rest[first : rest.index("", first)]
    text = rest[first + len(equation) + 1 :]
    cut = next(i for i, line in enumerate(text) if line.startswith(" Deviations"))
    deviations = text[cut:]
    deviations[0] = deviations[0].partition(":")[2] if ":" in deviations[0] else deviations[0]
    return Head(title, "\n".join(equation), _paragraph(text[:cut]).removeprefix("Source: "), _listed(deviations))


def _paragraph(lines: list[str]) -> str:
    return _escaped(" ".join(line.strip() for line in lines if line.strip()))


def _listed(lines: list[str]) -> str:
    """Lines indented by three spaces begin a point, those indented by more go on with it; else it is one paragraph."""
    points: list[list[str]] = []
    for line in (line for line in lines if line.strip()):
        if line.startswith("   ") and not line.startswith("    "):
            points.append([line])
        elif points:
            points[-1].append(line)
    if not points:
        text = _paragraph(lines)
        return text[:1].upper() + text[1:]
    return "\n".join(f"- {_paragraph(point)}" for point in points)


def _escaped(text: str) -> str:
    """What is typed as code, and no emphasis by underscores."""
    pieces = re.split(f"({_OPTION.pattern})", text)
    return "".join(f"`{piece}`" if i % 2 else re.sub(r"([_*])", r"\\\1", piece) for i, piece in enumerate(pieces))


def parts(preset: str) -> dict[str, str]:
    """group -> choice, of the policy's update and of the critic's, as the preset has them."""
    listed = yaml.safe_load((conf_dir() / "config.yaml").read_text())["defaults"]
    usual = {key: name for entry in listed if isinstance(entry, dict) for key, name in entry.items() if name}
    chosen = {**usual, **defaults("algo", preset)[1]}
    return {key.rpartition("@")[2]: name for key, name in chosen.items() if key not in ("env", "algo")}


def recipes(preset: str) -> list[str]:
    """The recipes for this preset, ALGO-ENV."""
    return [name for name in choices("recipe") if name.startswith(f"{preset}-")]


def page(preset: str) -> str:
    """The page of one preset, as Markdown."""
    about = head(preset)
    chosen = parts(preset).items()
    rows = [f"| {key} | `{name}` | {described(key.removeprefix('critic.'), name)} |" for key, name in chosen]
    own = [f"- `{name}`: {described('recipe', name)}" for name in recipes(preset)]
    sections = {
        "Equation": "\n".join(f"   {line}" for line in about.equation.splitlines()),
        "Source": about.source,
        "Deviations from it, and why": about.deviations,
        "Parts": "\n".join([_PARTS, "", "| | choice | |", "|---|---|---|", *rows]),
        "Recipes": "\n".join([_RECIPES, "", *own]) if own else "",
    }
    start = f"`algo={preset}`: {about.title}\n\n```shell\nrlopt train algo={preset} env=cartpole\n```\n\n"
    return start + "".join(f"## {title}\n\n{text}\n\n" for title, text in sections.items() if text)


def table() -> str:
    """Every preset with its parts: those of variants behind the choice that they begin from."""
    lines = [f"| preset | {' | '.join(SHOWN)} |", f"|{'---|' * (len(SHOWN) + 1)}"]
    for preset in choices("algo"):
        chosen = parts(preset)
        cells = [shown(group, chosen[group]) for group in SHOWN]
        lines.append(f"| [{preset}](presets/{preset}.html) | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(group: str, name: str) -> str:
    """A choice; a variant with what it is a variant of."""
    return f"{name} ({defaults(group, name)[0][0]})" if is_variant(group, name) else name


def __getattr__(name: str) -> str:
    if name in choices("algo"):
        return page(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__doc__ = f"""The presets: what each algorithm chooses, one page for each.

A preset is a file in conf/algo that chooses a part for each group and so makes an algorithm. What is typed wins over
it. In brackets stands the choice that a variant begins from: `step=ppo` is `step=optimizer` with PPO's own values.

{table()}
"""

"""Every option of every choice. The page is made from the yaml files in conf/ when this module is imported."""

from __future__ import annotations

import re
from pathlib import Path

from rlopt.config.choices import conf_dir, described, file, groups

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w.@]*):(?P<value>(?:[^#]|#(?<! #))*)(?:#(?P<comment>.*))?$")


def options(path: Path) -> list[tuple[str, str, str]]:
    """(dotted name, value, comment) of every option in a yaml file of conf/, in its order."""
    found: list[tuple[str, str, str]] = []
    above: list[tuple[int, str]] = []
    before: list[str] = []  # comment lines above an option
    column = -1  # of the comment beside the last option: it goes on in lines that begin there too
    for line in path.read_text("utf-8").splitlines():
        if line.startswith(" ") and line.strip().startswith("#"):
            if line.index("#") == column:
                name, value, comment = found[-1]
                found[-1] = (name, value, f"{comment} {line.strip(' #')}")
            else:
                before.append(line.strip(" #"))
            continue
        match = _LINE.match(line)
        if not match or match["key"] in ("defaults", "_target_", "algo"):
            before, column = [], -1
            continue
        indent = len(match["indent"])
        above = [(i, key) for i, key in above if i < indent]
        name = ".".join([*(key for _, key in above), match["key"]])
        value, comment = match["value"].strip(), " ".join([*before, (match["comment"] or "").strip()]).strip()
        before, column = [], match.start("comment") - 1
        above.append((indent, match["key"]))
        if value or comment:
            found.append((name, value, comment))
    return found


def page() -> str:
    """The page, as Markdown."""
    lines = ["Every option, with its default and its comment. `rlopt train NAME=VALUE` sets it.", ""]
    lines += ["The options of an update's parts exist for the critic too: `critic.step.radius=0.1`.", ""]
    lines += ["## The run", "", *_table(conf_dir() / "config.yaml", "")]
    for group, names in groups().items():
        if names:
            lines += ["", f"## {group}"]
        for path in sorted((conf_dir() / group).glob("_*.yaml")):
            lines += ["", described(group, path.stem).capitalize(), "", *_table(path, f"{group}.")]
        for name in names:
            path = file(group, name)
            of_run = group == "experiment" or "@package _global_" in path.read_text("utf-8")  # not of the group
            lines += [
                "",
                f"`{group}={name}`: {described(group, name)}",
                "",
                *_table(path, "" if of_run else f"{group}."),
            ]
    return "\n".join(lines)


def _table(path: Path, prefix: str) -> list[str]:
    found = options(path)
    cells = [(f"`{prefix}{name}`", _shown(value), comment.replace("|", "\\|")) for name, value, comment in found]
    return ["| option | value | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells)] if found else []


def _shown(value: str) -> str:
    followed = re.findall(r"\$\{\.*([\w.]+)\}", value)
    return f"by {' and '.join(followed)}" if followed else value and f"`{value}`"


__doc__ = page()

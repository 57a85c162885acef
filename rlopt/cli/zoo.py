"""`rlopt zoo`: the trained policies that come with rlopt, and what they earn."""

from __future__ import annotations

import json
from typing import Any

from rlopt.cli.exit_codes import Parser


def run(arguments: list[str]) -> int:
    parser = Parser(
        prog="rlopt zoo",
        description="List the trained policies that come with rlopt. `rlopt eval zoo:NAME` evaluates one.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)

    from rlopt.checkpoint.zoo import PREFIX, summaries, zoo_dir

    found = summaries()
    if options.json:
        print(json.dumps(found))
    elif not found:
        print(f"the zoo is empty: {zoo_dir()} holds no policy")
    else:
        columns = ("name", "environment", "steps", "seed", "mode's return", "sampled actions'", "seeds' mean")
        print(*_aligned([columns, *(_row(f"{PREFIX}{name}", summary) for name, summary in found.items())]), sep="\n")
    return 0


def _row(name: str, summary: dict[str, Any]) -> tuple[str, ...]:
    returns = (
        f"{summary[f'{kind}_return']:.1f} +- {summary[f'{kind}_std']:.1f}"
        for kind in ("evaluation", "sampled_evaluation")
    )
    of = summary.get("chosen_of")  # of a policy that is the best of several seeds
    mean = f"{of['mean']:.1f} of {of['seeds']}" if of else "-"
    return name, str(summary["env"]), f"{summary['steps']:,}", str(summary["seed"]), *returns, mean


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with the columns side by side."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

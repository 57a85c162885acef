"""Continuing a run: its configuration and newest checkpoint, read and held against each other, and its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlopt.checkpoint.format import unpack
from rlopt.checkpoint.manager import list_checkpoints, newest
from rlopt.checkpoint.resume_rules import change_options, check_counters, check_same_config, version_differences
from rlopt.config.overrides import check_once, read_overrides
from rlopt.config.saved import COPY, load_run
from rlopt.errors import UserError
from rlopt.files.reading import read_json
from rlopt.loggers.console import short
from rlopt.parallel.collectives import world_size


def read_run(
    run_dir: Path, overrides: Sequence[str], say: Callable[[str], object]
) -> tuple[dict[str, Any], Path | None, bytes | None]:
    """Read the run: its configuration, the path of its newest checkpoint, and the checkpoint's content.

    The path is None if the run has no checkpoint yet; the content is also None if it is finished. Raises UserError if
    the folder is damaged, or an override cannot be given to a run that has begun.
    """
    check_once(overrides)
    given = read_overrides(overrides)
    saved = load_run(run_dir)
    try:
        config = change_options(saved, given)
    except (KeyError, TypeError) as error:
        raise UserError(f"{run_dir / 'config.yaml'} is not a run's configuration: it lacks {error}; {COPY}") from error
    if not list_checkpoints(run_dir / "checkpoints"):
        if (run_dir / "summary.json").exists():
            raise UserError(f"{run_dir} was finished, but its checkpoints are gone: put them back, or train anew")
        return config, None, None
    path, content = newest(run_dir, say)
    tree = unpack(content, path)
    if "kept" in tree:
        raise UserError(f"{run_dir} holds a policy alone, whose run cannot go on; begin one with init.from={run_dir}")
    try:
        check_same_config(saved, tree["config"])
        check_counters(tree)
        if versions := version_differences(tree["versions"]):
            say(f"this run was saved with {versions}: it can be continued, but not bit for bit")
        if (before := tree.get("ranks", world_size())) != world_size():
            count = f"{before} rank{'' if before == 1 else 's'}"
            say(f"this run was saved by {count}, here it has {world_size()}: it goes on, but not bit for bit")
        total = config["total_steps"]
        done = isinstance(total, int) and tree["steps"] >= total and saved_result(run_dir) is not None
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is not a run's checkpoint: {type(error).__name__}: {error}") from error
    return config, path, None if done else content


def result_line(summary: dict[str, Any]) -> str:
    """The result of a finished run, from its summary (as in summary.json), in one line."""
    text = f"{summary['algo']} on {summary['env']}, seed {summary['seed']}: "
    if "evaluation_return" in summary:
        mean, std, sampled_mean, sampled_std = (
            math.nan if summary[name] is None else summary[name]  # JSON has null for NaN
            for kind in ("evaluation", "sampled_evaluation")
            for name in (f"{kind}_return", f"{kind}_std")
        )
        cut, sampled_cut = (
            f", {summary[name]} episodes cut off" if summary.get(name) else ""
            for name in ("evaluation_cut", "sampled_evaluation_cut")
        )
        text += f"evaluation return {short(mean)} +- {short(std)} (mode{cut}), "
        text += f"{short(sampled_mean)} +- {short(sampled_std)} (sampled{sampled_cut}); "
    return text + f"{summary['steps']:,} steps at {summary['steps_per_second']:,.0f} steps/s"


def saved_result(run_dir: Path) -> str | None:
    """`result_line` of a run's summary.json; None if there is no complete one, so that the run is not finished."""
    try:
        return result_line(read_json(run_dir / "summary.json"))
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError):
        return None

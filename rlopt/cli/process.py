"""A run on the command line: the signals it hears, what is printed at its end, and how it is taken up again."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlopt.cli.exit_codes import program
from rlopt.config import extensions
from rlopt.config.options import LOWER, in_memory
from rlopt.loggers import console
from rlopt.parallel import ranks
from rlopt.training.callbacks import Callbacks, RunContext
from rlopt.training.signals import SignalHandler
from rlopt.training.trainer import Trainer


def carry_out(run: Trainer, stops: SignalHandler) -> int:
    """Train to the end; a signal ends it with a checkpoint and the command that goes on from there.

    ``stops`` has been listening since before the run was made: what processes are forked with can lose an exception.
    """
    run_dir, run.signals = run.plan.run_dir, stops
    if ranks.is_first_rank():
        run.callbacks = Callbacks(on_begin=_begun)
    try:
        with in_memory("the run", LOWER):
            summary = run.run()
    except KeyboardInterrupt:
        if ranks.is_first_rank():
            console.info(f"\nStopped at step {run.steps:,}; {run.checkpoints.describe_saved(run.steps)}.")
            console.info(f"  resume:    {resuming(run_dir)}\n{what_next(run_dir)}")
        raise
    if ranks.is_first_rank():
        console.output(f"{result(summary)}\n{what_next(run_dir)}")
    return 0


def _begun(moment: RunContext, config: Mapping[str, Any]) -> None:
    console.info(f"{config['algo']} on {config['env']['id']}, seed {config['seed']}, in {moment.run_dir}")
    console.info(_curves(moment.run_dir))


def resuming(run_dir: Path) -> str:
    """The command that takes the run up again."""
    folders, modules = extensions.active()
    flags = [part for folder in folders for part in ("--extensions", str(folder))]
    flags += [part for module in modules for part in ("--import", module)]
    command = shlex.join(["resume", str(run_dir), *flags])
    if ranks.is_distributed():
        return f"torchrun (as before) -m rlopt {command}"
    return f"{program('rlopt')} {command}"


def result(summary: dict[str, Any]) -> str:
    """A finished run in one line."""
    text = f"{summary['algo']} on {summary['env']}, seed {summary['seed']}: "
    if "evaluation_return" in summary:
        mean, std, sampled_mean, sampled_std = (
            math.nan if summary[name] is None else summary[name]  # as JSON has it
            for kind in ("evaluation", "sampled_evaluation")
            for name in (f"{kind}_return", f"{kind}_std")
        )
        text += f"evaluation return {mean:.1f} +- {std:.1f} (mode), {sampled_mean:.1f} +- {sampled_std:.1f} (sampled); "
    return text + f"{summary['steps']:,} steps at {summary['steps_per_second']:,.0f} steps/s"


def finished(run_dir: Path) -> str | None:
    """The same of a run's summary.json; None where there is no whole one, and so something left to do."""
    try:
        return result(json.loads((run_dir / "summary.json").read_text()))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def what_next(run_dir: Path) -> str:
    """The commands that look at a run."""
    return f"{_curves(run_dir)}\n  evaluate:  {program('rlopt')} eval {shlex.quote(str(run_dir))}"


def _curves(run_dir: Path) -> str:
    return f"  curves:    {program('tensorboard')} --logdir {shlex.quote(str(run_dir))}"

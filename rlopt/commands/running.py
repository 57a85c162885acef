"""A run on the command line: the signals it hears, what is printed at its end, and how it is taken up again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlopt import extensions
from rlopt.commands.common import program
from rlopt.run import ranks
from rlopt.run.callbacks import Callbacks, Moment
from rlopt.run.trainer import Trainer


def carry_out(run: Trainer) -> int:
    """Train to the end; a signal ends it with a checkpoint and the command that goes on from there."""
    run_dir = run.plan.run_dir
    if ranks.leads():
        run.callbacks = Callbacks(on_begin=_begun)
    with run.stops.listening():
        try:
            summary = run.run()
        except KeyboardInterrupt:
            if ranks.leads():
                print(f"\nStopped at step {run.steps:,}; {run.saver.told(run.steps)}.", file=sys.stderr)
                print(f"  resume:    {resuming(run_dir)}\n{what_next(run_dir)}", file=sys.stderr)
            raise
    if ranks.leads():
        print(result(summary))
        print(what_next(run_dir))
    return 0


def _begun(moment: Moment, config: Mapping[str, Any]) -> None:
    print(f"{config['algo']} on {config['env']['id']}, seed {config['seed']}, in {moment.run_dir}", file=sys.stderr)
    print(_curves(moment.run_dir), file=sys.stderr)


def resuming(run_dir: Path) -> str:
    """The command that takes the run up again."""
    folders, modules = extensions.active()
    flags = [part for folder in folders for part in ("--extensions", str(folder))]
    flags += [part for module in modules for part in ("--import", module)]
    command = shlex.join(["resume", str(run_dir), *flags])
    if ranks.launched():
        return f"torchrun (as before) -m rlopt {command}"
    return f"{program('rlopt')} {command}"


def result(summary: dict[str, Any]) -> str:
    """A finished run in one line."""
    text = f"{summary['algo']} on {summary['env']}, seed {summary['seed']}: "
    if "evaluation_return" in summary:
        text += f"evaluation return {summary['evaluation_return']:.1f} +- {summary['evaluation_std']:.1f} (mode), "
        text += f"{summary['sampled_evaluation_return']:.1f} +- {summary['sampled_evaluation_std']:.1f} (sampled); "
    return text + f"{summary['steps']:,} steps at {summary['steps_per_second']:,.0f} steps/s"


def what_next(run_dir: Path) -> str:
    """The commands that look at a run."""
    return f"{_curves(run_dir)}\n  evaluate:  {program('rlopt')} eval {run_dir}"


def _curves(run_dir: Path) -> str:
    return f"  curves:    {program('tensorboard')} --logdir {run_dir}"

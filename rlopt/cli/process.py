"""Training on the command line: run until the end or a signal, then print the result and the commands to type next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlopt.config import extensions
from rlopt.config.memory import LOWER
from rlopt.config.options import RunConfig
from rlopt.files import shown
from rlopt.loggers import console
from rlopt.parallel import ranks
from rlopt.training.callbacks import Callbacks, RunContext
from rlopt.training.continuing import result_line as result_line
from rlopt.training.continuing import saved_result as saved_result
from rlopt.training.factory import build, explain_lack_of_memory
from rlopt.training.signals import SignalHandler
from rlopt.training.trainer import Trainer

_watch: Callable[[Trainer, RunContext], object] | None = None  # is called after every update


def build_run(config: RunConfig, run_dir: Path, resumed: bool = False) -> Trainer:
    """The run, see `training.factory.build`; a new one starts from what ``config.init`` names."""
    if not config.init.given or resumed:
        return build(config, run_dir, resumed)
    from rlopt.training.initial import start_from

    return build(config, run_dir, begin=start_from)


def train_to_end(run: Trainer, signals: SignalHandler) -> int:
    """Train to the end and print the result; return exit code 0.

    On a signal the trainer saves a checkpoint; the command that resumes the run is printed, and Signalled is raised.
    ``signals`` must have listened since before ``run`` was made, because an exception that a signal raises while
    processes are forked can be lost.
    """
    run_dir, run.signals = shown(run.run_dir), signals
    if ranks.is_first_rank():
        run.callbacks = _callbacks(run)
    try:
        with explain_lack_of_memory("the run", LOWER):
            summary = run.run()
    except KeyboardInterrupt as interrupt:
        interrupt.reported = True  # type: ignore[attr-defined]
        if ranks.is_first_rank():
            console.info(f"\nStopped at step {run.steps:,}; {run.checkpoints.describe_saved(run.steps)}.")
            console.info(f"  resume:    {resume_command(run_dir)}\n{next_commands(run_dir)}")
        raise
    if ranks.is_first_rank():
        console.output(f"{result_line(summary)}\n{next_commands(run_dir)}")
    return 0


@contextmanager
def watching(watch: Callable[[Trainer, RunContext], object]) -> Iterator[None]:
    """Within, call this after every update of a run that is trained in this process. Stopped, from it, ends the run."""
    global _watch
    _watch = watch
    try:
        yield
    finally:
        _watch = None


def _callbacks(run: Trainer) -> Callbacks:
    callbacks, watch = Callbacks(on_begin=_print_begin), _watch
    return callbacks if watch is None else replace(callbacks, on_update=lambda moment, scalars: watch(run, moment))


def _print_begin(moment: RunContext, config: Mapping[str, Any]) -> None:
    recipe = f", recipe {config['recipe']}" if config["recipe"] else ""
    console.info(
        f"{config['algo']} on {config['env']['id']}{recipe}, seed {config['seed']}, in {shown(moment.run_dir)}"
    )
    console.info(_curves_command(shown(moment.run_dir)))


def resume_command(run_dir: Path) -> str:
    """The command that resumes the run."""
    command = shlex.join(["resume", str(run_dir), *_flags()])
    if ranks.is_distributed():
        return f"torchrun (as before) -m rlopt {command}"
    return f"{_path_of('rlopt')} {command}"


def next_commands(run_dir: Path) -> str:
    """The commands that show the run's curves and evaluate its policy."""
    evaluate = shlex.join(["eval", str(run_dir), *_flags()])
    return f"{_curves_command(run_dir)}\n  evaluate:  {_path_of('rlopt')} {evaluate}"


def _flags() -> list[str]:
    """What brings the folders and modules of one's own back."""
    folders, modules = extensions.active()
    flags = [part for folder in folders for part in ("--extensions", str(folder))]
    return flags + [part for module in modules for part in ("--import", module)]


def _curves_command(run_dir: Path) -> str:
    return f"  curves:    {_path_of('tensorboard')} --logdir {shlex.quote(str(run_dir))}"


def _path_of(program: str) -> str:
    """What to type for a program of this installation: its name if that is on PATH, else its relative path."""
    if shutil.which(program):
        return program
    beside_python = Path(sys.executable).parent / program
    return os.path.relpath(beside_python) if beside_python.exists() else program

"""`rlopt train -m`: train one run for every combination of values, through Hydra's sweeper and launcher.

The runs go to subfolders of sweep_dir (runs/sweep-TIME by default), named by their values: algo=ppo,seed=1. The same
command with the same sweep_dir continues where it stopped (`rlopt.cli.sweep_run`). Hydra's launchers run them in other
processes or on other machines:

    rlopt train -m algo=trpo,ppo seed=0,1,2 sweep_dir=runs/two hydra/launcher=joblib hydra.launcher.n_jobs=2
    rlopt train -m algo=trpo,ppo seed=0,1,2 sweep_dir=runs/two hydra/launcher=submitit_slurm hydra.launcher.partition=P

    rlopt train -m algo=trpo,ppo seed=0,1,2 sweep_dir=runs/two hydra/launcher=ray

With `hydra/sweeper=optuna` the values are drawn, so that returns become high (`rlopt.cli.plugins.optuna_sweeper`). A
sweeper of others is given a run's evaluation return, or without evaluations the mean return of the last training
episodes.

    rlopt train -m algo=ppo 'optimizer.lr=tag(log,interval(1e-4,1e-2))' hydra/sweeper=optuna hydra.sweeper.n_trials=20
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from rlopt.cli import plugins
from rlopt.cli.sweep_run import RunFailed, Sweep, end_workers
from rlopt.config import check_config, extensions
from rlopt.config.choices import short_name
from rlopt.config.compose import compose
from rlopt.config.overrides import (
    check_once,
    check_several,
    drawn_numbers,
    from_sweeper,
    full_name,
    named_values,
    parse,
    read_overrides,
    runs_to_check,
    to_overrides,
    to_sweeper,
)  # fmt: skip
from rlopt.errors import UserError, in_one_line, needs_extra
from rlopt.files import shown
from rlopt.loggers import console
from rlopt.parallel.processes import ending_children, try_in_child
from rlopt.training.run_directory import unused_path
from rlopt.training.signals import SignalHandler

_OF_OPTIONS = (HydraException, AttributeError, TypeError, ValueError, LookupError, ImportError, OSError, RuntimeError)
_PLUGINS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}  # launcher -> its plugin


def multirun(overrides: list[str], train: Callable[[list[str]], int]) -> int:
    """Call ``train`` for every combination of the overrides' values.

    Returns the highest exit code of the runs in this process, or of the first worker process that failed.
    """
    import hydra

    folder, overrides = _sweep_folder(overrides)
    check_once(overrides)
    check_several(overrides)
    _check_plugins(overrides)
    _check_runs(overrides)
    plugins.register(overrides)
    varied = [short_name(full_name(o)) for o in map(parse, overrides) if o.is_sweep_override()]
    job = _Job(Sweep(train, folder, sorted(varied), *extensions.active()))

    directories = [*to_overrides({"hydra.sweep.dir": folder}), "hydra.sweep.subdir=.", "hydra.output_subdir=null"]
    quiet = ["hydra/hydra_logging=none", "hydra/job_logging=none", *_study(overrides, folder)]
    program = sys.argv
    sys.argv = ["rlopt", "--multirun", *(to_sweeper(parse(text)) for text in overrides), *directories, *quiet]
    # the workers save and end before the launcher kills its processes
    signals = SignalHandler(before_interrupt=lambda: end_workers(folder / ".sweep"))
    try:
        with signals.installed(), ending_children(), _help_unchecked(), _errors_raised():
            hydra.main(version_base="1.3", config_path=None, config_name=None)(job)()
    except KeyboardInterrupt as interrupt:
        interrupt.reported = True  # type: ignore[attr-defined]
        console.info(f"The same command with sweep_dir={shown(folder)} continues where this one stopped.")
        raise
    except RunFailed as failed:
        console.info(f"rlopt: {failed.name} ended with exit code {failed.code}; others may have failed too")
        return max([*job.codes, failed.code])
    except _OF_OPTIONS as error:
        if job.failed:
            raise
        if isinstance(error, BrokenExecutor):
            raise UserError(
                "one of the processes that train was killed, perhaps for want of memory, and the others were ended; "
                f"the same command with sweep_dir={shown(folder)} continues"
            ) from error
        options = " ".join(o for o in overrides if o.lstrip("+~").startswith("hydra"))
        raise UserError(f"{options or 'these runs'} cannot be begun: {_reason(error)}") from error
    finally:
        sys.argv = program
    console.output(f"All runs are in {shown(folder)}")
    return max(job.codes, default=0)


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Within, Hydra raises errors. It prints no failed job's overrides, which are spelled as its sweepers take them."""
    from hydra.core.utils import JobReturn, JobStatus

    kind: Any = JobReturn

    def returned(job: Any) -> Any:
        if job.status == JobStatus.FAILED:
            raise job._return_value
        return job._return_value

    full_error, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"
    value = kind.return_value
    kind.return_value = property(returned, value.fset)
    try:
        yield
    finally:
        kind.return_value = value
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error


@contextmanager
def _help_unchecked() -> Iterator[None]:
    """Within, argparse of Python 3.14 checks no help texts: Hydra 1.3 has one that is no text until it is shown."""
    setattr(argparse.ArgumentParser, "_check_help", lambda *_: None)  # noqa: B010  # mypy knows none
    try:
        yield
    finally:
        delattr(argparse.ArgumentParser, "_check_help")  # its own is a base class's


class _Job:
    """The function that Hydra's launchers call for each combination, in this process or in a worker."""

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        self.codes: list[int] = []  # exit codes of the runs in this process
        self.failed = False  # an error was raised in a run, so that it is not one of Hydra's options

    def __call__(self, config: Any) -> float | None:
        """Train one run; its score, which a sweeper that draws makes as high as it can. None for a trial pruned."""
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig

        told = HydraConfig.get()
        overrides = [from_sweeper(o) for o in told.overrides.task if not o.startswith("hydra")]
        instance = GlobalHydra.instance()
        sweeping, instance.hydra = instance.hydra, None  # a run composes its own configuration
        try:
            if told.runtime.choices["hydra/sweeper"] == "optuna":
                return self._run_trial(overrides, dict(told.sweeper))
            self.codes.append(self._sweep.run(overrides))
        except BaseException:
            self.failed = True
            raise
        finally:
            GlobalHydra.instance().hydra = sweeping
        return self._sweep.score(overrides)

    def _run_trial(self, overrides: list[str], options: dict[str, Any]) -> float | None:
        """Train the run of a trial of Optuna's; its score, NaN where it diverged, None where it was pruned."""
        from rlopt.cli.plugins.optuna_sweeper import DIVERGED, TRIAL, trial_watched

        number = next(int(o.partition("=")[2]) for o in overrides if o.startswith(f"{TRIAL}="))
        overrides = [o for o in overrides if not o.startswith(f"{TRIAL}=")]
        with trial_watched(options, number) as watch:
            try:
                code = self._sweep.run(overrides)
            except RunFailed as failed:
                code = failed.code
        if watch.pruned:
            return None
        if code not in (0, DIVERGED):
            if self._sweep.is_left_unbegun(overrides):  # the same values would be refused again
                watch.fail()
            raise RunFailed(self._sweep.name(overrides), code)
        return self._sweep.score(overrides) if code == 0 else math.nan


def _reason(error: Exception) -> str:
    """What is wrong with Hydra's options: its advice to append an unknown one is of no use."""
    if isinstance(error, HydraException) and isinstance(cause := error.__cause__, ValueError):
        return in_one_line(cause).partition(" full_key: ")[0]
    text = in_one_line(error).partition(" To append to your config")[0]
    return re.sub(r"Could not override '([^']*)'\.", r"there is no option \1", text)


def _study(overrides: list[str], folder: Path) -> list[str]:
    """Where Optuna's sweeper keeps its trials, where the user does not say it."""
    typed = {o.key_or_group: str(o.value()) for o in map(parse, overrides)}
    if typed.get("hydra/sweeper") != "optuna" or "hydra.sweeper.storage" in typed:
        return []
    return to_overrides({"hydra.sweeper.storage": f"sqlite:///{(folder / 'optuna.db').as_posix()}"})


def _sweep_folder(overrides: list[str]) -> tuple[Path, list[str]]:
    """The folder for all runs, and the overrides without sweep_dir."""
    others, chosen = [], None
    for override in map(parse, overrides):
        text = str(override.input_line)
        if override.key_or_group == "run_dir":
            raise UserError(f"{text}: run_dir is for one run; several go into the folder sweep_dir=...")
        if override.key_or_group != "sweep_dir":
            others.append(text)
            continue
        chosen, *more = named_values(override)
        if more or chosen in ("null", ""):
            raise UserError(f"{text}: all runs go into one folder, such as sweep_dir=runs/NAME")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    if chosen is None:
        return unused_path(Path.cwd() / "runs" / f"sweep-{stamp}"), others
    return Path(chosen).expanduser().absolute(), others


def _check_runs(overrides: list[str]) -> None:
    """Raise UserError for the first mistake in any of the runs, before the first of them begins.

    One run of each combination of choices makes its environment and its networks, in a process of its own: what is
    wrong there may end the process.
    """
    from rlopt.training.factory import set_up

    by_choice, others = runs_to_check(overrides)
    for i, run in enumerate([*by_choice, *others]):
        config = check_config(compose(run), read_overrides(run))
        if i < len(by_choice) and (wrong := try_in_child(lambda config=config: set_up(config))):  # type: ignore[misc]
            raise UserError(wrong if len(by_choice) == 1 else f"{' '.join(run)}: {wrong}")
    for typed, number, run in drawn_numbers(overrides, by_choice[0]):
        try:
            check_config(compose(run), read_overrides(run))
        except UserError as error:
            whole = isinstance(number, float) and "whole number" in str(error)
            advice = f"; int({typed.partition('=')[2]}) draws whole numbers" if whole else ""
            raise UserError(f"{typed} may draw {number:g}: {error}{advice}") from error


def _check_plugins(overrides: list[str]) -> None:
    """Raise UserError if the launcher's or the sweeper's package is not installed."""
    for override in map(parse, overrides):
        typed = str(override.input_line)
        missing = f"{typed} needs a package that is not installed"
        plugin = _PLUGINS.get(str(override.value())) if override.key_or_group == "hydra/launcher" else None
        if plugin and not _has_module("hydra_plugins", f"hydra_plugins.hydra_{plugin}_launcher"):
            raise UserError(needs_extra(missing, "sweep"))
        if typed in plugins.EXTRAS and not _has_module(plugins.EXTRAS[typed]):
            raise UserError(needs_extra(missing, plugins.EXTRAS[typed]))


def _has_module(*names: str) -> bool:
    """Whether there are a package and then, in it, a module."""
    return all(importlib.util.find_spec(name) is not None for name in names)

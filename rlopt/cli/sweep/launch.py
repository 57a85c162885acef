"""rlopt train -m: one run for every combination, through Hydra's sweeper and launcher.

All go into one folder, sweep_dir (runs/sweep-TIME), each into one named by its own values: algo=ppo,seed=1. The same
command with the same sweep_dir goes on where it stopped: see rlopt.cli.sweep.job. Hydra's launchers take the runs to
other processes or machines:

    rlopt train -m algo=trpo,ppo seed=0,1,2 sweep_dir=runs/two hydra/launcher=joblib hydra.launcher.n_jobs=2
    rlopt train -m algo=trpo,ppo seed=0,1,2 sweep_dir=runs/two hydra/launcher=submitit_slurm hydra.launcher.partition=P
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlopt.cli.sweep.job import Failed, Sweep
from rlopt.cli.sweep.processes import end_all
from rlopt.config import choices as catalogue
from rlopt.config import extensions
from rlopt.config.compose import explained, resolve
from rlopt.config.overrides import check_several, first_run, named, parse, rewritten, spelled
from rlopt.errors import UserError
from rlopt.loggers import console
from rlopt.training.run_directory import unused_path
from rlopt.training.signals import SignalHandler

_LAUNCHERS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}  # -> plugin's name


def multirun(overrides: list[str], once: Callable[[list[str]], int]) -> int:
    """``once`` for every combination of overrides; the highest of the exit codes, or the first of other processes'."""
    import hydra

    folder, overrides = _folder(overrides)
    check_several(overrides)
    _check_launcher(overrides)
    resolve(first_run(overrides))  # what is wrong with every run is told before any begins
    swept = [_unwritten(text).partition("=")[0] for text in overrides if parse(text).is_sweep_override()]
    job = _Job(Sweep(once, folder, sorted(swept), *extensions.active()))

    quiet = [*spelled({"hydra.sweep.dir": folder}), "hydra.sweep.subdir=.", "hydra.output_subdir=null",
             "hydra/hydra_logging=none", "hydra/job_logging=none"]  # fmt: skip
    program, sys.argv = sys.argv, ["rlopt", "--multirun", *rewritten(overrides), *quiet]
    full_error, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"  # errors come to us
    stops = SignalHandler(
        before_interrupt=lambda: end_all(folder / ".sweep")
    )  # whereupon a launcher ends its processes
    try:
        with stops.installed(), explained():
            hydra.main(version_base="1.3", config_path=str(catalogue.conf_dir()), config_name="config")(job)()
    except KeyboardInterrupt:
        console.info(f"The same command with sweep_dir={folder} goes on where this one stopped.")
        raise
    except Failed as failed:
        console.info(f"rlopt: {failed.name} ended with exit code {failed.code}; others may have failed too")
        return max([*job.codes, failed.code])
    except (AttributeError, TypeError, ValueError, LookupError, ImportError, OSError, RuntimeError) as error:
        if job.failed:
            raise
        of_hydra = " ".join(o for o in overrides if o.lstrip("+~").startswith("hydra"))
        raise UserError(f"{of_hydra or 'these runs'} cannot be begun: {' '.join(str(error).split())}") from error
    finally:
        sys.argv = program
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    console.output(f"All runs are in {folder}")
    return max(job.codes, default=0)


class _Job:
    """What Hydra's launchers call for each combination, wherever they do."""

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        self.codes: list[int] = []  # of the runs in this process
        self.failed = False  # within a run, and so through no fault of Hydra's options

    def __call__(self, config: Any) -> None:
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig

        chosen = [_unwritten(o) for o in HydraConfig.get().overrides.task if not o.startswith("hydra")]
        sweeping, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # a run composes its own
        try:
            self.codes.append(self._sweep.run(chosen))
        except BaseException:
            self.failed = True
            raise
        finally:
            GlobalHydra.instance().hydra = sweeping


def _unwritten(override: str) -> str:
    """The user's spelling of an override in Hydra's."""
    name, _, value = override.partition("=")
    if name.startswith("~"):
        return f"{name[1:]}=null"
    return f"{name.partition('@')[2] or name.lstrip('+')}={value}"


def _folder(overrides: list[str]) -> tuple[Path, list[str]]:
    """The folder of all runs, and the overrides without it."""
    others, chosen = [], None
    for override in map(parse, overrides):
        text = str(override.input_line)
        if override.key_or_group == "run_dir":
            raise UserError(f"{text}: run_dir is for one run; several go into the folder sweep_dir=...")
        if override.key_or_group != "sweep_dir":
            others.append(text)
            continue
        chosen, *more = named(override)
        if more or chosen == "null":
            raise UserError(f"{text}: all runs go into one folder, sweep_dir=runs/NAME, say")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return unused_path(Path("runs") / f"sweep-{stamp}") if chosen is None else Path(chosen).expanduser(), others


def _check_launcher(overrides: list[str]) -> None:
    """Raise UserError where the launcher is one whose package is absent."""
    for override in map(parse, overrides):
        plugin = _LAUNCHERS.get(str(override.value())) if override.key_or_group == "hydra/launcher" else None
        if plugin and importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
            raise UserError(f"{override.input_line} needs a package that is not installed: pip install 'rlopt[sweep]'")

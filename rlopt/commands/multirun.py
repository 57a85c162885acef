"""rlopt train -m: one run for every combination, through Hydra's sweeper and launcher."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from rlopt import catalogue
from rlopt.build import explained, resolve
from rlopt.commands.common import Signalled, exit_code
from rlopt.errors import UserError
from rlopt.overrides import check_several, first_run, rewritten


def multirun(overrides: list[str], once: Callable[[list[str]], int]) -> int:
    """``once`` for every combination of overrides; the highest of the exit codes."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    check_several(overrides)
    resolve(first_run(overrides))  # what is wrong with every run is told before any begins
    codes: list[int] = []
    failed: list[BaseException] = []  # within a run, and so no fault of Hydra's options

    def job(config: Any) -> None:
        chosen = [_unwritten(o) for o in HydraConfig.get().overrides.task if not o.startswith("hydra")]
        print(f"--- {' '.join(chosen)}")
        sweeping, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # a run composes its own
        try:
            codes.append(exit_code(lambda: once(chosen)))
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            GlobalHydra.instance().hydra = sweeping
        if codes[-1] > 128:
            raise Signalled(codes[-1] - 128)

    quiet = ["hydra.sweep.dir=runs", "hydra.sweep.subdir=.", "hydra.output_subdir=null", "hydra/hydra_logging=none",
             "hydra/job_logging=none"]  # fmt: skip
    program, sys.argv = sys.argv, ["rlopt", "--multirun", *rewritten(overrides), *quiet]
    full_error, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"  # errors come to us
    try:
        with explained():
            hydra.main(version_base="1.3", config_path=str(catalogue.conf_dir()), config_name="config")(job)()
    except (AttributeError, TypeError, ValueError, LookupError, ImportError, OSError, RuntimeError) as error:
        if failed:
            raise
        of_hydra = " ".join(o for o in overrides if o.lstrip("+~").startswith("hydra"))
        raise UserError(f"{of_hydra or 'these runs'} cannot be begun: {' '.join(str(error).split())}") from error
    finally:
        sys.argv = program
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    return max(codes, default=0)


def _unwritten(override: str) -> str:
    """The user's spelling of an override in Hydra's."""
    name, _, value = override.partition("=")
    if name.startswith("~"):
        return f"{name[1:]}=null"
    return f"{name.partition('@')[2] or name.lstrip('+')}={value}"

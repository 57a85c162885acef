"""What all commands share: exit codes, options that are not name=value, and how to call our programs from here."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rlopt.errors import RankLost, Signalled, Stopped, UserError
from rlopt.loggers import console
from rlopt.parallel import ranks

COPY = (
    "each of its checkpoints holds a copy: write rlopt.checkpoint.format.load(Path(FILE))['config'] to config.yaml as "
    "JSON, which is YAML too"
)


class Parser(argparse.ArgumentParser):
    """Mistakes in one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def exit_code(command: Callable[[], int]) -> int:
    """What ``command`` returns, or the code of the way it ended, told in one line."""
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where its failing can be told
        return code
    except UserError as error:
        _tell(str(error), error)
        return 2
    except BrokenPipeError:  # whoever reads has read enough, as `head` does
        return 128 + getattr(signal, "SIGPIPE", 13)
    except OSError as error:
        if not error.filename and error.errno != errno.ENOSPC:
            raise  # no file of the user's, and no full disk: a mistake of ours
        _tell(f"{error.filename}: {error.strerror}" if error.filename else str(error), error)
        return 2
    except Stopped as error:
        _tell(str(error), error)
        return 3
    except RankLost as error:
        _tell(str(error), error)
        return 1
    except KeyboardInterrupt as error:
        return 128 + (error.number if isinstance(error, Signalled) else signal.SIGINT)


def _tell(said: str, error: Exception) -> None:
    if ranks.should_report(error):
        console.info(f"rlopt: {said}")


def check_run_dir(run_dir: Path) -> None:
    try:
        there, saved = (run_dir / "config.yaml").is_file(), (run_dir / "checkpoints").is_dir()
    except OSError as error:
        raise UserError(f"{run_dir} cannot be read: {error.strerror}") from error
    if not there:
        lost = f"; {COPY}" if saved else ""
        raise UserError(f"{run_dir} is not the folder of a run: it has no config.yaml{lost}")


def program(name: str) -> str:
    """How to call a program of this installation from here."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).parent / name
    return os.path.relpath(beside) if beside.exists() else name


def needs_plotting(command: str) -> None:
    """Refuse a command that draws where the packages it takes are absent."""
    absent = [name for name in ("matplotlib", "scipy") if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f"{command} needs {' and '.join(absent)}: pip install 'rlopt[plot]'")

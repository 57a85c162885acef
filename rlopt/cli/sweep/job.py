"""One run of a sweep, in this process or in another's: skipped, taken up again or begun, as its folder shows.

    config.yaml is not there                      it is begun
    config.yaml is there                          it goes on where it stopped, as by `rlopt resume`
    config.yaml and summary.json are there        done: it is skipped
    config.yaml is another configuration's        refused: the sweep needs another folder

Two sweeps do not train one run: each holds a lock on it, from before it looks at the folder. In another process than
the sweep's own what would go to stderr goes to SWEEP_DIR/.sweep/RUN.log.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from urllib.parse import quote

from rlopt.checkpoint.resume_rules import config_differences
from rlopt.cli.exit_codes import exit_code
from rlopt.cli.process import finished
from rlopt.cli.resume import run as resume
from rlopt.cli.sweep import processes as elsewhere
from rlopt.config.compose import load, resolve
from rlopt.config.extensions import extended
from rlopt.config.overrides import spelled
from rlopt.errors import Signalled, UserError
from rlopt.loggers import console
from rlopt.training.run_directory import trained_elsewhere

_LONGEST = 150  # letters of a folder's name


class Failed(Exception):
    """A run in another process ended with this exit code."""

    def __init__(self, name: str, code: int):
        super().__init__(name, code)
        self.name, self.code = name, code


class Sweep:
    """The runs of a sweep, which go to ``folder``; ``once`` trains one, and ``swept`` names the options that vary."""

    def __init__(
        self,
        once: Callable[[list[str]], int],
        folder: Path,
        swept: Sequence[str],
        extensions: Sequence[str | Path],
        modules: Sequence[str],
    ):
        self._once, self._folder, self._swept = once, folder, swept
        self._extensions, self._modules, self._home = extensions, modules, _process()

    def run(self, chosen: list[str]) -> int:
        """The run of this combination, if there is something left to do; its exit code."""
        if self._away():
            elsewhere.follow(*self._home)
        try:
            with extended(self._extensions, self._modules):
                code = exit_code(lambda: self._one(chosen))
        except Exception as error:
            if not self._away():
                raise
            traceback.print_exc()
            raise Failed(self.name(chosen), 1) from error
        if code > 128:
            if self._away():
                elsewhere.ended(code - 128)
            raise Signalled(code - 128)
        if code and self._away():
            raise Failed(self.name(chosen), code)
        return code

    def _one(self, chosen: list[str]) -> int:
        name = self.name(chosen)
        run_dir = self._folder / name
        told = f"--- {' '.join(chosen)}"
        typed = [*chosen, *spelled({"run_dir": run_dir})]
        beside = self._folder / ".sweep"
        try:
            beside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"sweep_dir={self._folder} cannot be written: {error}") from error
        with elsewhere.locked(beside / f"{name}.lock", self._home[1]) as mine:
            if not mine:
                raise trained_elsewhere(run_dir)
            begun = (run_dir / "config.yaml").is_file()
            if begun:
                _check_same(typed, run_dir)
            if begun and finished(run_dir):
                console.output(f"{told}: done before")
                return 0
            console.output(told)
            with (beside / f"{name}.log").open("a") if self._away() else nullcontext(sys.stderr) as log:
                with redirect_stderr(log):
                    return resume([str(run_dir)]) if begun else self._once(typed)

    def _away(self) -> bool:
        """Whether this is not the process that began the sweep."""
        return _process() != self._home

    def name(self, chosen: list[str]) -> str:
        """The folder's name of a combination: the values of what was swept."""
        values = dict(override.split("=", 1) for override in chosen)
        told = [quote(f"{key}={values[key]}", safe="=[]{}: ") for key in self._swept if key in values]
        name = ",".join(told) or "run"
        if len(name) <= _LONGEST:
            return name
        return f"{name[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _process() -> tuple[str, int]:
    return os.uname().nodename, os.getpid()


def _check_same(typed: list[str], run_dir: Path) -> None:
    """Raise UserError where the folder holds a run of another configuration than these overrides'."""
    for key, here, there in config_differences(resolve(typed), load(run_dir / "config.yaml")):
        raise UserError(f"{run_dir} holds another run: there {key} is {there}, now {here}; give another sweep_dir")

"""The entry point of the command line: import the module of the command and run it.

`rlopt.cli.exit_codes` lists the exit codes.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from rlopt import __version__
from rlopt.cli.exit_codes import exit_code
from rlopt.config import choices as catalogue
from rlopt.config.extensions import extended, modules_of
from rlopt.errors import UserError
from rlopt.loggers import console
from rlopt.parallel.interrupts import leave_imports_on_interrupt

USAGE = """\
rlopt: policy-gradient training where the geometry of the update is a choice

  rlopt train [name=value ...]        train; `rlopt train --help` lists every choice, and every option of the run;
                                      `rlopt train --help solver=cg` the options of a choice
  rlopt train -m seed=0,1,2 [...]     train one run for every combination of values
  rlopt resume RUN_DIR [total_steps=N ...]
                                      continue a run that was stopped
  rlopt clone DATASET [name=value ...]
                                      train a policy to imitate recorded actions
  rlopt eval RUN_DIR [--episodes N] [--video [PATH]] [--save-episodes F] [--json]
                                      evaluate a trained policy
  rlopt zoo                           list trained policies that come with rlopt: zoo:NAME is a RUN_DIR of eval,
                                      inspect, export and card, and of init.from
  rlopt inspect RUN_DIR [--samples N] [--radius R] [--json]
                                      compare every metric and solver at a trained policy
  rlopt export RUN_DIR [--out F]      write the policy as one graph that needs no rlopt: .onnx or .pt2
  rlopt card RUN_DIR                  write README.md, as model hubs have it, with the run's results
  rlopt plot RUN_DIR... [--out F.png]
                                      draw learning curves, averaged over seeds, with intervals
  rlopt report DIR [--out F.html]
                                      compare all runs in a folder on one page
  rlopt --version

with every command:
  --extensions DIR                    add your own choices, such as DIR/metric/mine.yaml and DIR/metric/mine.py
  --import MODULE                     import a module, or a file, ./mine.py, that registers environments, first
"""
COMMANDS = {  # command -> its module in rlopt.cli
    **{name: name for name in ("train", "resume", "clone", "zoo", "inspect", "export", "card", "plot", "report")},
    "eval": "evaluate",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if arguments is None:
        arguments = sys.argv[1:]
        leave_imports_on_interrupt()
        console.show_every_name()
    return exit_code(lambda: _run(list(arguments)))


def _run(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(f"rlopt {__version__}")
        return 0
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the current folder cannot be found: {error.strerror}") from error
    if command not in COMMANDS:
        hint = catalogue.nearest(command, list(COMMANDS))
        raise UserError(f"there is no command {command!r}{hint}; `rlopt --help` lists the commands")
    folders, rest = _take_flag("--extensions", "DIR", rest)
    modules, rest = _take_flag("--import", "MODULE", rest)
    modules = list(dict.fromkeys([*modules, *modules_of(rest)]))  # of environments that are typed with theirs
    with extended(folders, modules):
        code: int = import_module(f"rlopt.cli.{COMMANDS[command]}").run(rest)
    return code


def _take_flag(flag: str, value: str, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Values of every ``flag VALUE`` and ``flag=VALUE``, and the other arguments."""
    found, others, rest = [], [], iter(arguments)
    for argument in rest:
        name, equals, given = argument.partition("=")
        if name != flag:
            others.append(argument)
            continue
        given = given if equals else next(rest, "")
        if not given or (not equals and given.startswith("-")):
            raise UserError(f"{flag} needs a value: {flag} {value}")
        found.append(given)
    return found, others

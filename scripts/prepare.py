"""Installs rlopt into .venv: prepare.py STATE [EXTRA ...]; scripts/bootstrap calls it when something has changed.

uv installs, from the PATH or by pip from the index, and pip where uv cannot be had or fails. Both take the versions of
scripts/constraints.txt. There is no uv.lock: it would fix the addresses of packages, and so keep a machine from using
an index or a build of torch of its own, which pip's configuration names and uv is told of here.
"""

from __future__ import annotations

import ast
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
COMPLETE = VENV / ".complete"  # two lines: the state that is installed, and its extras
CONSTRAINTS = ROOT / "scripts/constraints.txt"

# option of pip -> (variable of uv, what stands between several values)
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def say(text: str) -> None:
    print(f"{VENV.name}: {text}", file=sys.stderr, flush=True)


def uv_environment(listed: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv with what `pip config list` printed; a variable that is set already stays."""
    order = [":env:", "install", "global"]  # the first wins
    options: dict[str, str] = {}
    for section in reversed(order):
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                options[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    found = {
        variable: between.join(options[option].split())
        for option, (variable, between) in UV_VARIABLES.items()
        if options.get(option)
    }
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # all indexes are equal, as they are to pip
    return found | dict(environ)


def all_extras(names: Iterable[str], table: Mapping[str, list[str]]) -> list[str]:
    """``names`` and the extras that they are made of, by pyproject.toml. Exits where one is unknown."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in table:
            say(f"there is no extra '{name}'; choose from {', '.join(table)}")
            raise SystemExit(2)
        if name not in found:
            found.add(name)
            own = (re.match(r"rlopt-geometry\[(.*)\]$", wanted) for wanted in table[name])
            waiting += [part for match in own if match for part in match[1].split(",")]
    return sorted(found)


def installed() -> tuple[str, list[str]]:
    """The state and the extras of .venv."""
    lines = COMPLETE.read_text().splitlines() if COMPLETE.exists() else []
    state, extras = [*lines, "", ""][:2]
    return state, extras.split()


def record(state: str, extras: list[str]) -> None:
    COMPLETE.write_text(f"{state}\n{' '.join(extras)}\n")


def find_uv() -> str | None:
    """uv from the PATH, or from .venv, where pip puts it; None where there is none to be had."""
    own = VENV / "bin/uv"
    if path := shutil.which("uv") or (str(own) if own.exists() else None):
        return path
    say("getting uv, which installs the rest")
    return str(own) if pip_install("--quiet", "--quiet", "--constraint", CONSTRAINTS, "uv") and own.exists() else None


def pip_install(*wanted: str | Path) -> bool:
    """Whether pip has installed what is wanted."""
    typed = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *wanted]
    return subprocess.run(typed, stdout=sys.stderr).returncode == 0


def install(extras: list[str]) -> None:
    wanted = ["--constraint", CONSTRAINTS, "--editable", f"{ROOT}[{','.join(extras)}]" if extras else ROOT]
    if uv := find_uv():
        listed = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
        environment = uv_environment(listed, os.environ)
        # pip compiles; uv leaves it to Python's imports, which may not keep it: every start then takes twice as long
        compiled = ["--compile-bytecode"] if sys.dont_write_bytecode else []
        typed = [uv, "pip", "install", "--python", PYTHON, *compiled, *wanted]
        if subprocess.run(typed, env=environment).returncode == 0:
            return
    say("installing with pip, since uv cannot be had" if uv is None else "uv failed; once more, with pip")
    if not pip_install(*wanted):
        raise SystemExit(1)


def main(state: str, *names: str) -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = all_extras(names, table)
    VENV.mkdir(exist_ok=True)
    with (VENV / ".preparing").open("w") as lock:  # not .lock, which uv takes itself
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another script that prepares it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        before, had = installed()
        extras = all_extras({*asked, *(name for name in had if name in table)}, table)
        copied = any(VENV.glob("lib/python*/site-packages/rlopt/__init__.py"))
        if before == state and extras == had and not copied:  # the other script did it
            return
        began = time.monotonic()
        say(f"preparing it for {', '.join(extras) or 'training'} (once)")
        record("unfinished", extras)
        if before != state:  # else it only wants more extras
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        install(extras)
        record(state, extras)
        say(f"ready after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])

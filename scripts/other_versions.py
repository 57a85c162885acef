"""Fast tests on other versions than those of .venv, in a virtual environment of their own; scripts/test calls it.

    scripts/test --lowest          the lowest versions that pyproject.toml allows, in .venv-lowest
    scripts/test --python 3.13     another Python, which uv fetches where it is not installed, in .venv-3.13

On Linux torch is a CPU build: of the lowest version where an index has one, else of the version in
scripts/constraints.txt, and that is said.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import prepare

ROOT = prepare.ROOT
LOWEST_EXTRAS = ("mujoco", "plot", "video", "sweep", "optuna", "export")  # box2d of gymnasium 1.1 is built from source
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "curvlinops-for-pytorch", "backpack-for-pytorch")
FAST = (
    "tests/unit/test_api.py", "tests/unit/checkpoint", "tests/unit/cli", "tests/unit/config", "tests/unit/envs",
    "tests/unit/files", "tests/unit/loggers", "tests/unit/policy", "tests/unit/report", "tests/unit/rollout",
    "tests/unit/core/heads", "tests/unit/core/steps", "tests/unit/core/tapes",
)  # fmt: skip


def say(text: str) -> None:
    print(f"scripts/test: {text}", file=sys.stderr, flush=True)


def pinned(name: str) -> str:
    """``name==version`` of scripts/constraints.txt."""
    lines = prepare.CONSTRAINTS.read_text().splitlines()
    return next(line for line in lines if line.lower().startswith(f"{name.lower()}=="))


def lowest(name: str, dependencies: list[str]) -> str:
    """``name==version`` with the lower bound among the dependencies."""
    [bound] = [m[1] for text in dependencies if (m := re.match(rf"{name}>=([\d.]+)", text))]
    return f"{name}=={bound}.0" if bound.count(".") == 1 else f"{name}=={bound}"


class Uv:
    """uv, told of pip's indexes, but not of pip's constraints: they are for the newest versions."""

    def __init__(self, constrained: bool):
        path = prepare.find_uv()
        if path is None:
            say("uv is wanted for this, and cannot be had")
            raise SystemExit(2)
        listed = subprocess.run([prepare.PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
        self._path, self._environ = path, prepare.uv_environment(listed, os.environ)
        if not constrained:
            self._environ.pop("UV_CONSTRAINT", None)

    def __call__(self, *typed: str | Path, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        kept = subprocess.PIPE if quiet else None
        return subprocess.run([self._path, *typed], env=self._environ, text=True, stdout=kept, stderr=kept)

    def must(self, *typed: str | Path) -> str:
        """What uv prints to stdout. Ends the program where uv fails."""
        done = subprocess.run([self._path, *typed], env=self._environ, text=True, stdout=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(done.returncode)
        return done.stdout


def make_venv(uv: Uv, folder: Path, python: str) -> Path:
    """A virtual environment of this Python; the path of its interpreter. Ends with one line where there is none."""
    made = uv("venv", "--quiet", "--clear", "--python", python, folder, quiet=True)
    if made.returncode:
        say(f"there is no Python {python} here, and uv cannot fetch it: install it, so that python{python} is found")
        raise SystemExit(2)
    return folder / "bin/python"


def choose_torch(uv: Uv, python: Path, bound: str) -> list[str]:
    """The options with which uv installs the lowest torch that has a CPU build here."""
    if sys.platform != "linux":
        return [bound]
    pin = pinned("torch")
    for wanted in (
        [f"{bound}+cpu"],
        ["--torch-backend", "cpu", bound],
        [f"{pin}+cpu"],
        ["--torch-backend", "cpu", pin],
    ):
        dry = uv("pip", "install", "--dry-run", "--no-deps", "--python", python, *wanted, quiet=True)
        if dry.returncode == 0:
            if pin in wanted[-1]:
                say(f"{bound} has no CPU build at the indexes that can be reached; {pin} takes its place")
            return wanted
    say(f"neither {bound} nor {pin} has a CPU build at the indexes that can be reached")
    raise SystemExit(2)


def install_lowest() -> Path:
    project: Mapping[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder, uv = ROOT / ".venv-lowest", Uv(constrained=False)
    python = make_venv(uv, folder, sys.executable)
    torch = choose_torch(uv, python, lowest("torch", project["dependencies"]))
    uv.must("pip", "install", "--python", python, *torch)
    override = folder / "torch.txt"
    override.write_text(torch[-1] + "\n")
    extras = [text for extra in LOWEST_EXTRAS for text in ("--extra", extra)]
    found = uv.must(
        "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--resolution", "lowest-direct",
        "--python", python, "--override", override, *extras, ROOT / "pyproject.toml",
    )  # fmt: skip
    wanted = folder / "lowest.txt"
    wanted.write_text("".join(f"{line}\n" for line in found.splitlines() if not line.startswith(("torch==", "-"))))
    uv.must("pip", "install", "--python", python, "--requirement", wanted)
    uv.must("pip", "install", "--python", python, "--no-deps", "--editable", ROOT)
    uv.must("pip", "install", "--python", python, *map(pinned, TOOLS), "--constraint", wanted)
    return python


def install_python(version: str) -> Path:
    uv = Uv(constrained=True)
    python = make_venv(uv, ROOT / f".venv-{version}", version)
    uv.must("pip", "install", "--python", python, "--constraint", prepare.CONSTRAINTS, "--editable", f"{ROOT}[dev]")
    return python


def main(kind: str = "", *rest: str) -> int:
    if kind == "--lowest":
        python, more = install_lowest(), rest
    elif kind == "--python" and rest and re.fullmatch(r"3\.\d+", rest[0]):
        python, more = install_python(rest[0]), rest[1:]
    else:
        say("--python wants a version, such as 3.13")
        return 2
    subprocess.run(
        [python, "-c", "import sys, torch; print('Python', sys.version.split()[0], 'torch', torch.__version__)"]
    )
    chosen = more or ("--numprocesses=auto", "--maxprocesses=8", *FAST)
    return subprocess.run([python, "-m", "pytest", *chosen], cwd=ROOT).returncode


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

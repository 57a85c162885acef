"""Run folders as a stranger may have made them: seeded kinds of damage, and a process that tries commands on them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import rlopt.api  # noqa: F401  # imported before forking, as are the commands
import rlopt.cli.process
import rlopt.inspection.report
import rlopt.report.page  # noqa: F401
from rlopt.cli import main as cli
from tests.support.spoiling import forge, parts

Spoil = Callable[[Path, random.Random], object]
SECONDS = 10.0  # of the processor, for one command on one folder
PATIENCE = 60.0  # seconds of the clock until a command is killed: other processes may need the processor too
COMMANDS = {
    "eval": ["--episodes=1"],
    "inspect": ["--samples=20", "--metric=identity", "--solver=identity", "--json"],
    "plot": ["--unfinished", "--out=curves.png"],
    "report": [],
    "resume": [],
}
TRAP = "open({!r}, 'a').write('ran')\nclass Mine:\n    pass\n"
NAMES = [r"$\frac{1}$", "$x", "$$", "<script>alert(1)</script>", "a\x1b[2Jb", "a\nb", "|a|b|", "[a](javascript:b)", "x" * 9000,
         "ü☃", "{{7*7}}", "%s%n", "..", "", " ", "\\", "${oc.env:HOME}", "a\0b", "_^{", "&amp;"]  # fmt: skip
NUMBERS: list[Any] = [
    10**9,
    10**18,
    10**30,
    -1,
    0,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    "9" * 400,
    "1e400",
]
VALUES: list[Any] = [
    None,
    "abc",
    [],
    {},
    True,
    [1, "a"],
    [[[]]],
    {"_target_": "planted.Mine"},
    "!!python/name:os.system",
]
NOT_CHANGED = ("total_steps", "episodes")  # a run may be as long as its owner likes


def replaced(name: str, make: Callable[[Path], object]) -> Spoil:
    """Something else in the place of a file of the run."""

    def spoil(run_dir: Path, r: random.Random) -> None:
        path = _file(run_dir, name)
        path.unlink(missing_ok=True)
        make(path)

    return spoil


def _file(run_dir: Path, name: str) -> Path:
    """The file of this name; of events and checkpoints the last, without the table that would be read in their place."""
    if name == "events":
        (run_dir / "scalars.csv").unlink(missing_ok=True)
    return max(run_dir.glob("checkpoints/step-*" if name == "checkpoint" else f"{name}*"), default=run_dir / name)


def _sparse(size: int, start: bytes = b"") -> Callable[[Path], object]:
    return lambda path: (path.write_bytes(start), os.truncate(path, size))


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "a link to random numbers": lambda path: path.symlink_to("/dev/urandom"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a folder": Path.mkdir,
    "nothing": Path.touch,
    "a terabyte": _sparse(2**40),
    "two hundred megabytes": _sparse(200_000_000, b"step,episode/return\n10,1\n"),
    "zeros": _sparse(3000),
    "deep brackets": lambda path: path.write_text("[" * 3000),
    "a deep list": lambda path: path.write_text("a: " + "[" * 3000 + "]" * 3000),
    "a deep object": lambda path: path.write_text('{"a": ' * 3000 + "1" + "}" * 3000),
    "digits": lambda path: path.write_text("9" * 100_000),
}
FILES = ["config.yaml", "summary.json", "scalars.csv", "events", "checkpoint"]


def _aliases(run_dir: Path, r: random.Random) -> None:
    text = (run_dir / "config.yaml").read_text() + "bomb0: &b0 [1, 1]\n"
    (run_dir / "config.yaml").write_text(
        text + "".join(f"bomb{i}: &b{i} [*b{i - 1}, *b{i - 1}]\n" for i in range(1, 40))
    )


def _long_config(run_dir: Path, r: random.Random) -> None:
    (run_dir / "config.yaml").write_bytes((run_dir / "config.yaml").read_bytes() * r.choice([2, 100, 1000]))


def _leaves(node: Any, path: tuple = ()) -> list[tuple]:
    if isinstance(node, dict):
        return [leaf for key, inner in node.items() for leaf in _leaves(inner, (*path, key))]
    return [path]


def _edited(tree: dict, path: tuple, value: Any) -> dict:
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def _config(values: Sequence[Any], only: Sequence[tuple] = ()) -> Spoil:
    """Another value for one option of config.yaml, of those in ``only`` or of any."""

    def spoil(run_dir: Path, r: random.Random) -> None:
        file = run_dir / "config.yaml"
        tree = yaml.safe_load(file.read_text())
        leaves = [leaf for leaf in only or _leaves(tree) if leaf[-1] not in NOT_CHANGED]
        file.write_text(yaml.safe_dump(_edited(tree, r.choice(leaves), r.choice(values)), allow_unicode=True))

    return spoil


def _summary(run_dir: Path, r: random.Random) -> None:
    file = run_dir / "summary.json"
    tree = json.loads(file.read_text())
    file.write_text(json.dumps(_edited(tree, (r.choice(list(tree)),), r.choice([*NUMBERS, *NAMES, *VALUES]))))


def _table(run_dir: Path, r: random.Random) -> None:
    """Another cell, header or row in scalars.csv."""
    file = run_dir / "scalars.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    for _ in range(r.choice([1, 1, 5])):
        row = r.choice(rows)
        row[0 if r.random() < 0.4 else r.randrange(len(row))] = r.choice(
            ["1e308", "9" * 400, "-1e308", "nan", '"', "", "x" * 300, "-5", "0x1", "1e-320"]
        )
    file.write_text("\n".join(",".join(row) for row in rows * r.choice([1, 1, 2000])) + "\n")


def _damage(run_dir: Path, r: random.Random) -> None:
    """Bytes of any file."""
    file = _file(run_dir, r.choice(FILES))
    content = bytearray(file.read_bytes())
    for _ in range(r.choice([1, 3, 30])):
        at = r.randrange(len(content) or 1)
        content[at : at + r.choice([0, 1, 9])] = r.choice([b"", b"\0", r.randbytes(7), b"[", b"9" * 50])
    file.write_bytes(content[: r.choice([len(content), len(content), r.randrange(len(content) + 1)])])


def _state(run_dir: Path, r: random.Random) -> None:
    """Another entry in a checkpoint's state, with digests that fit; config.yaml is sometimes the same."""
    file = _file(run_dir, "checkpoint")
    tree = json.loads(parts(file.read_bytes())[0]["__metadata__"]["state"])
    counters = [
        (name,) for name in ("steps", "updates", "skipped", "bad_in_a_row", "seconds", "wall_seconds", "recent", "best")
    ]
    where = r.choice([*counters, *_leaves(tree)])
    value = r.choice([*NUMBERS, *VALUES, "[" * 3000])
    if where[-1] in NOT_CHANGED:
        return
    state = json.dumps(_edited(tree, where, value))
    if r.random() < 0.1:
        state = '{"a": ' * 3000 + state + "}" * 3000
    forge(file, state=state.encode())
    if where[0] == "config" and r.random() < 0.8:  # forged in both places
        (run_dir / "config.yaml").write_text(yaml.safe_dump(tree["config"]))


def _code(run_dir: Path, r: random.Random) -> None:
    """An environment, a part or a tag that names a module of the folder."""
    kind = r.choice([
        _config(["planted:Mine-v0", "planted"], [("env", "id")]),
        _config(["planted.Mine", "rlopt.core.planted.Mine", "os.system"], [("metric", "_target_"), ("policy", "_target_")]),
        lambda d, r: (d / "config.yaml").write_text("a: !!python/object/apply:planted.Mine []\n"),
    ])  # fmt: skip
    kind(run_dir, r)


def _folder(run_dir: Path, r: random.Random) -> None:
    """Something else in the place of the folder of checkpoints."""
    shutil.rmtree(run_dir / "checkpoints")
    r.choice([os.mkfifo, Path.touch, Path.mkdir, lambda path: path.symlink_to("/dev"), lambda path: None])(
        run_dir / "checkpoints"
    )


SIZES = [("env", "num_envs"), ("policy", "hidden"), ("critic", "hidden"), ("batch_size",), ("seed",), ("workers",)]
KINDS: dict[str, Spoil] = {
    **{f"{name} is {odd}": replaced(name, make) for name in FILES for odd, make in ODD.items()},
    "aliases of aliases": _aliases,
    "a config many times over": _long_config,
    "a number of the config": _config(NUMBERS),
    "a size of the config": _config([10**9, 10**18, [10**9], [10**9, 10**9], [3000] * 500, 10**5 + 1], SIZES),
    "a name in the config": _config(NAMES, [("algo",), ("env", "id"), ("env", "name"), ("recipe",), ("run_dir",)]),
    "another value in the config": _config(VALUES),
    "another value in the summary": _summary,
    "another cell in the table": _table,
    "damaged bytes": _damage,
    "another state": _state,
    "code": _code,
    "no folder of checkpoints": _folder,
}  # fmt: skip
MANY = [name for name in KINDS if " is " not in name]  # each of these is many


@dataclass(frozen=True)
class Case:
    """One folder and one command; its number is the seed."""

    number: int
    kind: str
    command: str


def cases(count: int) -> list[Case]:
    """``count`` of them: every kind with every command first, then those that are many."""
    plain = [(kind, command) for kind in KINDS for command in COMMANDS]
    r = random.Random(0)
    r.shuffle(plain)
    more = [(r.choice(MANY), r.choice(list(COMMANDS))) for _ in range(max(count - len(plain), 0))]
    return [Case(number, *each) for number, each in enumerate([*plain, *more][:count])]


def attempt(case: Case, template: Path, folder: Path) -> tuple[int, str]:
    """The exit code, and what was wrong beyond it; in the working directory ``folder``, which is emptied."""
    for path in folder.iterdir():
        path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
    run_dir = folder / "run"
    shutil.copytree(template, run_dir)
    KINDS[case.kind](run_dir, random.Random(case.number))
    for place in (folder, run_dir):
        for name in ("planted", "hydra_plugins/planted"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / f"{name}.py").write_text(TRAP.format(str(folder / "ran")))
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = cli.main([case.command, "run", *COMMANDS[case.command]])
    lines = [line for line in said.getvalue().splitlines() if line]
    wrong = []
    if code == 2 and not (lines and all(line.startswith("rlopt: ") for line in lines[-1:])):
        wrong.append(f"no line: {lines[-2:]}")
    if code not in (0, 2) or any("Traceback" in line for line in lines) or max(map(len, lines), default=0) > 20_000:
        wrong.append(f"code {code}, {[line[:300] for line in lines[-2:]]}")
    if (folder / "ran").exists():
        wrong.append("code of the folder ran")
    return code, "; ".join(wrong)


def tried(todo: Sequence[Case], template: Path, folder: Path) -> Iterator[tuple[Case, int | None, float, str]]:
    """(case, exit code, seconds, what was wrong) of each; the code is None where a command had to be killed.

    The cases run in a child process, which is begun anew after one that did not end.
    """
    rest = list(todo)
    while rest:
        read, write = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if not child:
            os.close(read)
            _try_all(rest, template, folder, write)
        os.close(write)
        with os.fdopen(read) as pipe:
            while rest:
                begun, case = time.monotonic(), rest.pop(0)
                ready = select.select([pipe], [], [], PATIENCE)[0]
                line = pipe.readline() if ready else ""
                if not line:
                    yield (
                        case,
                        None,
                        time.monotonic() - begun,
                        "it was killed" if not ready else "its process has ended",
                    )
                    break
                code, seconds, wrong = json.loads(line)
                yield case, code, seconds, wrong
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _try_all(todo: Sequence[Case], template: Path, folder: Path, write: int) -> None:
    """In a child: one line of JSON for each case."""
    try:
        os.chdir(folder)
        for case in todo:
            begun = time.process_time()
            try:
                code, wrong = attempt(case, template, folder)
            except BaseException as error:
                code, wrong = 1, f"{type(error).__name__}: {str(error)[:300]}"
            os.write(write, f"{json.dumps([code, time.process_time() - begun, wrong])}\n".encode())
    finally:
        os._exit(0)

"""Torture: `scripts/torture` kills runs with SIGKILL, resumes them, and holds them against one that was left alone.

Half of the kills come at a random moment, half while a checkpoint is being written. However often a run was killed, at
its end its last checkpoint (theta and all other state), every scalar that a reader of its events finds, and its summary
must be those of the undisturbed run, bit for bit, and no process of it may be left. With --endure it is instead one long
run whose memory, file handles and processes must not grow, and the price of its checkpoints.

Runs are forked from this process, which has imported everything: most of their time is training.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import rlopt.api  # noqa: F401  # imported before forking, as are the commands
import rlopt.cli.process
import rlopt.cli.resume
import rlopt.cli.train  # noqa: F401
from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from tests.support.launching import until
from tests.support.resuming import chosen
from tests.support.traces import differences, table_of

CASES = {
    "cartpole trpo": ("env=cartpole", "algo=trpo", "env.num_envs=4", "batch_size=256", "total_steps=7680"),
    "pendulum acktr": ("env=pendulum", "algo=acktr", "env.num_envs=4", "batch_size=256", "total_steps=7680"),
    "halfcheetah ppo": ("env=halfcheetah", "algo=ppo", "env.num_envs=2", "batch_size=128", "total_steps=3840",
                        "schedule.epochs=2"),
    "wrapped cartpole ppo": ("env=cartpole", "env.wrappers=[frame_stack:2,sticky:0.3,time_limit:60]", "algo=ppo",
                             "env.num_envs=4", "batch_size=256", "total_steps=7680", "schedule.epochs=2"),
    "tensor cartpole trpo": ("env=cartpole", "env.backend=tensor", "algo=trpo", "env.num_envs=8", "batch_size=256",
                             "total_steps=7680"),
    "taxi trpo with masks": ("env.id=Taxi-v4", "algo=trpo", "env.num_envs=4", "batch_size=256", "total_steps=7680"),
    "pendulum memory": ("env=pendulum", "algo=ppo", "policy=lstm", "critic=gru", "policy.size=8", "critic.size=8",
                         "env.num_envs=4", "batch_size=256", "total_steps=7680", "schedule.epochs=2",
                         "schedule.minibatch=64", "critic.schedule.epochs=2", "critic.schedule.minibatch=64"),
}  # fmt: skip
COMMON = ["policy.hidden=[16]", "critic.hidden=[16]", "evaluation.episodes=2", "checkpoint.every_updates=1",
          "checkpoint.every_seconds=null"]  # fmt: skip
MOST = 4  # kills of one run, which is then left to finish


def forked(arguments: list[str], log: Path, **variables: object) -> int:
    """A process of its own session that runs ``rlopt ARGUMENTS`` with these environment variables; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        os.environ |= {name: str(value) for name, value in variables.items()}
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        sys.stdout = sys.stderr = os.fdopen(out, "w")
        code = cli.main(arguments)
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(process: int) -> int | None:
    """Its exit status, None while it runs."""
    number, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def left(session: int) -> list[str]:
    """Processes of this session that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(place.parent.name)
    return found


def killed(process: int, checkpoints: Path, seconds: float | None, saves: int) -> bool:
    """Kill it after ``seconds``, or (None) within the save number ``saves`` from now on; False if it ended before."""
    begun, seen = time.monotonic(), ""
    while True:
        if (code := ended(process)) is not None:
            if code:
                raise AssertionError(f"a run ended with exit code {code}")
            return False
        if seconds is None:
            names = os.listdir(checkpoints) if checkpoints.is_dir() else []
            unfinished = next((name for name in names if name.startswith(".step")), "")
            if unfinished and unfinished != seen:
                seen, saves = unfinished, saves - 1
            due = saves <= 0
        else:
            due = time.monotonic() - begun >= seconds
        if due:
            time.sleep(random.uniform(0, 0.004) if seconds is None else 0)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return True
        time.sleep(0.0005)


def undisturbed(name: str, folder: Path) -> tuple[Path, float]:
    """The run that is never stopped, and the seconds it took."""
    run_dir, begun = folder / f"{name.replace(' ', '-')}-whole", time.monotonic()
    process = forked(["train", *chosen(*COMMON, *CASES[name]), f"run_dir={run_dir}"], folder / "log.txt")
    while (code := ended(process)) is None:
        time.sleep(0.01)
    assert code == 0, (folder / "log.txt").read_text()
    return run_dir, time.monotonic() - begun


def tortured(name: str, workers: int, kills: int, whole: Path, took: float, run_dir: Path) -> int:
    """A run that is killed up to ``kills`` times and then left to finish; how often it was. Raises AssertionError."""
    done, log = 0, run_dir.with_suffix(".log")
    for attempt in range(kills + 1):
        if (run_dir / "config.yaml").exists():
            arguments = ["resume", str(run_dir)]
        else:  # it was killed before it had begun
            shutil.rmtree(run_dir, ignore_errors=True)
            arguments = ["train", *chosen(*COMMON, *CASES[name]), f"workers={workers}", f"run_dir={run_dir}"]
        process = forked(arguments, log)
        moments = [(random.uniform(0.1, took), 1), (None, random.randint(1, max(len(table_of(whole)) // 2, 1)))]
        moment = (math.inf, 1) if attempt == kills else random.choice(moments)
        if not killed(process, run_dir / "checkpoints", *moment):
            break
        done += 1
        assert until(lambda session=process: not left(session)), "a process outlived its learner"
    found = differences(run_dir, whole)
    assert not found, f"{run_dir}: not as in the undisturbed run: {', '.join(found)}"
    return done


def torture(kills: int, folder: Path) -> int:
    """Kill until there were ``kills``; the exit code."""
    combinations = [(name, workers) for name in CASES for workers in ((1,) if "tensor" in name else (1, 2))]
    wholes = {name: undisturbed(name, folder) for name in CASES}
    counts, failures, number = dict.fromkeys(combinations, 0), [], 0
    while sum(counts.values()) < kills:
        name, workers = combinations[number % len(combinations)]
        wanted = min(MOST, max(1, kills // len(combinations)), kills - sum(counts.values()))
        run_dir = folder / f"{name.replace(' ', '-')}-{workers}-{number}"
        number += 1
        try:
            counts[name, workers] += tortured(name, workers, wanted, *wholes[name], run_dir)
        except AssertionError as error:
            failures.append(f"{name}, workers={workers}: {error}")
            print(f"  {failures[-1]}", flush=True)
            counts[name, workers] += 1
            continue
        shutil.rmtree(run_dir)
    for (name, workers), count in counts.items():
        print(f"  {name}, workers={workers}: {count} kills")
    print(
        f"{sum(counts.values())} kills of {number} runs; {number - len(failures)} of {number} runs ended bit-identical"
    )
    return 1 if failures else 0


def endure(updates: int, folder: Path) -> int:
    """Memory, handles and processes over many updates, and the share of time that checkpoints take; the exit code."""
    rows: list[tuple[int, float, int, int]] = []
    spent: list[float] = []
    save = checkpoint.save

    def timed(*arguments: Any) -> Path:
        begun = time.perf_counter()
        place = save(*arguments)
        spent.append(time.perf_counter() - begun)
        return place

    def measure(moment: Any, scalars: Any) -> None:
        if moment.updates % 20 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            rows.append((moment.updates, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd")),
                         len(children)))  # fmt: skip

    checkpoint.save = timed  # type: ignore[assignment]
    rlopt.api.train("algo=trpo", "env=cartpole", "env.num_envs=8", "batch_size=64", "workers=2",
                    f"total_steps={64 * updates}", "evaluation.episodes=0", "checkpoint.every_updates=50",
                    f"run_dir={folder / 'long'}", on_update=measure)  # fmt: skip
    settled = rows[len(rows) // 5 :]
    flat = True
    for name, column in (("memory, MiB", 1), ("file handles", 2), ("processes", 3)):
        slope, error = trend([row[0] for row in settled], [row[column] for row in settled])
        grown = slope * updates
        flat &= abs(slope) <= 3 * error or abs(grown) < 1
        print(f"{name}: {settled[0][column]:.1f} at update {settled[0][0]}, {settled[-1][column]:.1f} at {settled[-1][0]}; "
              f"slope {1000 * slope:+.3f} +- {1000 * error:.3f} in 1,000 updates")  # fmt: skip
    cost = statistics.median(spent)
    print(f"a checkpoint: {1000 * cost:.1f} ms, {100 * cost / 60:.3f}% of training time at one every 60 s")
    return 0 if flat and cost / 60 < 0.02 else 1


def trend(x: list[float], y: list[float]) -> tuple[float, float]:
    """Slope of a line through the points, and its standard error, for noise that lasts about ten of them."""
    mean = statistics.fmean(x)
    spread = sum((a - mean) ** 2 for a in x)
    slope = sum((a - mean) * b for a, b in zip(x, y, strict=True)) / spread
    at = statistics.fmean(y)
    residual = sum((b - at - slope * (a - mean)) ** 2 for a, b in zip(x, y, strict=True)) / max(len(x) - 2, 1)
    return slope, math.sqrt(10 * residual / spread)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/torture")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--endure", type=int, metavar="UPDATES")
    parser.add_argument("--seed", type=int, default=None, help="of the moments")
    options = parser.parse_args()
    random.seed(options.seed)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    code = endure(options.endure, folder) if options.endure else torture(options.kills, folder)
    if code:
        print(f"see {folder}")
    else:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Whole runs: the measurements behind scripts/bench --only growth --training.

TRPO on HalfCheetah (experiment=bench_trpo) by one process, two workers and two ranks, with 8 and 16 environments; and
how the rates of TRPO and PPO grow with environments, batch and width, by one process. Every run is a process of its own
on one thread each, the sides in turn. A rate is environment steps over the seconds from the end of the first update to
the end of the last, as in peers.py.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile

SIDES = {"one process": (1, 1), "two workers": (2, 1), "two ranks": (1, 2)}  # workers and ranks
ENVIRONMENTS = (8, 16)
GROWTH: dict[str, dict[int, tuple[str, ...]]] = {  # what grows -> its sizes, each with its overrides
    "environments": {n: (f"env.num_envs={n}",) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)},
    "batch": {n: (f"batch_size={n}", "env.num_envs=16") for n in (2048, 8192, 32768, 131072)},
    "width": {n: (f"policy.hidden=[{n},{n}]", f"critic.hidden=[{n},{n}]") for n in (64, 128, 256, 512, 1024)},
}
UPDATES = {"environments": 7, "batch": 3, "width": 4}  # of a run, of which the first is not timed


def measure(rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Steps per second by number of environments and by side, one value a round."""
    found: dict[str, dict[str, list[float]]] = {str(n): {side: [] for side in SIDES} for n in ENVIRONMENTS}
    for number in range(rounds):
        for num_envs in ENVIRONMENTS:
            for side, (workers, ranks) in SIDES.items():
                rate = train((f"env.num_envs={num_envs}", f"workers={workers}"), ranks, steps)
                found[str(num_envs)][side].append(rate)
                print(f"round {number + 1}: {num_envs} environments, {side}: {rate:,.0f} steps/s", flush=True)
    return found


def measure_growth(rounds: int, quick: bool) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Steps per second by what grows, its size and algorithm, one value a round; ``quick``: two sizes of each."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for number in range(rounds):
        for what, sizes in GROWTH.items():
            for size, overrides in list(sizes.items())[: 2 if quick else None]:
                for algo in ("trpo", "ppo"):
                    batch = size if what == "batch" else 2048
                    rate = train((*overrides, f"batch_size={batch}", "workers=1"), 1, batch * UPDATES[what], algo)
                    found.setdefault(what, {}).setdefault(str(size), {}).setdefault(algo, []).append(rate)
                    print(f"round {number + 1}: {what} {size:,}, {algo}: {rate:,.0f} steps/s", flush=True)
    return found


def train(overrides: tuple[str, ...], ranks: int, steps: int, algo: str = "trpo") -> float:
    """Steps per second of one run; step s at rate r was reached after s / r seconds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rlopt = ["-m", "rlopt", "train", f"experiment=bench_{algo}", *dict.fromkeys(overrides),
             f"total_steps={steps}", "checkpoint.every_seconds=null"]  # fmt: skip
    if ranks > 1:
        rlopt = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", f"--master-port={free_port()}", *rlopt]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *rlopt, f"run_dir={folder}/run"]
        done = subprocess.run(command, env=with_threads(1), cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        events = EventAccumulator(f"{folder}/run")
        events.Reload()
        rates = events.Scalars("time/steps_per_second")
    first, last = rates[0], rates[-1]
    return (last.step - first.step) / (last.step / last.value - first.step / first.value)


def with_threads(count: int) -> dict[str, str]:
    """The environment of a process with so many threads, without a GPU."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(count)), "CUDA_VISIBLE_DEVICES": ""}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

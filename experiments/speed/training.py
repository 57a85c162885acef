"""Training with one process, two workers and two ranks: the runs behind scripts/bench --only growth --training.

TRPO on HalfCheetah (experiment=bench_trpo), 8 and 16 environments in all, every run a process of its own on one thread
each, the sides in turn. A rate is environment steps over the seconds from the end of the first update to the end of the
last, as in peers.py.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile

SIDES = {"one process": (1, 1), "two workers": (2, 1), "two ranks": (1, 2)}  # workers and ranks
ENVIRONMENTS = (8, 16)


def measure(rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Steps per second by number of environments and by side, one value a round."""
    found: dict[str, dict[str, list[float]]] = {str(n): {side: [] for side in SIDES} for n in ENVIRONMENTS}
    for number in range(rounds):
        for num_envs in ENVIRONMENTS:
            for side, (workers, ranks) in SIDES.items():
                rate = train(num_envs, workers, ranks, steps)
                found[str(num_envs)][side].append(rate)
                print(f"round {number + 1}: {num_envs} environments, {side}: {rate:,.0f} steps/s", flush=True)
    return found


def train(num_envs: int, workers: int, ranks: int, steps: int) -> float:
    """Steps per second of one run; step s at rate r was reached after s / r seconds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rlopt = ["-m", "rlopt", "train", "experiment=bench_trpo", f"env.num_envs={num_envs}", f"workers={workers}",
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

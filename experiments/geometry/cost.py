"""What the actor's update costs in processor time, by the width of its two hidden layers and by the batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments._shared.building import make_trainer
from experiments._shared.data import append_rows, exists, read_rows
from experiments.geometry.training import METHODS, Run
from rlopt.parallel.processes import use_one_thread

WIDTH, BATCH = 64, 2048  # where the other varies
SIZES = [(width, BATCH) for width in (64, 128, 256, 512, 1024)] + [(WIDTH, batch) for batch in (512, 8192, 32768)]
UPDATES = 5  # timed, after one that is not; the median counts
COLUMNS = ["method", "width", "samples", "parameters", "milliseconds"]


def collect(methods: Sequence[str], sizes: Sequence[tuple[int, int]], file: Path) -> None:
    """Time what is not yet in ``file``, one after the other, and append it there."""
    rows = read_rows(file) if exists(file) else []
    there = {(row["method"], int(row["width"]), int(row["samples"])) for row in rows}
    for width, batch in sizes:
        for method in methods:
            if (method, width, batch) not in there:
                size, milliseconds = measure(method, width, batch)
                append_rows(file, COLUMNS, [[method, width, batch, size, f"{milliseconds:.4g}"]])
                print(f"{method}, width {width}, {batch} samples: {milliseconds:.4g} ms", flush=True)


@torch.no_grad()
def measure(method: str, width: int, batch: int) -> tuple[int, float]:
    """P, and the milliseconds of one update of the actor from ``batch`` samples of HalfCheetah."""
    use_one_thread()
    run = Run(method, "halfcheetah", METHODS[method].grid[1], 0, batch)
    made = make_trainer([*run.overrides, f"policy.hidden=[{width},{width}]", f"batch_size={batch}"])
    try:
        rollout = made.collector.collect(made.agent.policy(made.state))
    finally:
        made.collector.close()
    learner, actor = made.agent.actor, made.state["actor"]
    samples, theta, parts, took = made.agent.actor_samples(made.state, rollout), actor["theta"], actor["parts"], []
    for _ in range(UPDATES + 1):
        began = time.process_time()
        theta, parts, _ = learner.run(theta, parts, samples, made.minibatches, learner.schedule.epochs)
        took.append(time.process_time() - began)
    return len(theta), 1000 * statistics.median(took[1:])

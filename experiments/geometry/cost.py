"""What the actor's update costs in processor time, by the width of its two hidden layers."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from experiments._shared.building import make_trainer
from experiments._shared.data import append_rows, exists, read_rows
from experiments.geometry.training import METHODS, Run
from rlopt.parallel.processes import use_one_thread

WIDTHS = (64, 128, 256, 512, 1024)
UPDATES = 5  # timed, after one that is not; the median counts
COLUMNS = ["method", "width", "parameters", "milliseconds"]


def collect(methods: list[str], widths: tuple[int, ...], file: Path) -> None:
    """Time what is not yet in ``file``, one after the other, and append it there."""
    there = {(row["method"], int(row["width"])) for row in (read_rows(file) if exists(file) else [])}
    for width in widths:
        for method in methods:
            if (method, width) not in there:
                size, milliseconds = measure(method, width)
                append_rows(file, COLUMNS, [[method, width, size, f"{milliseconds:.4g}"]])
                print(f"{method}, width {width}: {milliseconds:.4g} ms", flush=True)


@torch.no_grad()
def measure(method: str, width: int) -> tuple[int, float]:
    """P, and the milliseconds of one update of the actor from 2,048 samples of HalfCheetah."""
    use_one_thread()
    run = Run(method, "halfcheetah", METHODS[method].grid[1], 0, 2048)
    made = make_trainer([*run.overrides, f"policy.hidden=[{width},{width}]"])
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

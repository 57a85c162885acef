"""What ACKTR costs beside A2C on the same batch: scripts/bench --only acktr [--quick]

HalfCheetah-v5, 64 environments, 1024 transitions an update, networks 17-64-64-6 and 17-64-64-1, float32, one process,
one thread. Both presets train as they stand but for A2C's batch and environments, which are made ACKTR's. A round is
some training steps of each kind in turn; a step is a rollout and what it teaches actor and critic, the
update the latter alone. Times are the thread's own processor time, ratios are by round. Bounds are what this project
asks of itself.
"""

from __future__ import annotations

import os
import tempfile
import time

from experiments._shared.building import make_trainer
from experiments.speed import report
from experiments.speed.setting import machine
from rlopt.parallel.processes import use_one_thread
from rlopt.training.trainer import Trainer

BATCH, ENVIRONMENTS = 1024, 64
BOUNDS = {"training step": 1.10, "update": 1.6}  # ACKTR's in A2C's
KINDS = {
    "A2C": ("algo=a2c", "critic.schedule.epochs=1", "step.max_norm=null", "critic.step.max_norm=null"),  # no recipe's
    "ACKTR": ("algo=acktr",),  # statistics at every second update
    **{
        f"ACKTR, statistics at every {nth}": ("algo=acktr", f"solver.measure={n}", f"critic.solver.measure={n}")
        for n, nth in ((1, "update"), (4, "4th update"))
    },
}  # fmt: skip


def made(*overrides: str) -> Trainer:
    with tempfile.TemporaryDirectory() as folder:
        given = ["env=halfcheetah", f"env.num_envs={ENVIRONMENTS}", f"batch_size={BATCH}",
                 "total_steps=1000000", f"run_dir={folder}/run", *overrides]  # fmt: skip
        return make_trainer(given)


def milliseconds(run: Trainer, count: int) -> tuple[float, float]:
    """Of a training step and of its update, mean over ``count``."""
    steps = updates = 0.0
    for _ in range(count):
        start = time.thread_time()
        batch = run.collector.collect(run.agent.policy(run.state))
        collected = time.thread_time()
        run.state, _ = run.agent.learn(run.state, batch, run.minibatches)
        end = time.thread_time()
        steps, updates = steps + end - start, updates + end - collected
    return 1e3 * steps / count, 1e3 * updates / count


def measure(rounds: int, count: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds by what is measured and by kind, one value a round."""
    runs = {kind: made(*overrides) for kind, overrides in KINDS.items()}
    found: dict[str, dict[str, list[float]]] = {what: {kind: [] for kind in runs} for what in BOUNDS}
    for run in runs.values():
        milliseconds(run, 4)
    for _ in range(rounds):
        for kind, run in runs.items():
            for what, value in zip(BOUNDS, milliseconds(run, count), strict=True):
                found[what][kind].append(value)
    for run in runs.values():
        run.collector.close()
    return found


def main() -> None:
    parser = report.parser("acktr", "ACKTR's cost beside A2C's.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds (15)")
    options = parser.parse_args()
    if options.draw:
        return report.again("acktr")
    use_one_thread()
    before = os.getloadavg()[0]
    found = measure(3 if options.quick else options.rounds, 4 if options.quick else 8)
    for what, times in found.items():
        print(f"{what}, milliseconds (bound {BOUNDS[what]:g})")
        for kind, values in times.items():
            print(f"  {kind:<40}{report.places(values):<30}{report.against(values, times['A2C'])}")
    if not options.quick:
        data = {
            "machine": machine(),
            "load": [before, os.getloadavg()[0]],
            "milliseconds": found,
            "bounds": BOUNDS,
        }
        report.keep("acktr", data)


if __name__ == "__main__":
    main()

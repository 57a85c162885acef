"""The simulator alone: steps per second of every way to step a MuJoCo task: scripts/bench --only simulators [--quick]

Random actions, one core, every measurement a process of its own, the ways in turn, round after round. EnvPool, which
lives in .venv-peers, has its own compiled task of the same name and steps it by one thread.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments._shared.data import read_json
from experiments.speed import report
from experiments.speed.peers import OURS, THEIRS, measure_simulator, rate
from experiments.speed.setting import machine

RESULTS = Path(__file__).parent / "results/simulators.json"
TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
COUNTS = (1, 8, 16, 64)
WAYS = {  # kind of runners/simulator.py -> its name in the table
    "sync": "SyncVectorEnv",
    "rlopt sync": "rlopt sync",
    "rlopt mujoco": "rlopt mujoco",
    "envpool": "EnvPool",
}
ALONE = "mj_step alone"  # steps over the seconds within mj_step, of the mujoco backend's measurements
Rates = dict[str, dict[str, dict[str, list[float]]]]  # task -> environments -> way


def measure(rounds: int, tasks: tuple[str, ...], counts: tuple[int, ...], seconds: float) -> Rates:
    """Steps per second, a value a round; a way that a task does not have is left out."""
    found: Rates = {task: {str(n): {} for n in counts} for task in tasks}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for task in tasks:
            for n in counts:
                for way in WAYS:
                    python = THEIRS if way == "envpool" else OURS
                    if not python.exists():
                        continue
                    try:
                        measured = measure_simulator(way, (0,), n, task, seconds, python)
                    except SystemExit as error:
                        print(f"left out: {way}, {task}: {error}", flush=True)
                        continue
                    found[task][str(n)].setdefault(way, []).append(rate(measured))
                    if way == "rlopt mujoco":
                        alone = rate(measured) * seconds / measured["physics"]
                        found[task][str(n)].setdefault(ALONE, []).append(alone)
    return found


def table(data: dict[str, Any]) -> Iterator[str]:
    """Medians, and what the mujoco backend is to SyncVectorEnv, by round."""
    yield from report.head(
        "task, environments", *WAYS.values(), ALONE, "rlopt mujoco to SyncVectorEnv", "to mj_step alone"
    )
    for task, by_count in data["rates"].items():
        for n, rates in by_count.items():
            cells = [f"{statistics.median(rates[way]):,.0f}" if way in rates else "-" for way in (*WAYS, ALONE)]
            own = rates["rlopt mujoco"]
            against, share = (
                statistics.median(a / b for a, b in zip(own, rates[way], strict=True)) for way in ("sync", ALONE)
            )
            yield report.row(f"{task}, {n}", *cells, f"{against:.2f}", f"{share:.0%}")
    yield ""
    yield report.machine(data)


def main() -> None:
    parser = report.parser("simulators", "Steps per second of the simulator alone.")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (5)")
    options = parser.parse_args()
    if options.draw:
        return report.insert("simulators", list(table(read_json(RESULTS))))
    load = [os.getloadavg()[0]]
    if options.quick:
        rates = measure(1, TASKS[:2], COUNTS[1:2], 0.3)
    else:
        rates = measure(options.repeats, TASKS, COUNTS, 1.0)
    data = {"machine": machine(), "rates": rates, "load": [*load, os.getloadavg()[0]]}
    print("\n".join(table(data)))
    if not options.quick:
        report.keep("simulators", data)


if __name__ == "__main__":
    main()

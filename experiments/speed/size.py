"""Updates of 10^5 and 10^6 samples, by preset: scripts/bench --only size [--quick]

Pendulum as tensors, 4,096 environments, default presets with networks 64-64: one whole update of actor and critic,
estimates and measurements included, on a rollout of 25 and of 256 steps. Time is one thread's processor time. Memory is
that of all tensors made by the update and alive at once (`rlopt.inspection.memory`), in units of the activations that
the policy's forward pass keeps, all layers' outputs. Epochs of minibatches, which are alike, are run twice at most:
this changes no peak, and time a sample says how many there were.
"""

from __future__ import annotations

import os
import time
from typing import Any

from experiments._shared.building import make_trainer
from experiments._shared.data import read_json
from experiments.speed import report
from experiments.speed.setting import machine
from rlopt.inspection.memory import NewTensors
from rlopt.parallel.processes import use_one_thread

ENVS, STEPS = 4096, (25, 256)
ACTIVATIONS = 4 * (64 + 64 + 1)  # bytes a sample
EPOCHS = "critic.schedule.epochs=2"
KINDS = {
    "trpo": ("algo=trpo", EPOCHS),
    "npg": ("algo=npg", EPOCHS),
    "acktr": ("algo=acktr",),
    "ppo": ("algo=ppo", "schedule.epochs=2", EPOCHS),
    "trpo, solver=kfac": ("algo=trpo", "solver=kfac", EPOCHS),
}


def measure(overrides: tuple[str, ...], envs: int, steps: int) -> dict[str, float]:
    count = envs * steps
    run = make_trainer(
        [*overrides, "env=pendulum", "env.backend=tensor", f"env.num_envs={envs}", f"batch_size={count}", "recipe=null",
         f"total_steps={4 * count}", "evaluation.episodes=0"]
    )  # fmt: skip
    began = time.thread_time()
    rollout = run.collector.collect(run.agent.policy(run.state))
    collected = time.thread_time()
    run.agent.learn(run.state, rollout, run.minibatches)
    learned = time.thread_time()
    with NewTensors() as memory:
        run.agent.learn(run.state, rollout, run.minibatches)
    run.collector.close()
    return {
        "samples": count,
        "collect": 1e6 * (collected - began) / count,
        "update": 1e6 * (learned - collected) / count,
        "memory": memory.peak / count / ACTIVATIONS,
    }


def table(data: dict[str, Any]) -> list[str]:
    sizes = [f"{size:,}" for size in data["samples"]]
    lines = report.head(
        "", *(f"microseconds a sample, {size}" for size in sizes), "ratio", *(f"memory, {size}" for size in sizes)
    )
    for name, found in data["kinds"].items():
        times = [f["update"] for f in found]
        memory = (f"{f['memory']:.2f}" for f in found)
        lines.append(report.row(name, *(f"{t:.1f}" for t in times), f"{times[-1] / times[0]:.2f}", *memory))
    return [*lines, "", report.machine(data)]


def main() -> None:
    parser = report.parser("size", "Updates of 10^5 and 10^6 samples.")
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS), help="some kinds; the rest stay")
    options = parser.parse_args()
    if options.draw:
        return report.again("size")
    use_one_thread()
    envs, steps = (256, (4, 8)) if options.quick else (ENVS, STEPS)
    path = report.HERE / "results/size.json"
    before = read_json(path)["kinds"] if path.exists() and not options.quick else {}
    load = os.getloadavg()[0]
    data: dict[str, Any] = {"machine": machine(), "samples": [envs * n for n in steps], "kinds": before}
    for name in options.only:
        data["kinds"][name] = [measure(KINDS[name], envs, n) for n in steps]
        data["load"] = [load, os.getloadavg()[0]]
        if not options.quick:
            report.keep("size", data)
    print("\n".join(table(data)))


if __name__ == "__main__":
    main()

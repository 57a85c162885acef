"""PPO with action masks and with memory beside sb3-contrib: scripts/bench --only contrib [--quick]

Masks: 200 actions of which 5 are allowed, the environment of tests/support/masked.py. Memory: CartPole from positions
alone, 64 LSTM units and 64 others in networks of their own for actor and critic. The settings are the same for both
sides, with one process and one thread each. The sides take turns; a rate is environment steps by seconds between the
end of the first update and the end of the last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym

import rlopt
from experiments._shared.building import resolve
from experiments.speed import report
from experiments.speed.setting import machine
from experiments.speed.training import with_threads
from tests.support.masked import Offers

HERE = Path(__file__).resolve().parent
THEIRS = HERE.parents[1] / ".venv-peers/bin/python"
COMMON = ("experiment=bench_ppo", "env.num_envs=8", "recipe=null", "workers=1", "observations.normalise=false",
          "rewards.scale=false")  # fmt: skip
CONTESTS = {  # title -> its peer, and what rlopt is given
    "masks": ("MaskablePPO", ("env=any", "env.id=Offers-v0")),
    "memory": ("RecurrentPPO", ("env=cartpole_positions", "policy=lstm", "critic=lstm")),
}


def settings(title: str) -> dict[str, Any]:
    """What both do, in the words of runners/contrib.py."""
    peer, overrides = CONTESTS[title]
    config = resolve([*overrides, *COMMON])
    return {
        "algo": peer, "num_envs": config["env"]["num_envs"], "batch": config["batch_size"], "gamma": config["gamma"],
        "gae_lambda": config["gae_lambda"], "hidden": config["policy"]["hidden"],
        "lr": config["step"]["optimizer"]["lr"], "epochs": config["schedule"]["epochs"],
        "minibatch": config["schedule"]["minibatch"], "units": config["policy"].get("size"),
    }  # fmt: skip


def of_peer(title: str, vector: str, updates: int) -> float:
    """Steps per second of sb3-contrib."""
    asked = {**settings(title), "updates": updates, "threads": 1, "vector": vector, "seed": 0}
    command = [str(THEIRS), str(HERE / "runners/contrib.py"), json.dumps(asked)]
    done = subprocess.run(command, env=with_threads(1), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{asked['algo']} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["steps"] / found["seconds"]


def of_rlopt(title: str, updates: int) -> float:
    """Steps per second of rlopt, from its own record."""
    overrides, seen = [*CONTESTS[title][1], *COMMON], []

    def note(context: rlopt.api.RunContext, scalars: dict[str, float]) -> None:
        seen.append((context.steps, context.steps / scalars["time/steps_per_second"]))

    with tempfile.TemporaryDirectory() as folder:
        steps = resolve(overrides)["batch_size"] * (updates + 1)
        rlopt.train(*overrides, f"total_steps={steps}", f"run_dir={folder}/run", "evaluation.episodes=0",
                    on_update=note)  # fmt: skip
    return (seen[-1][0] - seen[0][0]) / (seen[-1][1] - seen[0][1])


def table(data: dict[str, Any]) -> list[str]:
    lines = report.head("", "steps/s, median (range)", "rlopt to it (by round)")
    for title, sides in data["steps_per_second"].items():
        for side, values in sides.items():
            against = "" if side == "rlopt" else report.against(sides["rlopt"], values)
            lines.append(report.row(f"{title}: {side}", report.cell(values), against))
    return [*lines, "", report.machine(data)]


def main() -> None:
    parser = report.parser("contrib", "PPO with action masks and with memory beside sb3-contrib.")
    options = parser.parse_args()
    if options.draw:
        return report.again("contrib")
    gym.register("Offers-v0", Offers)
    repeats, updates, load = (1, 1, []) if options.quick else (3, 5, [os.getloadavg()[0]])
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        for title, (peer, _) in CONTESTS.items():
            sides = found.setdefault(title, {"rlopt": []})
            sides["rlopt"].append(of_rlopt(title, updates))
            for vector in ("dummy", "subproc"):
                sides.setdefault(f"{peer}, {vector}", []).append(of_peer(title, vector, updates))
    for title, sides in found.items():
        for side, rates in sides.items():
            print(f"{title}: {side:<24}{report.cell(rates)} steps/s")
    if not options.quick:
        load.append(os.getloadavg()[0])
        report.keep("contrib", {"machine": machine(), "load": load, "steps_per_second": found})
    return None


if __name__ == "__main__":
    sys.exit(main())

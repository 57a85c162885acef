"""PPO with action masks beside sb3-contrib's MaskablePPO: python -m experiments.speed.masks [--repeats N]

200 actions of which 5 are allowed, the environment of tests/support/masked.py, with the same settings for both and one
thread each. The sides take turns; a rate is environment steps by seconds between the end of the first update and the
end of the last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import gymnasium as gym

import rlopt
from experiments._shared.building import resolve
from experiments.speed.training import with_threads
from tests.support.masked import Offers

HERE = Path(__file__).resolve().parent
THEIRS = HERE.parents[1] / ".venv-peers/bin/python"
ID = "Offers-v0"
OVERRIDES = (f"env.id={ID}", "experiment=bench_ppo", "env=any", "env.num_envs=8", "recipe=null", "workers=1")


def settings() -> dict[str, object]:
    """What both do, in the words of runners/masked.py."""
    config = resolve(list(OVERRIDES))
    step = config["step"]["optimizer"]
    return {
        "num_envs": config["env"]["num_envs"], "batch": config["batch_size"], "gamma": config["gamma"],
        "gae_lambda": config["gae_lambda"], "hidden": config["policy"]["hidden"], "lr": step["lr"],
        "epochs": config["schedule"]["epochs"], "minibatch": config["schedule"]["minibatch"],
    }  # fmt: skip


def of_peer(python: Path, vector: str, updates: int) -> float:
    """Steps per second of MaskablePPO."""
    asked = {**settings(), "updates": updates, "threads": 1, "vector": vector, "seed": 0}
    command = [str(python), str(HERE / "runners/masked.py"), json.dumps(asked)]
    done = subprocess.run(command, env=with_threads(1), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"MaskablePPO failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["steps"] / found["seconds"]


def of_rlopt(updates: int) -> float:
    """Steps per second of rlopt, from its own record."""
    seen: list[tuple[int, float]] = []

    def note(context: rlopt.api.RunContext, scalars: dict[str, float]) -> None:
        seen.append((context.steps, context.steps / scalars["time/steps_per_second"]))

    with tempfile.TemporaryDirectory() as folder:
        steps = resolve(list(OVERRIDES))["batch_size"] * (updates + 1)
        rlopt.train(*OVERRIDES, f"total_steps={steps}", f"run_dir={folder}/run", on_update=note)
    return (seen[-1][0] - seen[0][0]) / (seen[-1][1] - seen[0][1])


def main() -> None:
    parser = argparse.ArgumentParser(description="PPO with action masks beside sb3-contrib's MaskablePPO.")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (5)")
    parser.add_argument("--updates", type=int, default=8, help="of every run, after the first (8)")
    parser.add_argument("--peer-python", type=Path, default=THEIRS, help=".venv-peers/bin/python")
    options = parser.parse_args()
    gym.register(ID, Offers)
    sides: dict[str, list[float]] = {"rlopt": [], "MaskablePPO, dummy": [], "MaskablePPO, subproc": []}
    for _ in range(options.repeats):
        sides["rlopt"].append(of_rlopt(options.updates))
        for vector in ("dummy", "subproc"):
            sides[f"MaskablePPO, {vector}"].append(of_peer(options.peer_python, vector, options.updates))
    for side, rates in sides.items():
        print(f"{side:<22}{statistics.median(rates):>8,.0f} steps/s  ({min(rates):,.0f} to {max(rates):,.0f})")


if __name__ == "__main__":
    sys.exit(main())

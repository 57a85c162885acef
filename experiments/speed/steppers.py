"""Ways to step several MuJoCo simulations from Python, physics alone: scripts/bench --only steppers [--python FILE]

Steps per second on one core of 8 and 64 simulations of Gymnasium's models, random controls and their frame skips:
a loop over mj_step, as in envs/mujoco; mujoco.rollout, which takes and returns states; and mjbatch by one thread, where
the Python that measures has it. The ways take turns, five rounds. mjbatch pins a MuJoCo of its own, so it is measured
by an environment of its own (--python), whose loop over mj_step is then the one to compare with.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from mujoco import rollout

MODELS = {"half_cheetah": 5, "hopper": 4, "ant": 5, "humanoid": 5}  # file -> frame skip
SECONDS, ROUNDS = 0.5, 5
Step = Callable[[np.ndarray], None]  # of all simulations, with controls (N, U)


def by_loop(model: mujoco.MjModel, count: int, skip: int) -> Step:
    data = [mujoco.MjData(model) for _ in range(count)]

    def step(controls: np.ndarray) -> None:
        for each, control in zip(data, controls, strict=True):
            each.ctrl[:] = control
            mujoco.mj_step(model, each, skip)

    return step


def by_rollout(model: mujoco.MjModel, count: int, skip: int) -> Step:
    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    size = mujoco.mj_stateSize(model, kind)
    states, sensors = np.zeros((count, skip, size)), np.zeros((count, skip, model.nsensordata))
    now, data, runner = np.zeros((count, size)), [mujoco.MjData(model)], rollout.Rollout(nthread=0)
    mujoco.mj_getState(model, data[0], now[0], kind)
    now[:] = now[0]

    def step(controls: np.ndarray) -> None:
        held = np.ascontiguousarray(np.broadcast_to(controls[:, None], (count, skip, model.nu)))
        runner.rollout([model] * count, data, now, held, skip_checks=True, nstep=skip, state=states, sensordata=sensors)
        now[:] = states[:, -1]

    return step


def by_mjbatch(model: mujoco.MjModel, count: int, skip: int) -> Step:
    from mjbatch import Batch

    batch = Batch(model, num_sims=count, num_threads=1)
    held, _ = batch.bind("ctrl"), batch.bind("qpos")

    def step(controls: np.ndarray) -> None:
        held[:] = controls
        batch.step(nstep=skip)

    return step


def rate(step: Step, actions: np.ndarray) -> float:
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        for controls in actions:
            step(controls)
        steps += actions.shape[0] * actions.shape[1]
    return steps / (time.perf_counter() - begun)


def measure() -> dict[str, Any]:
    """Steps/s by model and number of simulations, of every way that this Python has, round by round."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ways = {"mj_step": by_loop, "mujoco.rollout": by_rollout}
    if importlib.util.find_spec("mjbatch"):
        ways["mjbatch"] = by_mjbatch
    found: dict[str, Any] = {}
    for name, skip in MODELS.items():
        path = Path(gymnasium.__file__).parent / "envs/mujoco/assets" / f"{name}.xml"
        for count in (8, 64):
            model = mujoco.MjModel.from_xml_path(str(path))
            actions = np.random.default_rng(0).uniform(-1, 1, (64, count, model.nu))
            steps = {way: make(model, count, skip) for way, make in ways.items()}
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, step in steps.items():
                    rates[way].append(rate(step, actions))
            found[f"{name}, {count}"] = rates
    return {"mujoco": mujoco.__version__, "rates": found}


def table(data: dict[str, Any]) -> list[str]:
    """Medians; a column for every way under every MuJoCo."""
    columns = [(each, way) for each in data["sides"] for way in next(iter(each["rates"].values()))]
    lines = ["| model, simulations | " + " | ".join(f"{way}, MuJoCo {each['mujoco']}" for each, way in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for model in data["sides"][0]["rates"]:
        cells = (f"{statistics.median(each['rates'][model][way]):,.0f}" for each, way in columns)
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to step several MuJoCo simulations, physics alone.")
    parser.add_argument("--here", action="store_true", help="only measure by this Python, and print it as JSON")
    parser.add_argument("--python", action="append", default=[], metavar="FILE",
                        help="another Python with gymnasium and mjbatch, and its own MuJoCo")  # fmt: skip
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure()))
        return
    from experiments.speed import report

    sides = [sys.executable, *options.python]
    outputs = [subprocess.run([side, __file__, "--here"], stdout=subprocess.PIPE, check=True).stdout for side in sides]
    report.keep("steppers", {"sides": [json.loads(output) for output in outputs]})


if __name__ == "__main__":
    main()

"""Ways to step several MuJoCo simulations from Python, physics alone: python experiments/speed/steppers.py

Steps per second on one core of 8 and 64 simulations of Gymnasium's models, random controls and their frame skips:
a loop over mj_step, as in envs/mujoco; mujoco.rollout, which takes and returns states; and mjbatch by one thread, where
the Python that runs this has it. The ways take turns, five rounds. mjbatch pins a MuJoCo of its own, so run this by an
environment with mjbatch and gymnasium as well: its loop over mj_step is then the one to compare with.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

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


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ways = {"mj_step": by_loop, "mujoco.rollout": by_rollout}
    try:
        import mjbatch  # noqa: F401

        ways["mjbatch"] = by_mjbatch
    except ImportError:
        pass
    print(f"MuJoCo {mujoco.__version__}\n| model, simulations | {' | '.join(ways)} |\n|{'---|' * (len(ways) + 1)}")
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
            cells = (f"{statistics.median(values):,.0f}" for values in rates.values())
            print(f"| {name}, {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""Whether learning depends on units: scripts/reproduce scales [--quick] [--figures] [--mujoco] [--jobs N]

Every preset on CartPole and Pendulum, with rewards or observations multiplied by powers of ten; with --mujoco four of
them on HalfCheetah and Hopper in their own units. Writes results/NAME.csv or results/NAME/ and, from all, the tables.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch

from experiments._shared import study, trained
from experiments._shared.data import append_rows, exists, read_rows

HERE = Path(__file__).parent
RECIPES = HERE.parents[1] / "conf/recipe"
PRESETS = ("vpg", "a2c", "npg", "nac", "enac", "trpo", "acktr", "ppo", "newton", "gauss_newton", "ggn")
ENVS = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}
UNITS = [("reward", 1.0), *(("reward", u) for u in (1e-6, 1e3, 1e6)), *(("observation", u) for u in (1e-6, 1e6))]
SEEDS = range(3)
STEPS = 20_000
MUJOCO = [(env, algo) for env in ("halfcheetah", "hopper") for algo in ("trpo", "ppo", "acktr", "a2c")]
MUJOCO_STEPS = 300_000
MUJOCO_SEEDS = {("hopper", "trpo"): range(12), ("hopper", "ppo"): range(10)}  # others: 5
HEADER = ("preset", "environment", "scaled", "unit", "seed", "return")


class Run(NamedTuple):
    preset: str
    env: str
    scaled: str  # what is multiplied
    unit: float
    seed: int


class _Scaled(gym.Wrapper[Any, Any, Any, Any]):
    """An environment with its rewards or observations in another unit."""

    def __init__(self, env: gym.Env, scaled: str, unit: float):
        super().__init__(env)
        self._scaled, self._unit = scaled, unit
        if scaled == "observation":
            assert isinstance(env.observation_space, gym.spaces.Box)
            low, high = (np.float64(bound) * unit for bound in (env.observation_space.low, env.observation_space.high))
            with np.errstate(over="ignore"):
                self.observation_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32))

    def _observed(self, observation: np.ndarray) -> np.ndarray:
        scaled = observation.astype(np.float64) * self._unit if self._scaled == "observation" else observation
        return scaled.astype(np.float32)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return self._observed(observation), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = float(reward) * (self._unit if self._scaled == "reward" else 1.0)
        return self._observed(observation), reward, terminated, truncated, info


def _make(name: str, scaled: str, unit: float, **options: Any) -> gym.Env:
    return _Scaled(gym.make(name, disable_env_checker=True, **options), scaled, unit)


def train(run: Run, steps: int) -> float:
    """The mean return of the final policy's mode, in the environment's own unit."""
    from experiments._shared.building import make_trainer

    torch.set_num_threads(1)
    gym.register("Scaled-v0", partial(_make, ENVS[run.env], run.scaled, run.unit))
    recipe = f"{run.preset}-{run.env}"
    known = (RECIPES / f"{recipe}.yaml").exists()
    envs = 4 if run.preset == "enac" and run.env == "pendulum" else 8  # whole episodes, of 200 steps
    overrides = [f"algo={run.preset}", "env.id=Scaled-v0", f"env.num_envs={envs}", f"seed={run.seed}",
                 f"total_steps={steps}", "evaluation.episodes=20", "record.tensorboard=false",
                 f"recipe={recipe if known else 'null'}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()):
            summary = make_trainer([*overrides, f"run_dir={folder}/run"]).run()
    return float(summary["evaluation_return"]) / (run.unit if run.scaled == "reward" else 1.0)


def collect(runs: list[Run], file: Path, steps: int, jobs: int) -> None:
    """Train what is not in ``file`` yet, each run in a process of its own."""
    rows = read_rows(file) if exists(file) else []
    there = {(r["preset"], r["environment"], r["scaled"], float(r["unit"]), int(r["seed"])) for r in rows}
    left = [(run, steps) for run in runs if run not in there]
    with get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for run, value in pool.imap_unordered(_outcome, left, chunksize=1):
            append_rows(file, HEADER, [[*run, value]])
            print(*run, value, flush=True)


def _outcome(job: tuple[Run, int]) -> tuple[Run, str]:
    """The return, or which error stopped the run."""
    try:
        return job[0], f"{train(*job):.4g}"
    except Exception as error:
        return job[0], f"stopped: {type(error).__name__}"


def table(rows: list[dict[str, str]]) -> Iterator[str]:
    """Mean returns over seeds, as Markdown: a row for each preset and environment, a column for each unit."""
    yield "| environment | preset | " + " | ".join(f"{what} x {unit:g}" for what, unit in UNITS) + " |"
    yield "|---|---|" + "---:|" * len(UNITS)
    for env in ENVS:
        for preset in PRESETS:
            cells = []
            for what, unit in UNITS:
                key = (preset, env, what, unit)
                of = [r["return"] for r in rows
                      if (r["preset"], r["environment"], r["scaled"], float(r["unit"])) == key]  # fmt: skip
                values = [float(value) for value in of if not value.startswith("stopped")]
                ended = f" ({len(of) - len(values)} stopped)" if len(values) < len(of) else ""
                cells.append((f"{statistics.mean(values):.4g}" if values else "-") + ended)
            if set(cells) != {"-"}:
                yield f"| {env} | {preset} | " + " | ".join(cells) + " |"


def mujoco() -> list[trained.Run]:
    return [
        trained.Run(algo, env, MUJOCO_STEPS, seed, (f"algo={algo}", "evaluation.episodes=20"))
        for env, algo in MUJOCO
        for seed in MUJOCO_SEEDS.get((env, algo), range(5))
    ]


def mujoco_table(results: Path) -> Iterator[str]:
    """Evaluation returns before and after, and the difference of their means with its 95% interval (Welch's)."""
    from scipy import stats

    names = ("before", "after")
    rows = {name: read_rows(results / name / "runs.csv") for name in names}
    yield "| environment | preset | before | after | difference, 95% interval |"
    yield "|---|---|---:|---:|---:|"
    for env, algo in MUJOCO:
        before, after = (trained.evaluations(rows[name], algo, env) for name in names)
        low, high = stats.ttest_ind(after, before, equal_var=False).confidence_interval()
        difference = statistics.mean(after) - statistics.mean(before)
        yield (
            f"| {env} | {algo} | {statistics.mean(before):.0f} | {statistics.mean(after):.0f} "
            f"| {difference:+.0f} ({low:+.0f} to {high:+.0f}) |"
        )


def main() -> int:
    parser = study.parser(__doc__.splitlines()[0].split(":")[0], "2 presets, 1 seed, 2,000 steps")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--name", default="after", help="file or folder of results/ to write")
    parser.add_argument("--mujoco", action="store_true", help="train on HalfCheetah and Hopper")
    options = parser.parse_args()
    out = study.folder(HERE, options)
    presets, seeds, steps = (("ppo", "trpo"), range(1), 2000) if options.quick else (PRESETS, SEEDS, STEPS)
    runs = [Run(preset, env, what, unit, seed)
            for env in ENVS for seed in seeds for preset in presets for what, unit in UNITS]  # fmt: skip
    if options.mujoco and not options.figures:
        trained.collect(mujoco(), out / "results" / options.name, options.jobs)
    elif not options.figures:
        collect(runs, out / f"results/{options.name}.csv", steps, options.jobs)
    for name in ("before", "after"):
        if exists(out / f"results/{name}.csv"):
            print(f"\n{name}\n", *table(read_rows(out / f"results/{name}.csv")), sep="\n")
    if all(exists(out / f"results/{name}/runs.csv") for name in ("before", "after")):
        print("", *mujoco_table(out / "results"), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Runs that start from something: scripts/reproduce transfer [--quick] [--draw] [--jobs N]

For every seed: PPO on Hopper with half the friction (the source), on Hopper from the source's policy, and on Hopper
from scratch; then 20,000 transitions of the fine-tuned policy, drawn from its distribution, are recorded and cloned.
Runs lie in runs/transfer and are not made again; results/runs.csv holds what they returned.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import rlopt
from experiments._shared import study, trained
from experiments._shared.data import read_rows, write_rows
from rlopt.envs.spec import EnvSpec

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARTS = ("--extensions", str(HERE / "parts"))
ALGO, SOURCE_STEPS, STEPS = "ppo", 1_000_000, 200_000
SEEDS = range(6, 11)  # fixed before any of them was run; TRPO had 1 to 5, see the page
KINDS = ("source", "fine-tuned", "from scratch", "cloned")


def run(command: list[str], run_dir: Path, settings: list[str]) -> None:
    """`rlopt COMMAND ... run_dir=RUN_DIR`, unless it was finished before."""
    if (run_dir / "checkpoints").exists() and (command[0] == "clone" or (run_dir / "summary.json").exists()):
        return
    typed = [*command, *PARTS, "env=hopper", *settings, f"run_dir={run_dir}"]
    done = subprocess.run(
        [sys.executable, "-m", "rlopt", *typed],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise SystemExit(f"rlopt {' '.join(typed)}\n{done.stderr}")


def record(run_dir: Path, path: Path, count: int, seed: int) -> None:
    """``count`` transitions of the run's policy on Hopper, actions drawn from its distribution."""
    policy, generator = rlopt.load(run_dir, extensions=[HERE / "parts"]), np.random.default_rng(seed)
    env = EnvSpec("hopper", "Hopper-v5", 1, "sync", None, {}).make()
    observations, actions = [], []
    observation, _ = env.reset(seed=seed)
    while len(actions) < count:
        action = policy.sample(observation, generator)
        observations.append(observation)
        actions.append(action)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
    env.close()
    np.savez(path, observations=np.array(observations), actions=np.array(actions))


def one_seed(seed: int, folder: Path, steps: int, source_steps: int, count: int) -> dict[str, float]:
    """Evaluation returns by kind."""
    at = {kind: folder / f"{kind.replace(' ', '-')}-{seed}" for kind in KINDS}
    common = [f"algo={ALGO}", f"seed={seed}"]
    slippery = "env.wrappers=[wrapper.slippery:Slippery]"
    run(["train"], at["source"], [*common, slippery, f"total_steps={source_steps}"])
    run(["train"], at["fine-tuned"], [*common, f"init.from={at['source']}", f"total_steps={steps}"])
    run(["train"], at["from scratch"], [*common, f"total_steps={steps}"])
    data = folder / f"demonstrations-{seed}.npz"
    if not data.exists():
        record(at["fine-tuned"], data, count, seed)
    run(["clone", str(data)], at["cloned"], ["algo=ppo", f"seed={seed}", "evaluation.episodes=0"])
    found = {kind: json.loads((at[kind] / "summary.json").read_text())["evaluation_return"] for kind in KINDS[:3]}
    found["cloned"] = evaluated(at["cloned"])
    print(f"seed {seed}: " + ", ".join(f"{kind} {value:.0f}" for kind, value in found.items()), flush=True)
    return found


def evaluated(run_dir: Path) -> float:
    """Mean return of the mode, over 100 episodes, by `rlopt eval`."""
    command = [sys.executable, "-m", "rlopt", "eval", str(run_dir), "--json", *PARTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["deterministic"]["mean"])


def table(rows: list[dict[str, str]]) -> str:
    """Returns by kind, and the two comparisons, as Markdown."""
    lines = ["| | mean (95% t) | by seed |", "|---|---|---|"]
    kinds: dict[str, Callable[[dict[str, str]], float]] = {kind: lambda row, k=kind: float(row[k]) for kind in KINDS}
    kinds["fine-tuned less from scratch"] = lambda row: float(row["fine-tuned"]) - float(row["from scratch"])
    kinds["cloned over fine-tuned"] = lambda row: float(row["cloned"]) / float(row["fine-tuned"])
    for name, of in kinds.items():
        values = [of(row) for row in rows]
        each = ", ".join(f"{value:.4g}" for value in values)
        lines.append(f"| {name} | {trained.mean_with_interval(values)} | {each} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    gains = [float(row["fine-tuned"]) - float(row["from scratch"]) for row in rows]
    shares = [float(row["cloned"]) / float(row["fine-tuned"]) for row in rows]
    low = trained.interval(gains)[0] if len(gains) > 1 else gains[0]
    return [
        (f"fine-tuning gains {statistics.mean(gains):.0f}, and its interval begins at {low:.0f}", low > 0),
        (f"a clone has {statistics.mean(shares):.2f} of the return, .8 asked for", statistics.mean(shares) >= 0.8),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fine-tuning and cloning on Hopper.")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time (2)")
    parser.add_argument("--draw", action="store_true", help="only tabulate what is there")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, into runs/transfer-quick")
    options = parser.parse_args()
    folder = ROOT / ("runs/transfer-quick" if options.quick else "runs/transfer")
    results = (folder if options.quick else HERE / "results") / "runs.csv"
    if not options.draw:
        folder.mkdir(parents=True, exist_ok=True)
        sizes = (4096, 4096, 500) if options.quick else (STEPS, SOURCE_STEPS, 20_000)
        seeds = range(1) if options.quick else SEEDS
        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(pool.map(lambda seed: one_seed(seed, folder, *sizes), seeds))
        results.parent.mkdir(exist_ok=True)
        values = [[seed, *(f"{of[kind]:.6g}" for kind in KINDS)] for seed, of in zip(seeds, found, strict=True)]
        write_rows(results, ["seed", *KINDS], values)
    rows = read_rows(results)
    print(shown := table(rows))
    if not options.quick:
        study.publish(HERE / "README.md", shown)
    verdict = study.verdict(claims(rows), folder if options.quick else HERE)
    return 0 if options.quick else verdict


if __name__ == "__main__":
    raise SystemExit(main())

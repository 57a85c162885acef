"""The linear-quadratic example, all of it: data to results/, figures beside them, and every claim checked.

scripts/reproduce lqr             20 seeds, six starts
scripts/reproduce lqr --quick     2 seeds, one start, under a minute; into runs/lqr-quick
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two processes on two cores

import numpy as np
from scipy import stats

from experiments._shared import study
from experiments._shared.data import write_json, write_rows
from experiments.lqr import exact, figures, records, sampled
from experiments.lqr.settings import FLOOR, METHODS, Setting, settings

HERE = Path(__file__).parent
SEEDS, QUICK_SEEDS = 20, 2
NOISE = (0.01, 0.03, 0.1, 0.3)  # standard deviations of noise on the state, for comparison


def main() -> int:
    parser = study.parser("Peters and Schaal's linear-quadratic example.", "2 seeds, one start, short rollouts")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    out = study.folder(HERE, options)
    chosen = settings(options.quick)
    if options.figures:
        figures.draw(out, chosen)
        return 0
    exact_paths = closed_form(chosen)
    fields = [row for setting in chosen for row in records.field(setting)]
    write_rows(out / "results/fields.csv", records.FIELD, fields, records.DIGITS)
    write_rows(out / "results/exact.csv", records.EXACT, records.exact_rows(exact_paths), records.DIGITS)
    sampled_paths = trained(jobs(chosen, QUICK_SEEDS if options.quick else SEEDS), options.processes)
    write_rows(out / "results/sampled.csv", records.SAMPLED, records.sampled_rows(sampled_paths), records.DIGITS)

    numbers = {"exact": exact_numbers(chosen, exact_paths), "sampled": sampled_numbers(chosen, sampled_paths)}
    numbers["command"] = "scripts/reproduce lqr" + (" --quick" if options.quick else "")
    write_json(out / "results/numbers.json", numbers)
    figures.draw(out, chosen)

    return study.verdict([*exact_claims(numbers["exact"]), *([] if options.quick else sampled_claims(numbers))], out)


def closed_form(chosen: list[Setting]) -> records.ExactPaths:
    paths: records.ExactPaths = {}
    for setting in chosen:
        for method in ("vanilla", "natural"):
            paths[setting.name, "flow", method, setting.start] = exact.flow(setting, method, setting.start)
        for method in METHODS:
            for start in setting.starts:
                paths[setting.name, "climb", method, start] = exact.climb(setting, method, start)
    return paths


def jobs(chosen: list[Setting], seeds: int) -> list[sampled.Job]:
    """Every seed from the first start, one from the others."""
    found = []
    for setting in chosen:
        for method in METHODS:
            found += [sampled.Job(setting, method, setting.start, seed) for seed in range(seeds)]
            found += [sampled.Job(setting, method, start, 0) for start in setting.starts[1:]]
    return found


def trained(todo: list[sampled.Job], processes: int) -> list[sampled.Path]:
    paths = []
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for path in pool.imap(sampled.train, todo):
            paths.append(path)
            if len(paths) % 20 == 0 or len(paths) == len(todo):
                print(f"{len(paths)} of {len(todo)} runs, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return paths


def exact_numbers(chosen: list[Setting], paths: records.ExactPaths) -> dict:
    numbers: dict = {}
    for setting in chosen:
        ends = {
            f"{rule}_{method}": float(path[-1, 0])
            for (name, rule, method, start), path in paths.items()
            if name == setting.name and start == setting.start
        }
        noisy = [replace(setting, system=replace(setting.system, noise_std=std)) for std in NOISE]
        numbers[setting.name] = {"optimum": setting.system.optimum(), "start": setting.start, "final_k": ends}
        if not setting.log:
            numbers[setting.name]["vanilla_final_k_with_noise"] = {
                std: float(exact.flow(other, "vanilla", setting.start)[-1, 0])
                for std, other in zip(NOISE, noisy, strict=True)
            }
            numbers[setting.name]["mean_cosine"] = exact.mean_cosines(setting.system)
    return numbers


def sampled_numbers(chosen: list[Setting], paths: list[sampled.Path]) -> dict:
    """Final k, the last with sigma at or above the floor, over the seeds: mean and its 95% interval (Student's t)."""
    numbers: dict = {}
    for setting in chosen:
        for method in METHODS:
            runs = [p for p in paths if p.job.setting.name == setting.name and p.job.method == method]
            runs = [p for p in runs if p.job.start == setting.start]
            final = np.array([p.policies[p.policies[:, 1] >= FLOOR][-1, 0] for p in runs])
            half = float(stats.t.ppf(0.975, len(final) - 1) * final.std(ddof=1) / np.sqrt(len(final)))
            numbers.setdefault(setting.name, {})[method] = {
                "seeds": len(runs),
                "episodes_per_update": setting.envs,
                "updates": [len(p.policies) - 1 for p in runs],
                "final_k": final.round(4).tolist(),
                "mean": float(final.mean()),
                "interval": [float(final.mean()) - half, float(final.mean()) + half],
                "within_0.05": int((abs(final - setting.system.optimum()) < 0.05).sum()),
            }
    return numbers


def exact_claims(numbers: dict) -> list[tuple[str, bool]]:
    """The closed forms' numbers of README.md."""
    unit, log = numbers["unit-sigma"], numbers["unit-log_sigma"]
    vanilla, natural = unit["final_k"]["flow_vanilla"], unit["final_k"]["flow_natural"]
    logged, cosine = log["final_k"]["flow_vanilla"], unit["mean_cosine"]
    return [
        (f"in sigma vanilla ends at k = {vanilla:.4f}, -.308 +- .01", abs(vanilla + 0.308) < 0.01),
        (f"in sigma natural ends at k = {natural:.4f}, -.604 +- .002", abs(natural + 0.604) < 0.002),
        (f"in log sigma vanilla ends at k = {logged:.4f}, -.601 +- .01", abs(logged + 0.601) < 0.01),
        (f"mean cosine of vanilla {cosine['vanilla']:.4f}, .813 +- .01", abs(cosine["vanilla"] - 0.813) < 0.01),
        (f"mean cosine of natural {cosine['natural']:.4f}, .973 +- .01", abs(cosine["natural"] - 0.973) < 0.01),
    ]


def sampled_claims(numbers: dict) -> list[tuple[str, bool]]:
    """In sigma vanilla ends further than .05 from k* with every seed; the rest have their interval within .05."""
    found = []
    for name, methods in numbers["sampled"].items():
        k_star = numbers["exact"][name]["optimum"]
        for method, result in methods.items():
            low, high = result["interval"]
            text = f"{name} {method}: k = {result['mean']:.4f} [{low:.4f}, {high:.4f}], k* = {k_star:.4f}, "
            text += f"{result['within_0.05']} of {result['seeds']} seeds within .05"
            stuck = method == "vanilla" and not name.endswith("log_sigma")
            inside = max(abs(low - k_star), abs(high - k_star)) < 0.05
            found.append((text, result["within_0.05"] == 0 if stuck else inside))
    return found


if __name__ == "__main__":
    raise SystemExit(main())

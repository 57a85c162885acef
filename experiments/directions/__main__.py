"""All six metrics' directions against the gradient's half-plane: scripts/reproduce directions [--quick] [--figures]

Data to results/, figures beside them, every claim of README.md checked. --quick: small networks, one seed, seconds;
into runs/directions-quick.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import numpy as np
import torch

from experiments._shared import policies, study
from experiments._shared.data import read_json, write_json, write_rows
from experiments.directions import figures, midway, picture
from rlopt.parallel.processes import use_one_thread

HERE = Path(__file__).parent
INSPECTED = ("metric", "solver", "radius", "cosine_gradient", "cosine_exact", "damping", "improvement_predicted",
             "improvement", "kl_predicted", "kl", "failure")  # fmt: skip
DIGITS = 5  # of numbers in csv files
BALLS = (0.01, 0.1, 1.0, 10.0)  # lambda above minus the least eigenvalue


class Plan(NamedTuple):
    hidden: int
    steps: dict[str, tuple[int, ...]]  # of training at which policies are looked at; the second is "the middle"
    seeds: int
    samples: int
    small: int  # samples of the batches for CG
    batches: int
    dampings: int


FULL = Plan(16, {"cartpole": (2_048, 12_000, 30_000), "pendulum": (2_048, 60_000, 120_000)}, 3, 1024, 256, 40, 97)
QUICK = Plan(4, {"cartpole": (2_048, 8_000), "pendulum": (2_048, 20_000)}, 1, 128, 64, 12, 25)


def main() -> int:
    options = study.parser("The directions of six metrics.", "small networks, one seed").parse_args()
    out = study.folder(HERE, options)
    use_one_thread()
    if not options.figures:
        measure(QUICK if options.quick else FULL, out / "results")
    figures.draw(out)
    numbers = read_json(out / "results/numbers.json")
    held = claims(numbers)[: -2 if options.quick else None]  # whether some direction fails is the full run's to say
    return study.verdict(held, out)


def measure(plan: Plan, results: Path) -> None:
    found: list[list[Any]] = []
    damped: list[list[Any]] = []
    warm: list[list[Any]] = []
    numbers: dict[str, Any] = {"picture": pictured(), "policies": {}}
    with tempfile.TemporaryDirectory() as folder:
        for env, moments in plan.steps.items():
            for seed in range(plan.seeds):
                for steps in moments:
                    run_dir = policies.trained(Path(folder), env, steps, seed, plan.hidden)
                    middle = steps == moments[1] and seed == 0
                    solvers = None if middle else ["dense", "cg"]
                    rows = midway.inspected(run_dir, plan.samples, solvers)
                    if middle:
                        at = policies.point(run_dir, plan.samples)
                        curves = _damped(at, plan.dampings)
                        damped += [[env, *row] for rows in curves.values() for row in rows["rows"]]
                        cg = midway.warm(run_dir, plan.small, plan.batches, 20, midway.DAMPING)
                        warm += [[env, *row] for row in cg]
                        rows += [row for radius in midway.RADII if radius != midway.RADIUS
                                 for row in midway.inspected(run_dir, plan.samples, ["dense"], radius)]  # fmt: skip
                        about = json.loads((run_dir / "summary.json").read_text())
                        numbers["policies"][env] = {
                            "parameters": len(at.g),
                            "steps": about["steps"],
                            "return_mean": about["return_mean"],
                            "eigenvalues": {metric: curve["range"] for metric, curve in curves.items()},
                            "relations": midway.relations(at),
                        }
                    found += [[env, seed, r["step"], *(r[name] for name in INSPECTED)] for r in rows]
    write_rows(results / "inspected.csv", ("env", "seed", "step", *INSPECTED), found, DIGITS)
    write_rows(results / "damped.csv", ("env", "metric", "damping", "cosine"), damped, DIGITS)
    write_rows(results / "warm.csv", ("env", "batch", "iterations", "start", "cosine"), warm, DIGITS)
    numbers |= summary(found, damped, warm, numbers)
    write_json(results / "numbers.json", numbers)


def _damped(at: policies.Point, count: int) -> dict[str, dict[str, Any]]:
    """metric -> rows of (metric, lambda, cosine), and the range of the eigenvalues."""
    found = {}
    for metric in midway.METRICS:
        dampings = np.geomspace(1e-5, 10, count)
        cosines, least, largest = midway.damped(at, metric, dampings)
        rows = [(metric, float(d), float(c)) for d, c in zip(dampings, cosines, strict=True)]
        found[metric] = {"rows": rows, "range": [least, largest]}
    return found


def pictured() -> dict[str, Any]:
    """The two points of the picture, and how far steps in (k, sigma) and (k, log sigma) are apart."""
    found: dict[str, Any] = {}
    for name, where in (("near", picture.NEAR), ("far", picture.FAR)):
        g, steps = picture.steps(where)
        found[name] = {
            "theta": where,
            "gradient": g.tolist(),
            "steps": {s.metric: {"matrix": s.matrix.tolist(), "d": s.d.tolist(), "cosine": s.cosine, "size": s.size}
                      for s in steps},
        }  # fmt: skip
    at = picture.point(*picture.FAR)
    least = float(np.linalg.eigvalsh(at.curvature("hessian").dense().numpy())[0])
    found["far"]["hessian_least"] = least
    damped = picture.step(at, "hessian", -1.5 * least)
    x = picture.absolute(at, "hessian", picture.DAMPING)
    found["far"]["mended"] = {
        "damped": damped.d.tolist(),
        "absolute": (x * picture.GAIN / torch.dot(at.g, x)).tolist(),
    }
    found["mean_score"] = picture.mean_score(picture.point(*picture.NEAR))
    found["ball"] = {
        name: {lam: picture.ball(where, "hessian", max(-low, 0) + lam) for lam in BALLS}
        for name, where, low in (("near", picture.NEAR, 0.0), ("far", picture.FAR, least))
    }
    found["log_sigma_apart"] = {metric: picture.invariance(metric) for metric in (*picture.SIX, "fisher")}
    return found


def summary(found: list[list[Any]], damped: list[list[Any]], warm: list[list[Any]], numbers: dict) -> dict[str, Any]:
    rows = [dict(zip(("env", "seed", "step", *INSPECTED), row, strict=True)) for row in found]
    once = [r for r in rows if r["radius"] == midway.RADIUS]
    known = [r for r in once if r["cosine_gradient"] is not None]
    least = {m: min(r["cosine_gradient"] for r in known if r["metric"] == m) for m in midway.METRICS}
    undamped: dict[str, Any] = {}
    for env, about in numbers["policies"].items():
        for metric, (low, _) in about["eigenvalues"].items():
            curve = [(d, c) for e, m, d, c in damped if (e, m) == (env, metric)]
            undamped.setdefault(env, {})[metric] = {
                "definite_least": min((c for d, c in curve if d > -low + 1e-9), default=None),
                "indefinite_least": min((c for d, c in curve if d <= -low + 1e-9), default=None),
                "indefinite": sum(d <= -low + 1e-9 for d, _ in curve),
                "negative": sum(c < 0 for d, c in curve if d <= -low + 1e-9),
            }
    cg = {}
    for env in numbers["policies"]:
        for start in ("cold", "warm"):
            values = {n: [c for e, _, i, s, c in warm if (e, i, s) == (env, n, start)] for n in (1, 2, 3, 5, 10, 20)}
            cg[f"{env} {start}"] = {n: {"least": min(v), "negative": sum(c < 0 for c in v), "of": len(v)}
                                    for n, v in values.items()}  # fmt: skip
    kl = {
        f"{r['env']} {r['metric']} {r['radius']:g}": r["kl"] for r in rows
        if r["solver"] == "dense" and r["seed"] == 0 and r["step"] == numbers["policies"][r["env"]]["steps"]
    }  # fmt: skip
    return {
        "inspected": {"directions": len(known), "failures": len(once) - len(known), "least_cosine": least},
        "damped": undamped,
        "cg": cg,
        "kl": kl,
        "gains": {env: gains([r for r in once if r["env"] == env]) for env in numbers["policies"]},
    }


def gains(rows: list[dict[str, Any]]) -> dict[str, float]:
    """metric -> measured gain of the dense solution over that of the Fisher metric, mean over policies."""
    at = {(r["metric"], r["seed"], r["step"]): r["improvement"] for r in rows if r["solver"] == "dense"}
    points = [key[1:] for key in at if key[0] == "fisher" and at[key]]
    found = {m: [at[m, *p] / at["fisher", *p] for p in points if at[m, *p] is not None] for m in midway.METRICS}
    return {metric: float(np.mean(ratios)) for metric, ratios in found.items() if ratios}


def claims(numbers: dict) -> list[tuple[str, bool]]:
    inspected, pictures = numbers["inspected"], numbers["picture"]
    near, far = (pictures[name]["steps"] for name in ("near", "far"))
    least = min(inspected["least_cosine"].values())
    made = inspected["directions"]
    definite = [v["definite_least"] for env in numbers["damped"].values() for v in env.values()]
    newton = {env: v["hessian"] for env, v in numbers["damped"].items()}
    cold = [n for key, v in numbers["cg"].items() if key.endswith("cold") for n in v.values()]
    warm = [n["least"] for key, v in numbers["cg"].items() if key.endswith("warm") for n in v.values()]
    relations = [about["relations"] for about in numbers["policies"].values()]
    changed = [r["changed_by_other_advantages"] for r in relations]
    apart = pictures["log_sigma_apart"]
    return [
        (f"near the optimum all six lie in the half-plane, least cosine {min(s['cosine'] for s in near.values()):.3f}",
         all(s["cosine"] > 0 for s in near.values())),
        (f"where the Hessian is indefinite Newton's direction leaves it, cosine {far['hessian']['cosine']:.3f}",
         far["hessian"]["cosine"] < 0 and all(s["cosine"] > 0 for m, s in far.items() if m != "hessian")),
        (f"{made} directions of rlopt inspect lie in the half-plane, least cosine {least:.4f}", least > 0),
        (f"so does every exact solution with M + lambda I positive definite, least {min(definite):.4f}",
         min(definite) > 0),
        ("the best point of a ball for the quadratic model is a damped step, to .001 radians",
         max(x for found in pictures["ball"].values() for x in found.values()) < 1e-3),
        ("CG from a cold start never leaves it", all(n["negative"] == 0 for n in cold)),
        ("the first three do not depend on the loss, the others do",
         all((c[m] == 0) == (m in picture.SIX[:3]) for c in changed for m in picture.SIX)),
        ("of a log-likelihood gradient covariance is the empirical Fisher",
         all(r["log_likelihood"]["gradient_covariance_to_empirical_fisher"] < 1e-12 for r in relations)),
        ("natural gradients in sigma and log sigma agree for short steps, Gauss-Newton's do not",
         apart["fisher"][0] < 1e-3 and apart["gauss_newton"][0] > 0.1),
        ("Newton leaves it where lambda is smaller: "
         + ", ".join(f"{e} at {v['negative']} of {v['indefinite']} lambdas" for e, v in newton.items()),
         all(v["negative"] for v in newton.values())),
        (f"CG from a warm start does: least cosine {min(warm):.3f}", min(warm) < 0),
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())

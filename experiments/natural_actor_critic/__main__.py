"""How fast NAC and eNAC find the natural gradient: scripts/reproduce natural_actor_critic [--quick] [--figures]

At one policy of the linear-quadratic regulator, of which the natural gradient is known in closed form, draws batches of
growing size and lets every critic of CRITICS say its direction w on the same data. Episodes are simulated here, all at
once, and handed to the critics of rlopt.core; CHECKED batches are collected and learned from by the trainer itself.
Writes results/errors.csv (one line a batch and critic), results/numbers.json, a table and errors.png. --figures makes
the last three anew.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from experiments._shared import study, style
from experiments._shared.data import read_rows, write_json, write_rows
from rlopt.core.compatible.critic import CompatibleCritic, Experience, monomials
from rlopt.core.compatible.episodic import Episodic
from rlopt.core.compatible.lstd import LSTD
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.tasks.lqr import LQR

HERE = Path(__file__).parent
K, SIGMA, HORIZON = -0.2, 0.5, 200
SYSTEM = LQR(noise_std=0.3)
EPISODES = (10, 20, 50, 100, 200, 500, 1000)  # in a batch; times the horizon in steps
SEEDS = range(50)
CHECKED, CHECKED_SEEDS = 100, range(5)  # episodes and seeds of the trainer's own batches
# name -> critic, label, colour, marker
CRITICS: dict[str, tuple[CompatibleCritic, str, str, str]] = {
    "nac-0": (LSTD((0, 2), 0.0, 0.0), r"NAC, $\lambda = 0$", "#1f4e9c", "o"),
    "nac-1": (LSTD((0, 2), 1.0, 0.0), r"NAC, $\lambda = 1$", "#5b8ad6", "s"),
    "enac": (Episodic((0, 2), 0.0), "eNAC", "#c44e00", "^"),
    "nac-linear": (LSTD((0, 1), 0.0, 0.0), r"NAC, $\lambda = 0$, features $(1, s)$", "#777777", "x"),
}
HEADER = ("critic", "seed", "steps", "w_k", "w_sigma", "relative_error")
TRUE = SYSTEM.natural_gradient(K, SIGMA)


def simulated(episodes: int, seed: int) -> Experience:
    """Whole episodes of the scalar system under the policy; without features, which are each critic's own."""
    rng = np.random.default_rng((seed, episodes))
    s, states, actions = np.zeros(episodes), [], []
    for _ in range(HORIZON):
        states.append(s)
        actions.append(K * s + SIGMA * rng.standard_normal(episodes))
        s = SYSTEM.A * s + SYSTEM.B * actions[-1] + SYSTEM.noise_std * rng.standard_normal(episodes)
    S, A = torch.from_numpy(np.array([*states, s])), torch.from_numpy(np.array(actions))
    time = torch.arange(HORIZON).repeat_interleave(episodes)
    samples = Samples(
        inputs=S[:-1].reshape(-1, 1),
        actions=A.reshape(-1, 1),
        weight=SYSTEM.gamma ** time.double(),
        time=time,
        episode=torch.arange(episodes).repeat(HORIZON),
    )
    network = Network(nn.Sequential(nn.Linear(1, 1, bias=False, dtype=torch.float64)), 1)
    done = torch.zeros(HORIZON, episodes, dtype=torch.bool)
    done[-1] = True
    return Experience(
        tape=network.tape(torch.tensor([K, SIGMA], dtype=torch.float64), samples.inputs),
        head=DiagonalGaussian(1, scale="sigma"),
        samples=samples,
        rewards=-(SYSTEM.Q * S[:-1] ** 2 + SYSTEM.R * A**2),
        done=done,
        features=S[:-1].reshape(-1, 1),
        following=S[1:].reshape(-1, 1),
    )


def directions(episodes: int, seed: int) -> dict[str, np.ndarray]:
    """name -> w (2,) for (k, sigma), every critic's on one and the same batch."""
    found, e = {}, simulated(episodes, seed)
    for name, (critic, *_) in CRITICS.items():
        phi, following = (monomials(x, critic.degrees or ()) for x in (e.features, e.following))
        experience = Experience(e.tape, e.head, e.samples, e.rewards, e.done, phi, following)
        found[name] = critic.estimate(experience, SYSTEM.gamma).natural.numpy()
    return found


def trained(algo: str, seed: int) -> list[float]:
    """w, two numbers, that `rlopt train` would step along."""
    from experiments._shared.building import make_trainer

    with tempfile.TemporaryDirectory() as folder:
        overrides = ["experiment=lqr", f"algo={algo}", f"policy.initial_sigma={SIGMA}",
                     f"env.kwargs.noise_std={SYSTEM.noise_std}", f"env.kwargs.horizon={HORIZON}",
                     f"env.num_envs={CHECKED}", f"batch_size={CHECKED * HORIZON}",
                     f"seed={seed}", f"run_dir={folder}/run"]  # fmt: skip
        run = make_trainer(overrides)
        run.state["actor"]["theta"][0] = K
        try:
            batch = run.collector.collect(run.agent.policy(run.state))
            state, result = run.agent.learn(run.state, batch, run.minibatches)
        finally:
            run.collector.close()
    assert result.failure is None, result.failure
    return state["actor"]["parts"]["solver"]["w"].tolist()


def relative_error(w: np.ndarray) -> float:
    return float(np.linalg.norm(w - TRUE) / np.linalg.norm(TRUE))


def measure(out: Path, seeds: range, sizes: tuple[int, ...]) -> None:
    """errors.csv: |w - w*| / |w*|."""
    rows = []
    for seed in seeds:
        for episodes in sizes:
            rows += [[name, seed, episodes * HORIZON, *w] for name, w in directions(episodes, seed).items()]
    for algo in ("nac", "enac"):
        rows += [[f"trainer-{algo}", seed, CHECKED * HORIZON, *trained(algo, seed)] for seed in CHECKED_SEEDS]
    rows = [[*row, relative_error(np.array(row[3:]))] for row in rows]
    write_rows(out / "results/errors.csv", HEADER, rows, digits=8)


def table(rows: list[dict[str, str]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> steps (N,), errors (N, seeds)."""
    steps = np.array(sorted({int(r["steps"]) for r in rows if r["critic"] in CRITICS}))
    errors = {
        name: [[float(r["relative_error"]) for r in rows if (r["critic"], int(r["steps"])) == (name, n)] for n in steps]
        for name in CRITICS
    }
    return {name: (steps, np.array(found)) for name, found in errors.items()}


def exponent(steps: np.ndarray, errors: np.ndarray) -> float:
    """Slope of log root-mean-square error over log steps, by least squares."""
    return float(np.polyfit(np.log(steps), np.log(np.sqrt((errors**2).mean(1))), 1)[0])


def numbers(rows: list[dict[str, str]]) -> dict:
    """Exponents with 95% intervals (bootstrap over seeds), and errors at the largest batch."""
    rng = np.random.default_rng(0)
    found = {}
    for name, (steps, errors) in table(rows).items():
        seeds = errors.shape[1]
        drawn = [exponent(steps, errors[:, rng.integers(0, seeds, seeds)]) for _ in range(2000)]
        found[name] = {
            "exponent": exponent(steps, errors),
            "interval": np.percentile(drawn, [2.5, 97.5]).tolist(),
            "steps": steps.tolist(),
            "rms_error": np.sqrt((errors**2).mean(1)).tolist(),
            "mean_at_largest": float(errors[-1].mean()),
            "worst_at_largest": float(errors[-1].max()),
            "seeds": seeds,
        }
    for algo in ("nac", "enac"):
        errors = [float(r["relative_error"]) for r in rows if r["critic"] == f"trainer-{algo}"]
        found[f"trainer-{algo}"] = {"steps": CHECKED * HORIZON, "relative_errors": errors}
    return found


def draw(found: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6.4, 4.4), constrained_layout=True)
    for name, (steps, errors) in found.items():
        _, label, color, marker = CRITICS[name]
        axis.loglog(np.repeat(steps, errors.shape[1]), errors.ravel(), marker, color=color, markersize=2.5, alpha=0.3)
        line = "--" if name == "nac-linear" else "-"
        axis.loglog(steps, np.sqrt((errors**2).mean(1)), line, color=color, marker=marker, markersize=5, label=label)
    steps, errors = found["nac-1"]
    reference = np.sqrt((errors[0] ** 2).mean()) * 0.45 * np.sqrt(steps[0] / steps)
    axis.loglog(steps, reference, ":", color="black", linewidth=1, label=r"$\propto$ steps$^{-1/2}$")
    axis.axhline(0.05, color="black", linewidth=0.6)
    axis.text(1.25 * steps[0], 0.051, "5%", va="bottom", fontsize=8)
    axis.set(xlabel="steps in the batch", ylabel=r"$|w - w^*| \,/\, |w^*|$")
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, path, dpi=120)


def main() -> int:
    options = study.parser("NAC and eNAC against the closed form.", "2 seeds, small batches").parse_args()
    out = study.folder(HERE, options)
    if not options.figures:
        measure(out, range(2) if options.quick else SEEDS, EPISODES[:3] if options.quick else EPISODES)
    rows = read_rows(out / "results/errors.csv")
    found = numbers(rows)
    write_json(out / "results/numbers.json", found)
    draw(table(rows), out / "errors.png")
    print("| critic | exponent (95% interval) | error of the largest batch: root mean square | mean | worst |")
    print("|---|---|---|---|---|")
    for name in CRITICS:
        n = found[name]
        low, high = n["interval"]
        errors = " | ".join(f"{x:.2%}" for x in (n["rms_error"][-1], n["mean_at_largest"], n["worst_at_largest"]))
        print(f"| {name} | {n['exponent']:.3f} ({low:.3f} to {high:.3f}) | {errors} |")
    for algo in ("nac", "enac"):
        each = ", ".join(f"{x:.2%}" for x in found[f"trainer-{algo}"]["relative_errors"])
        print(f"the trainer itself, algo={algo}, {CHECKED * HORIZON:,} steps, {len(CHECKED_SEEDS)} seeds: {each}")
    held = all(
        found[name]["interval"][0] < -0.5 < found[name]["interval"][1] and found[name]["rms_error"][-1] < 0.05
        for name in ("nac-0", "nac-1", "enac")
    )
    claim = "NAC and eNAC: -1/2 within the exponent's interval, root-mean-square error below 5% at 200,000 steps"
    return study.verdict([] if options.quick else [(claim, held)], out)


if __name__ == "__main__":
    raise SystemExit(main())

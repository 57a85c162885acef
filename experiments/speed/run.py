"""What the tape and the trainer cost, as ratios within one run: python experiments/speed/run.py [--quick]

Products, 17-64-64-6 tanh Gaussian policy, 2048 samples, float32, one thread:
    gradient        one autograd gradient of the surrogate (forward and backward)
    double backprop Hessian-vector product of the mean KL, graph rebuilt every time
    MLPTape, AutogradTape   Fisher-vector product from a tape that stands
Throughput, HalfCheetah-v5, 8 environments, one process: TRPO training against the bare stepping of the same vector
environment by the policy's own actions, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from rlopt.assemble import trainer
from rlopt.build import resolve
from rlopt.core.autograd_tape import AutogradTape
from rlopt.core.curvature import PullBack
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.network import Network
from rlopt.run.trainer import Trainer

HERE = Path(__file__).parent


def products(repeats: int) -> dict[str, list[float]]:
    """Microseconds of each product, one value per repeat; the kinds take turns."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(17, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 6))
    head = DiagonalGaussian(6)
    network = Network(module, head.constants)
    theta = network.layout.flatten(module, head.initial_constants())
    count = 2048
    inputs, v = torch.randn(count, 17), torch.randn_like(theta)
    share = torch.full((count,), 1 / count)
    log_sigma = nn.Parameter(torch.zeros(6))
    parameters = [*module.parameters(), log_sigma]
    with torch.no_grad():
        z = network.outputs(theta, inputs)
        actions, advantages = head.sample(z, torch.randn(count, 6)), torch.randn(count)
        old = head.log_prob(z, actions)
    tape = network.tape(theta, inputs)
    fast = PullBack(tape, share, head.fisher_product(tape.outputs))
    general_tape = AutogradTape(module, network.layout, theta, inputs)
    general = PullBack(general_tape, share, head.fisher_product(z))

    def gradient() -> None:
        normal = torch.distributions.Normal(module(inputs), log_sigma.exp())
        ratio = (normal.log_prob(actions).sum(1) - old).exp()
        torch.autograd.grad((ratio * advantages).mean(), parameters)

    def double_backprop() -> None:
        normal = torch.distributions.Normal(module(inputs), log_sigma.exp())
        fixed = torch.distributions.Normal(normal.loc.detach(), normal.scale.detach())
        kl = torch.distributions.kl_divergence(fixed, normal).sum(1).mean()
        first = torch.autograd.grad(kl, parameters, create_graph=True)
        flat = torch.cat([g.reshape(-1) for g in first])
        torch.autograd.grad(torch.dot(flat, v), parameters)

    @torch.no_grad()
    def mlp_tape() -> None:
        fast.product(v)

    def autograd_tape() -> None:
        general.product(v)

    kinds = {
        "gradient": gradient,
        "double backprop": double_backprop,
        "MLPTape": mlp_tape,
        "AutogradTape": autograd_tape,
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for kind in kinds.values():
        _seconds(kind, 20)
    for _ in range(repeats):
        for name, kind in kinds.items():
            times[name].append(_seconds(kind, 20) * 1e6)
    return times


def throughput(repeats: int) -> dict[str, list[float]]:
    """Steps per second of bare stepping and of TRPO training, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["algo=trpo", "env=halfcheetah", "env.num_envs=8", f"run_dir={folder}/run", "evaluation.episodes=0"]
        run = trainer(resolve(overrides))
    actions = acted(run, run.collector.envs)
    envs = run.environment.make_vector()
    envs.reset(seed=0)
    rates: dict[str, list[float]] = {"stepping": [], "training": []}

    def step_all() -> None:
        for action in actions:
            envs.step(action)

    def update() -> None:
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, _ = run.agent.learn(run.state, batch, run.minibatches)

    step_all(), update()
    for _ in range(repeats):
        rates["stepping"].append(2048 / _seconds(step_all, 2))
        rates["training"].append(2048 / _seconds(update, 2))
    envs.close()
    run.collector.close()
    return rates


def acted(run: Trainer, envs: VectorEnv) -> list[np.ndarray]:
    """The policy's own actions over one rollout, so that bare stepping has the same work to do."""
    actions: list[np.ndarray] = []
    step = envs.step

    def keep(action: np.ndarray) -> object:
        actions.append(action.copy())
        return step(action)

    envs.step = keep
    run.collector.collect(run.agent.policy(run.state))
    envs.step = step
    return actions


def _seconds(f: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        f()
    return (time.perf_counter() - start) / count


def _ratio(a: list[float], b: list[float]) -> float:
    """Median of the ratios pair by pair, so that a drift of the machine falls out."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Costs of rlopt as ratios within one run.")
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    times, rates = products(5 if quick else 31), throughput(2 if quick else 15)
    print(f"{'product':<18}{'microseconds (median, range)':<34}{'in gradients':>14}{'in double backprops':>22}")
    for name, values in times.items():
        spread = f"{statistics.median(values):,.0f}  ({min(values):,.0f} to {max(values):,.0f})"
        against = f"{_ratio(values, times['gradient']):>14.2f}{_ratio(values, times['double backprop']):>22.2f}"
        print(f"{name:<18}{spread:<34}{against}")
    for name, values in rates.items():
        print(f"{name:<18}{statistics.median(values):,.0f} steps/s  ({min(values):,.0f} to {max(values):,.0f})")
    share = _ratio(rates["training"], rates["stepping"])
    print(f"training reaches {share:.0%} of the stepping rate")
    if not quick:
        data = {
            "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, 1 thread",
            "microseconds": times,
            "steps_per_second": rates,
            "ratios": {
                "MLPTape to gradient": _ratio(times["MLPTape"], times["gradient"]),
                "MLPTape to double backprop": _ratio(times["MLPTape"], times["double backprop"]),
                "training to stepping": share,
            },
        }
        (HERE / "results.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What the tape and the trainer cost, as ratios within one run: python experiments/speed/run.py [--quick]

Products, 17-64-64-6 tanh Gaussian policy, 2048 samples, float32, one thread:
    gradient        one autograd gradient of the surrogate (forward and backward), a list of tensors
    flat gradient   the same with respect to one flat theta, whose views the layers are
    double backprop Hessian-vector product of the mean KL, graph rebuilt every time
    MLPTape, AutogradTape   Fisher-vector product from a tape that stands
Throughput, HalfCheetah-v5, 8 environments, one process: TRPO training against the bare stepping of the same vector
environment by the policy's own actions and of Gymnasium's SyncVectorEnv as it comes, in turn.
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
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from torch import nn
from torch.func import functional_call

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

    def flat_gradient() -> None:
        leaf = theta.detach().requires_grad_()
        views = network.layout.views(leaf)
        normal = torch.distributions.Normal(functional_call(module, views, (inputs,)), views["constants"].exp())
        ratio = (normal.log_prob(actions).sum(1) - old).exp()
        torch.autograd.grad((ratio * advantages).mean(), leaf)

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
        "flat gradient": flat_gradient,
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
    plain = SyncVectorEnv([run.environment.make] * 8, autoreset_mode=AutoresetMode.SAME_STEP)
    plain.reset(seed=0)
    rates: dict[str, list[float]] = {"stepping": [], "stepping, Gymnasium's": [], "training": []}

    def step_all() -> None:
        for action in actions:
            envs.step(action)

    def step_plain() -> None:
        for action in actions:
            plain.step(action)

    def update() -> None:
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, _ = run.agent.learn(run.state, batch, run.minibatches)

    step_all(), step_plain(), update()
    for _ in range(repeats):
        rates["stepping"].append(2048 / _seconds(step_all, 2))
        rates["stepping, Gymnasium's"].append(2048 / _seconds(step_plain, 2))
        rates["training"].append(2048 / _seconds(update, 2))
    envs.close()
    plain.close()
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
        print(f"{name:<24}{statistics.median(values):,.0f} steps/s  ({min(values):,.0f} to {max(values):,.0f})")
    share, of_plain = (_ratio(rates["training"], rates[name]) for name in ("stepping", "stepping, Gymnasium's"))
    print(f"training reaches {share:.0%} of rlopt's own stepping rate, {of_plain:.0%} of Gymnasium's SyncVectorEnv")
    if not quick:
        data = {
            "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, 1 thread",
            "microseconds": times,
            "steps_per_second": rates,
            "ratios": {
                "MLPTape to gradient": _ratio(times["MLPTape"], times["gradient"]),
                "MLPTape to double backprop": _ratio(times["MLPTape"], times["double backprop"]),
                "MLPTape to flat gradient": _ratio(times["MLPTape"], times["flat gradient"]),
                "training to stepping": share,
                "training to Gymnasium's stepping": of_plain,
            },
        }
        (HERE / "results.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()

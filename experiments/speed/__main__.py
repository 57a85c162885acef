"""What the tape and the trainer cost, as ratios within one run: scripts/bench [--quick]

Products, 17-64-64-6 tanh Gaussian policy, 2048 samples, float32, one thread:
    gradient        one autograd gradient of the surrogate (forward and backward), a list of tensors
    flat gradient   the same with respect to one flat theta, whose views the layers are
    double backprop Hessian-vector product of the mean KL, graph rebuilt every time
    MLPTape, AutogradTape   Fisher-vector product from a tape that stands
    MLPTape, LayerNorm      the same of a network with LayerNorm before both activations
Throughput, HalfCheetah-v5, 8 environments, one process: TRPO training against the bare stepping of the same vector
environment by the policy's own actions and of Gymnasium's SyncVectorEnv as it comes, in turn.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from experiments._shared.building import make_trainer
from experiments.speed import report
from experiments.speed.setting import Setting, machine, microseconds, ratio, spread
from rlopt.core.curvature import PullBack
from rlopt.core.tapes.autograd import AutogradTape
from rlopt.parallel.processes import use_one_thread
from rlopt.training.trainer import Trainer


def products(repeats: int) -> dict[str, list[float]]:
    """Microseconds of each product, one value per repeat; the kinds take turns."""
    at = Setting()
    inputs, z, v = at.samples.inputs, at.tape.outputs, at.v
    fast = PullBack(at.tape, at.samples.share, at.head.fisher_product(z))
    general_tape = AutogradTape(at.module, at.network.layout, at.theta, inputs)
    general = PullBack(general_tape, at.samples.share, at.head.fisher_product(z))

    def double_backprop() -> None:
        normal = torch.distributions.Normal(at.module(inputs), at.log_sigma.exp())
        fixed = torch.distributions.Normal(normal.loc.detach(), normal.scale.detach())
        kl = torch.distributions.kl_divergence(fixed, normal).sum(1).mean()
        first = torch.autograd.grad(kl, at.parameters, create_graph=True)
        flat = torch.cat([g.reshape(-1) for g in first])
        torch.autograd.grad(torch.dot(flat, v), at.parameters)

    @torch.no_grad()
    def mlp_tape() -> None:
        fast.product(v)

    def autograd_tape() -> None:
        general.product(v)

    normed = Setting(layer_norm=True)
    with_norm = PullBack(normed.tape, normed.samples.share, normed.head.fisher_product(normed.tape.outputs))

    @torch.no_grad()
    def layer_norm() -> None:
        with_norm.product(normed.v)

    kinds = {
        "gradient": at.gradient,
        "flat gradient": at.flat_gradient,
        "double backprop": double_backprop,
        "MLPTape": mlp_tape,
        "MLPTape, LayerNorm": layer_norm,
        "AutogradTape": autograd_tape,
    }
    return microseconds(kinds, repeats)


def throughput(repeats: int) -> dict[str, list[float]]:
    """Steps per second of bare stepping and of TRPO training, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["algo=trpo", "env=halfcheetah", "env.num_envs=8", "workers=1", f"run_dir={folder}/run",
                     "evaluation.episodes=0"]  # fmt: skip
        run = make_trainer(overrides)
    actions = acted(run, run.collector.envs)
    envs = run.config.env.make_vector()
    envs.reset(seed=0)
    plain = SyncVectorEnv([run.config.env.make] * 8, autoreset_mode=AutoresetMode.SAME_STEP)
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


def main() -> None:
    options = report.parser("run", "Costs of rlopt as ratios within one run.").parse_args()
    if options.draw:
        return report.again("run")
    quick = options.quick
    use_one_thread()
    times, rates = products(5 if quick else 31), throughput(2 if quick else 15)
    print(f"{'product':<18}{'microseconds (median, range)':<34}{'in gradients':>14}{'in double backprops':>22}")
    for name, values in times.items():
        against = f"{ratio(values, times['gradient']):>14.2f}{ratio(values, times['double backprop']):>22.2f}"
        print(f"{name:<20}{spread(values):<34}{against}")
    for name, values in rates.items():
        print(f"{name:<24}{statistics.median(values):,.0f} steps/s  ({min(values):,.0f} to {max(values):,.0f})")
    share, of_plain = (ratio(rates["training"], rates[name]) for name in ("stepping", "stepping, Gymnasium's"))
    print(f"training reaches {share:.0%} of rlopt's own stepping rate, {of_plain:.0%} of Gymnasium's SyncVectorEnv")
    if not quick:
        data = {
            "machine": machine(),
            "microseconds": times,
            "steps_per_second": rates,
            "ratios": {
                "MLPTape to gradient": ratio(times["MLPTape"], times["gradient"]),
                "MLPTape to double backprop": ratio(times["MLPTape"], times["double backprop"]),
                "MLPTape to flat gradient": ratio(times["MLPTape"], times["flat gradient"]),
                "training to stepping": share,
                "training to Gymnasium's stepping": of_plain,
            },
        }
        report.keep("run", data)


if __name__ == "__main__":
    main()

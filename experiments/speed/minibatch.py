"""What a step of PPO on a minibatch costs, part by part: scripts/bench --only minibatch [--quick]

HalfCheetah's sizes: policy 17-64-64-6 and critic 17-64-64-1, tanh, float32, one thread; epochs of 32 minibatches of 64
with the clipped objective (the critic: squared error), identity metric and Adam on gradients of length 0.5 at most, as
algo=ppo has them. Every epoch starts from the same parameters. Times are the thread's own processor time per step.

A step's whole time is measured without clocks inside; then its parts are, by clocks around the functions that make
them. What no clock saw is checks, report and all else that lies between the parts.

To measure another checkout, run this file by its path with PYTHONPATH at that checkout.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import nn

from experiments.speed.setting import INPUTS, Setting
from rlopt.core.damping.constant import Constant
from rlopt.core.heads import Value
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.identity import Identity
from rlopt.core.network import Network
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.value import Value as ValueObjective
from rlopt.core.samples import Samples
from rlopt.core.solvers.identity import Identity as NoSolver
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.tapes.mlp import MLPTape
from rlopt.core.update import Update

try:
    from rlopt.core.tapes.array import ArrayTape

    BACKWARD: tuple[type, str] = (ArrayTape, "array_vjp")
except ImportError:  # of a version before it
    BACKWARD = (MLPTape, "vjp")

STEPS, SIZE = 32, 64
REST = "checks, report, all else"
ADAM = {"_target_": "torch.optim.Adam", "lr": 3e-4}
CONSTANT = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0}


class Epoch:
    """One network's epoch of minibatches, always from the same start."""

    def __init__(self, learner: Learner, theta: torch.Tensor, samples: Samples):
        self.learner, self.theta, self.samples = learner, theta, samples
        self.generator = torch.Generator().manual_seed(0)
        self.state = learner.init(theta)
        learner.run(theta.clone(), self.state, samples, self.generator, 1)  # from here on there are moments

    @classmethod
    def of_policy(cls) -> Epoch:
        at = Setting(STEPS * SIZE)
        return cls(learner(at.network, at.head, Clipped(0.2, 0.0)), at.theta, at.samples)

    @classmethod
    def of_critic(cls) -> Epoch:
        at = Setting(STEPS * SIZE)
        module = nn.Sequential(nn.Linear(INPUTS, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        network = Network(module)
        samples = Samples(at.samples.inputs, torch.randn(STEPS * SIZE, 1), at.samples.weight)
        return cls(learner(network, Value(), ValueObjective()), network.layout.flatten(module), samples)

    def run(self) -> float:
        """Microseconds a step of a whole epoch."""
        theta, state = self.theta.clone(), copy.deepcopy(self.state)
        whole = Clock()
        whole.around(self.learner.run)(theta, state, self.samples, self.generator, 1)
        return 1e6 * whole.total / STEPS

    def parts(self) -> dict[str, float]:
        """Microseconds a step of every part but the rest."""
        clocks = {name: Clock() for name in ("gather", "forward", "head, objective", "backward", "Adam")}
        update = self.learner.update
        seams: list[tuple[str, Any, str]] = [
            ("forward", Network, "tape"),
            ("head, objective", type(update.objective), "values_and_gradient"),
            ("backward", *BACKWARD),
            ("Adam", Optimizer, "step"),
        ]
        with ExitStack() as stack:
            for name, owner, method in seams:
                stack.enter_context(mock.patch.object(owner, method, clocks[name].around(getattr(owner, method))))
            along = clocks["gather"].along(Samples.minibatches)
            stack.enter_context(mock.patch.object(Samples, "minibatches", along))
            self.run()
        return {name: 1e6 * clock.total / STEPS for name, clock in clocks.items()}


class Clock:
    """Seconds of this thread's processor time within one function."""

    def __init__(self) -> None:
        self.total = 0.0

    def around(self, f: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*args: Any) -> Any:
            start = time.thread_time()
            result = f(*args)
            self.total += time.thread_time() - start
            return result

        return clocked

    def along(self, f: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def clocked(*args: Any) -> Iterator[Any]:
            items, end = f(*args), object()
            step = self.around(lambda: next(items, end))
            yield from iter(step, end)

        return clocked


def learner(network: Network, head: Any, objective: Any) -> Learner:
    adam = Optimizer(dict(ADAM), dict(CONSTANT), max_norm=0.5)
    update = Update(network, head, objective, Identity(), NoSolver(), Constant(0.0), adam)
    return Learner(update, Schedule(1, SIZE, None))


def main() -> None:
    parser = argparse.ArgumentParser(description="What a step of PPO on a minibatch costs, part by part.")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    rounds = 3 if parser.parse_args().quick else 30
    torch.set_num_threads(1)
    for name, epoch in {"policy": Epoch.of_policy(), "critic": Epoch.of_critic()}.items():
        whole = [epoch.run() for _ in range(rounds)]
        parts = [epoch.parts() for _ in range(rounds)]
        medians = {part: statistics.median(found[part] for found in parts) for part in parts[0]}
        total = statistics.median(whole)
        print(f"{name}: {total:.0f} microseconds a step ({min(whole):.0f} to {max(whole):.0f})")
        for part, value in {**medians, REST: total - sum(medians.values())}.items():
            print(f"    {part:<26}{value:>7.0f}")


if __name__ == "__main__":
    main()

"""The network that costs are measured on, its samples, and the two autograd gradients that are the units of cost."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn
from torch.func import functional_call

from rlopt.core.heads import DiagonalGaussian
from rlopt.core.network import Network
from rlopt.core.samples import Samples

INPUTS, ACTIONS = 17, 6  # HalfCheetah's


class Setting:
    """A tanh policy INPUTS-width-width-ACTIONS with state-independent scale, on ``count`` random samples."""

    def __init__(self, count: int = 2048, width: int = 64, device: str = "cpu", layer_norm: bool = False):
        torch.manual_seed(0)
        norm = [nn.LayerNorm(width)] if layer_norm else []
        hidden = [nn.Linear(INPUTS, width), *norm, nn.Tanh(), nn.Linear(width, width), *deepcopy(norm), nn.Tanh()]
        self.module = nn.Sequential(*hidden, nn.Linear(width, ACTIONS)).to(device)
        self.head = DiagonalGaussian(ACTIONS)
        self.network = Network(self.module, self.head.constants)
        self.theta = self.network.layout.flatten(self.module, self.head.initial_constants().to(device))
        self.log_sigma = nn.Parameter(torch.zeros(ACTIONS, device=device))
        self.parameters = [*self.module.parameters(), self.log_sigma]
        inputs = torch.randn(count, INPUTS).to(device)
        with torch.no_grad():
            z = self.network.outputs(self.theta, inputs)
            actions = self.head.sample(z, torch.randn(count, ACTIONS).to(device))
            old = self.head.log_prob(z, actions)
        advantages = torch.randn(count).to(device)
        self.samples = Samples(
            inputs, actions, torch.ones_like(old), advantages=advantages, old_outputs=z, old_log_prob=old
        )
        self.tape = self.network.tape(self.theta, inputs)
        self.v = torch.randn_like(self.theta)

    def gradient(self) -> None:
        """Of the surrogate, forward and backward, by a list of parameters."""
        with torch.enable_grad():
            loss = self._surrogate(self.module(self.samples.inputs), self.log_sigma)
            torch.autograd.grad(loss, self.parameters)

    def flat_gradient(self) -> None:
        """The same with respect to one flat theta, whose views the layers are."""
        with torch.enable_grad():
            leaf = self.theta.detach().requires_grad_()
            views = self.network.layout.views(leaf)
            loss = self._surrogate(functional_call(self.module, views, (self.samples.inputs,)), views["constants"])
            torch.autograd.grad(loss, leaf)

    def _surrogate(self, mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
        log_prob = torch.distributions.Normal(mean, log_sigma.exp()).log_prob(self.samples.actions).sum(1)
        return ((log_prob - self.samples.old_log_prob).exp() * self.samples.advantages).mean()


def microseconds(kinds: dict[str, Callable[[], object]], repeats: int, least: float = 2e-3) -> dict[str, list[float]]:
    """Of one call of each kind, once per repeat; the kinds take turns, quick ones often enough to last ``least`` s."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    counts = {}
    for name, kind in kinds.items():
        seconds(kind, 2)
        counts[name] = max(1, round(least / seconds(kind, 1)))
    for _ in range(repeats):
        for name, kind in kinds.items():
            kind()  # what the kind before has left in the caches is not its affair
            times[name].append(1e6 * seconds(kind, counts[name]))
    return times


def seconds(f: Callable[[], object], count: int) -> float:
    """Of this thread's processor time, so that other processes on the machine count only through the caches."""
    start = time.thread_time()
    for _ in range(count):
        f()
    return (time.thread_time() - start) / count


def machine() -> str:
    return f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} thread"


def ratio(a: list[float], b: list[float]) -> float:
    """Median of the ratios pair by pair, so that a drift of the machine falls out."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f}  ({min(values):,.0f} to {max(values):,.0f})"

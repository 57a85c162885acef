"""Random network distillation: an observation is new where a trained network fails to predict a random one.

    i(o) = mean over k of (f_k(x) - t_k(x))^2,     x = clip((o - mean) / std, -5, 5)

t is a network with random weights that stay, f learns to predict it on the observations that were seen. The intrinsic
reward of a transition is i of the observation that it led to, over the running standard deviation of the intrinsic
returns. These go on from one episode to the next: a non-episodic return does not punish the end of an episode, by which
something new is found. After a termination the next observation is the first of the episode that follows.

Source: Burda, Edwards, Storkey and Klimov (2018), Exploration by random network distillation, section 2 and
algorithm 1. Deviations: mean and std of observations, which begin with the first batch and not with a random agent,
have a batch in them before it is looked at; f and t are multilayer perceptrons; the predictor learns once a batch, from
a share of its transitions drawn anew each time, in place of random shares of the policy's minibatches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.core.checks import LARGEST, at_least_one, between, check, non_negative, positive
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.core.samples import to_device
from rlopt.policy.mlp import ACTIVATIONS, MLP
from rlopt.policy.normalisers import ObservationNormaliser, RewardScaler

_GAIN = 2**0.5  # of the orthogonal weights


@dataclass(frozen=True)
class RND:
    """The options, in the units that conf/exploration/rnd.yaml gives."""

    coefficient: float  # of the intrinsic advantages, >= 0
    gamma: float  # 0 to 1
    hidden: tuple[int, ...]
    predictor: tuple[int, ...]
    features: int
    activation: str
    clip: float  # standard deviations, > 0
    lr: float  # > 0
    epochs: int
    minibatch: int
    share: float  # above 0, at most 1

    def __post_init__(self) -> None:
        non_negative("coefficient", self.coefficient)
        between("gamma", self.gamma, 0, 1)
        for name in ("hidden", "predictor"):
            for width in getattr(self, name):
                at_least_one(name, width)
        for name in ("features", "epochs", "minibatch"):
            at_least_one(name, getattr(self, name))
        check(self.activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}", self.activation)
        positive("clip", self.clip)
        positive("lr", self.lr)
        check(0 < self.share <= 1, "share", "above 0, and at most 1", self.share)

    def of(self, size: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Novelty:
        """The target and the predictor of observations of ``size`` numbers, their weights drawn by ``generator``."""
        return Novelty(self, size, dtype, device, generator)


class Novelty:
    """How new observations are. Holds no state but the first: ``init`` gives it, and the others take and return one.

    | state        | is                                                                    |
    |---|---|
    | target       | (P,) the random network's parameters, which stay                      |
    | predictor    | (P',) those of the network that learns                                |
    | adam         | its moments and the number of its steps                               |
    | observations | running moments, of D numbers                                         |
    | returns      | running moments of the intrinsic returns, and (E,) the running returns |
    """

    def __init__(self, options: RND, size: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator):
        self.options, self.size = options, size
        self._device, self._dtype = device, dtype
        self._normaliser = ObservationNormaliser(True, options.clip, size=size)
        self._scaler = RewardScaler(True, LARGEST)
        space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.target, self.predictor = (
            Network(MLP(hidden, options.activation, True, _GAIN, _GAIN).build(space, options.features, generator))
            for hidden in (options.hidden, options.predictor)
        )

    def init(self, num_envs: int) -> State:
        thetas = {
            name: network.layout.flatten(network.module, torch.empty(0)).to(self._device, self._dtype)
            for name, network in (("target", self.target), ("predictor", self.predictor))
        }
        of_data = {"observations": self._normaliser.init(self.size), "returns": self._scaler.init(num_envs)}
        return {**thetas, "adam": {}, **of_data}

    def see(self, state: State, observations: Tensor) -> State:
        """State with raw observations (N, D) in its moments. Raises FloatingPointError where one is not finite."""
        return {**state, "observations": self._normaliser.merge(state["observations"], observations)}

    def whitened(self, state: State, observations: Tensor) -> Tensor:
        """x (..., D) of raw observations, of the networks' type."""
        return self._normaliser.apply(state["observations"], observations.to("cpu", self._dtype))

    @torch.no_grad()
    def errors(self, state: State, x: Tensor) -> Tensor:
        """i (N,) of whitened observations (N, D), on the host."""
        x = to_device(x, self._device)
        f, t = self.predictor.outputs(state["predictor"], x), self.target.outputs(state["target"], x)
        return ((f - t) ** 2).mean(1).cpu()

    def scaled(self, state: State, errors: Tensor) -> tuple[State, Tensor]:
        """State with errors [T, E] in the moments of intrinsic returns, and the errors over their deviation."""
        goes_on = torch.zeros(errors.shape, dtype=torch.bool)
        returns = self._scaler.merge(state["returns"], errors, goes_on, self.options.gamma)
        return {**state, "returns": returns}, self._scaler.apply(returns, errors)

    @torch.no_grad()
    def learn(self, state: State, x: Tensor, generator: torch.Generator) -> State:
        """State after the predictor's epochs over a share of whitened observations (N, D).

        ``generator`` draws the share and its minibatches.
        """
        o = self.options
        rows = torch.randperm(len(x), generator=generator)[: max(1, round(o.share * len(x)))]
        x = to_device(x[rows], self._device)
        wanted = self.target.outputs(state["target"], x)
        theta = nn.Parameter(state["predictor"].clone())
        adam = torch.optim.Adam([theta], lr=o.lr)
        if state["adam"]:
            adam.state[theta] = {name: moment.clone() for name, moment in state["adam"].items()}
        for _ in range(o.epochs):
            for at in torch.randperm(len(x), generator=generator).split(o.minibatch):
                at = to_device(at, self._device)
                tape = self.predictor.tape(theta.data, x[at])
                theta.grad = tape.vjp(2 / tape.outputs.numel() * (tape.outputs - wanted[at]))
                adam.step()
        moments: dict[str, Any] = adam.state[theta]
        return {**state, "predictor": theta.data, "adam": dict(moments)}

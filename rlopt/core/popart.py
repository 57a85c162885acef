"""PopArt: targets normalised by running statistics, values preserved (van Hasselt et al. 2016, section 2).

    V(x) = sigma z(x) + mu,   z(x) = w . h(x) + b      z learns from (target - mu) / sigma
    after each batch, with new mu', sigma':   w <- sigma / sigma' w,   b <- (sigma b + mu - mu') / sigma'

The second line leaves every V(x) as it was, to rounding. mu and sigma^2 are the mean and the variance of an
exponentially decayed average over batches,

    W <- d W + 1 - d,   m <- m + (1 - d) / W (mean(target) - m),   s likewise of target^2;   mu = m, sigma^2 = s - m^2

which is that of the first batch after one batch (the paper starts from 0 and 1). sigma is at least FLOOR sqrt(s), and
1 where all targets were 0. An optimizer's own averages stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.flat import Layout
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.core.samples import Samples
from rlopt.parallel.collectives import all_sums

UNSCALED: State = {"mean": 0.0, "square": 0.0}  # mu = 0 and sigma = 1
FLOOR = 1e-3  # of sigma, as a share of the root mean square of the targets


@dataclass(frozen=True)
class PopArt:
    """The statistics of a value's targets, and what follows from them; the state holds W, m and s.

    Options:
        decay: d, weight of the batches before; 0 or above, below 1. 0 takes the last batch alone.

    Source: van Hasselt, Guez, Hessel, Mnih and Silver 2016, Learning values across many orders of magnitude. Raises
    ValueError where it is out of its range.
    """

    decay: float

    def __post_init__(self) -> None:
        check(0 <= self.decay < 1, "decay", "0 or above, and below 1", self.decay)

    def init(self) -> State:
        return {"weight": 0.0, "mean": 0.0, "square": 0.0}

    def merge(self, state: State, samples: Samples) -> State:
        """State after the targets of a batch, ``samples.actions`` (B, 1), over all ranks."""
        targets, share = samples.actions[:, 0].double(), samples.share.double()
        mean, square = (float(x) for x in all_sums(torch.dot(share, targets), torch.dot(share, targets**2)))
        weight = self.decay * state["weight"] + 1 - self.decay
        gain = (1 - self.decay) / weight
        return {
            "weight": weight,
            "mean": state["mean"] + gain * (mean - state["mean"]),
            "square": state["square"] + gain * (square - state["square"]),
        }


def shift_and_scale(state: State) -> tuple[float, float]:
    """mu and sigma; 0 and 1 before the first batch."""
    mean, square = float(state["mean"]), float(state["square"])
    if not square > 0:
        return mean, 1.0
    return mean, max(square - mean**2, FLOOR**2 * square) ** 0.5


def to_values(state: State | None, z: Tensor) -> Tensor:
    """V = sigma z + mu; z itself where there is no state."""
    if state is None:
        return z
    shift, scale = shift_and_scale(state)
    return z * scale + shift


def to_outputs(state: State, samples: Samples) -> Samples:
    """A value's samples in the units of z: targets and old values less mu, over sigma."""
    shift, scale = shift_and_scale(state)
    actions, old = ((x - shift) / scale for x in (samples.actions, samples.old_outputs))
    found = samples.replacing(actions=actions, old_outputs=old)
    vars(found)["share"] = samples.share
    return found


def preserve_(theta: Tensor, layout: Layout, before: State, after: State) -> None:
    """Change the last layer in theta (P,) so that its values with the state ``after`` are those with ``before``."""
    (mu, sigma), (new_mu, new_sigma) = shift_and_scale(before), shift_and_scale(after)
    found = output_layer(layout)
    assert found is not None
    weight, bias = found
    theta[weight] *= sigma / new_sigma
    theta[bias] = (sigma * theta[bias] + (mu - new_mu)) / new_sigma


def output_layer(layout: Layout) -> tuple[slice, slice] | None:
    """Where theta has the weight (1, I) and the bias (1,) of the last layer with one output; None if it has none."""
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    for name in reversed(layout.names):
        bias = f"{name.removesuffix('weight')}bias"
        if len(shapes[name]) == 2 and shapes[name][0] == 1 and name.endswith("weight") and shapes.get(bias) == (1,):
            return layout.slices[name], layout.slices[bias]
    return None


@torch.no_grad()
def can_preserve(network: Network, theta: Tensor, width: int) -> bool:
    """Whether the last layer of a value's network, of rows (B, width), is what its output is linear in."""
    if output_layer(network.layout) is None:
        return False
    rows = torch.linspace(-1, 1, 3 * width).view(3, width).to(theta)
    before, after = {"mean": 0.5, "square": 1.0}, {"mean": -3.0, "square": 25.0}
    moved = theta.clone()
    preserve_(moved, network.layout, before, after)
    V, then = (to_values(state, network.outputs(at, rows)[:, 0]) for state, at in ((before, theta), (after, moved)))
    return bool(((V - then).abs() <= 1e-4 * (1 + V.abs())).all())

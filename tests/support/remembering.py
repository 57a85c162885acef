"""Networks with memory at a random theta, rows with episodes that begin inside sequences, and a loop that knows no tape."""

from __future__ import annotations

from itertools import zip_longest

import gymnasium as gym
import torch
from torch import Tensor

from rlopt.core.network import Network
from rlopt.policy.mlp import MLP
from rlopt.policy.recurrent import Memory
from tests.support.oracles import randn, seeded

UNITS, SEEN, SEQUENCES, LENGTH = 4, 3, 3, 5
KINDS = ["gru", "lstm"]


def network(kind: str, outputs: int, constants: int = 0, hidden: tuple[int, ...] = (6,), silu: bool = False) -> Network:
    """SEEN numbers - hidden tanh - UNITS units - outputs, float64.

    With ``silu`` every layer but the last of ``hidden`` is normalised, and silu follows: no written-out tape serves it.
    """
    space = gym.spaces.Box(-1, 1, (SEEN,))
    encoder = MLP(hidden, "silu" if silu else "tanh", bias=True, gain=1.0, last_gain=1.0, layer_norm=silu)
    module = Memory(kind, UNITS, 1.0, 8.0).behind_mlp(encoder, space, outputs, seeded(0)).double()
    module.sequence_length = LENGTH
    return Network(module, constants)


def rows(kind: str, sequences: int = SEQUENCES, seed: int = 0) -> Tensor:
    """Rows in whole sequences; an episode begins inside the first and the last one, one step after another in the last.

    The memory of rows that do not start anew is noise, which nobody may read.
    """
    memory = UNITS * (2 if kind == "lstm" else 1)
    made = randn(sequences * LENGTH, SEEN + 1 + memory, seed=seed)
    made[:, SEEN] = 0
    made[::LENGTH, SEEN] = 1
    for at in (2, -3, -2):
        made[at, SEEN], made[at, SEEN + 1 :] = 1, 0
    return made


def encoded(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """What the encoder makes of x (SEEN,): matrices between tanhs, or with normalised layers between silus."""
    weights = [name for name in p if name.startswith("encoder") and name.endswith("weight")]
    silu = any(p[name].ndim == 1 for name in weights)
    for name, after in zip_longest(weights, weights[1:]):
        shift = p[name.replace("weight", "bias")]
        if p[name].ndim == 2:
            x = p[name] @ x + shift
        else:
            x = (x - x.mean()) / ((x - x.mean()).square().mean() + 1e-5).sqrt() * p[name] + shift
        if after is None or p[after].ndim == 2:
            x = x / (1 + (-x).exp()) if silu else torch.tanh(x)
    return x


def written_out(kind: str, net: Network, theta: Tensor, given: Tensor) -> Tensor:
    """z (B, O) row by row: sums and products of scalars' own equations, no module and no tape."""
    p = net.layout.views(theta)
    found, h, c = [], theta.new_zeros(UNITS), theta.new_zeros(UNITS)
    for row in given:
        x, start, memory = row[:SEEN], row[SEEN], row[SEEN + 1 :]
        if start == 1:
            h, c = memory[:UNITS], memory[UNITS:]
        x = encoded(p, x)
        a, b = p["inputs.weight"] @ x + p["inputs.bias"], p["hidden.weight"] @ h
        if kind == "gru":
            (ar, au, an), (br, bu, bn) = a.split(UNITS), b.split(UNITS)
            r, u = 1 / (1 + (-ar - br).exp()), 1 / (1 + (-au - bu).exp())
            h = u * h + (1 - u) * torch.tanh(an + r * bn)
        else:
            i, f, o, g = (a + b).split(UNITS)
            c = c / (1 + (-f).exp()) + torch.tanh(g) / (1 + (-i).exp())
            h = torch.tanh(c) / (1 + (-o).exp())
        z = p["outputs.weight"] @ h + p["outputs.bias"]
        found.append(torch.cat([z, p["constants"]]) if "constants" in p else z)
    return torch.stack(found)

"""Features phi(s) of a state: monomials of the observation, or the last hidden layer of the critic's network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.network import Network


def check_degrees(degrees: tuple[int, ...] | None) -> None:
    """Raise ValueError unless these are distinct degrees, 0 or above, or None."""
    sound = degrees is None or (len(degrees) > 0 and min(degrees) >= 0 and len(set(degrees)) == len(degrees))
    check(sound, "degrees", "null or a list of different whole numbers, 0 or above, such as [0,1,2]", degrees)


def state_features(degrees: tuple[int, ...] | None, network: Network, theta: Tensor, inputs: Tensor) -> Tensor:
    """(N, n) phi at inputs (N, ...): all monomials of these degrees, or None: the last hidden layer and a constant."""
    if degrees is not None:
        return monomials(inputs.flatten(1), degrees)
    tape = network.tape(theta, inputs)
    (a,) = tape.layers(torch.ones_like(tape.outputs)[None])[-1].inputs.unbind(1)
    return a


def monomials(x: Tensor, degrees: Sequence[int]) -> Tensor:
    """(N, D) -> (N, n): the products of every d columns, repetition allowed, for every degree d."""
    columns = [
        x[:, list(chosen)].prod(1) for d in degrees for chosen in combinations_with_replacement(range(x.shape[1]), d)
    ]
    return torch.stack(columns, 1)

"""Random numbers of environments, in torch's operators: each is a function of seed, environment and index alone.

So it does not matter which environments share a process, nor what was drawn before. The generator is Philox4x32-10
(Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3): ten rounds of

    (x0, x1, x2, x3) <- (hi(M1 x2) ^ x1 ^ k0, lo(M1 x2), hi(M0 x0) ^ x3 ^ k1, lo(M0 x0))

on a counter of four 32-bit words, with a key of two that grows by a constant each round. Index n of environment e is
word n mod 4 of the counter (n // 4, e, purpose), of which n // 4 takes two words. Words are kept in int64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF  # the lower 32 bits
_ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """The four words for a counter of four words; tensors (...) of int64 that hold 0 to 2^32 - 1."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]  # they wrap around, as products of 64 bits do
        x0, x1 = ((p1 >> 32) ^ x1 ^ k0) & _LOW, p1 & _LOW
        x2, x3 = ((p0 >> 32) ^ x3 ^ k1) & _LOW, p0 & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW, (k1 + _KEY_STEPS[1]) & _LOW
    return x0, x1, x2, x3


@dataclass(frozen=True)
class Noise:
    """Numbers for environments ``first``, ``first`` + 1, ...; another ``purpose`` has others."""

    seed: int
    first: int
    count: int  # environments
    device: torch.device
    purpose: int = 0

    def draw(self, kind: str, first: int, rows: int, size: int, dtype: torch.dtype) -> Tensor:
        """Rows ``first``, ``first`` + 1, ... of ``size`` numbers for every environment: (rows, E, size).

        ``kind`` is uniform, within (0, 1), or normal.
        """
        words = self._words(first * size, rows * size).view(rows, size, self.count).transpose(1, 2)
        if kind == "uniform":  # 23 bits and a half: neither 0 nor 1 in float32
            return ((words >> 9).to(dtype) + 0.5).mul_(2.0**-23).contiguous()
        return torch.special.ndtri((words.double() + 0.5).mul_(2.0**-32)).to(dtype).contiguous()

    def _words(self, first: int, count: int) -> Tensor:
        """Indices ``first`` to ``first`` + count - 1 of every environment: (count, E)."""
        block, end = first // 4, -(-(first + count) // 4)
        index = torch.arange(block, end, device=self.device)[:, None]
        numbers = torch.arange(self.first, self.first + self.count, device=self.device)
        index, numbers = torch.broadcast_tensors(index, numbers)
        purpose = torch.full_like(index, self.purpose)
        words = torch.stack(philox((index & _LOW, index >> 32, numbers, purpose), self._key), 1)
        return words.flatten(0, 1)[first - 4 * block :][:count]

    @property
    def _key(self) -> tuple[int, int]:
        k0, k1 = np.random.SeedSequence(self.seed).generate_state(2).tolist()
        return k0, k1

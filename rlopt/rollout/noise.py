"""Action noise of a rollout's environments: independent from step to step, or correlated over time.

Correlated noise (Hollenstein, Martius and Piater 2024, Colored noise in PPO) has the power spectrum f^-color: 0 is
white, 1 pink, 2 red. A block of N steps is white noise w (N,) sent through a filter in the frequencies f_k = k / N
(Timmer and Koenig 1995):

    y = F^-1 (a o F w),   a_k ~ f_k^(-color / 2),   a_0 = a_1,   mean over all N frequencies of a_k^2 = 1

So each y_t alone is a standard normal number, as each w_t is, and what a head makes of it has the policy's distribution
at every single step; where a head takes uniform noise, y goes through the normal distribution function. Successive
actions are correlated. **Learning takes no notice of that**: the log-probability of an action is that of the policy
given the observation, as if the steps were independent. It is exact for one action, and leaves out what the
observation, which the last actions led to, tells of the noise that is going on.

Noise does not depend on what an environment returns. Every environment has a generator and blocks of its own, which
go on from rollout to rollout, and over the ends of episodes. Their state is that of the generator before the block, and
how many steps of the block are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlopt.config.groups import NoiseOptions
from rlopt.core.heads import Head
from rlopt.rollout.seeding import Purpose, draw_noise, sequence

WHITE = NoiseOptions(color=0.0, block=1)


def amplitudes(color: float, block: int) -> np.ndarray:
    """(N // 2 + 1,) a_k, the filter's amplitudes for blocks of N steps."""
    f = np.fft.rfftfreq(block)
    f[0] = f[1]
    a = f ** (-color / 2)
    both = np.full(len(f), 2.0)  # each frequency stands for itself and its negative
    both[0] = 1
    if block % 2 == 0:
        both[-1] = 1
    found: np.ndarray = a / np.sqrt(both @ a**2 / block)
    return found


def filtered(white: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Blocks (N, size) of white noise, each column with the amplitudes a (N // 2 + 1,)."""
    return np.fft.irfft(np.fft.rfft(white, axis=0) * a[:, None], len(white), axis=0)


class ActionNoise:
    """The noise of the environments with these ``numbers``, of which it alone, with ``seed``, depends."""

    def __init__(
        self, seed: int, numbers: Sequence[int], head: Head, dtype: torch.dtype, options: NoiseOptions = WHITE
    ):
        self._head, self._dtype, self._block = head, dtype, options.block
        self._amplitudes = amplitudes(options.color, options.block) if options.color else None
        self._generators = [np.random.default_rng(sequence(seed, Purpose.ACTION, e)) for e in numbers]
        self._blocks: list[np.ndarray] = [np.empty((0, 0))] * len(numbers)
        self._used = [options.block] * len(numbers)  # steps of each block
        self._before: list[dict[str, Any]] = [{}] * len(numbers)  # states of the generators before these

    def draw(self, steps: int) -> Tensor:
        """[T, E, noise_size] for the next ``steps`` steps."""
        head = self._head
        if self._amplitudes is None:
            return draw_noise(self._generators, head.noise, steps, head.noise_size, self._dtype, head.hold)
        out = np.empty((steps, len(self._generators), head.noise_size))
        for e in range(len(self._generators)):
            t = 0
            while t < steps:
                if self._used[e] == self._block:
                    self._begin_block(e)
                count = min(steps - t, self._block - self._used[e])
                out[t : t + count, e] = self._blocks[e][self._used[e] : self._used[e] + count]
                self._used[e] += count
                t += count
        noise = torch.from_numpy(out)
        if head.noise == "normal":
            return noise.to(self._dtype)
        below_1 = 1 - torch.finfo(self._dtype).eps
        return torch.special.ndtr(noise).to(self._dtype).clamp_(max=below_1)

    def states(self) -> list[tuple[dict[str, Any], int | None]]:
        """Of every environment: the state of its generator, and steps used of the block that it begins, if any."""
        if self._amplitudes is None:
            return [(dict(generator.bit_generator.state), None) for generator in self._generators]
        return [(dict(state), used) for state, used in zip(self._before, self._used, strict=True)]

    def restore(self, e: int, state: dict[str, Any], used: int | None) -> None:
        """Bring the e-th environment's noise to a state of `states`. Raises ValueError where it is none."""
        self._generators[e].bit_generator.state = state
        if self._amplitudes is None:
            return
        if not isinstance(used, int) or not 0 <= used <= self._block:
            raise ValueError(f"{used} steps of a block of noise of {self._block} are used")
        self._begin_block(e)
        self._used[e] = used

    def restart(self, e: int, seed: int, number: int) -> None:
        """Give the e-th environment noise of another seed."""
        self._generators[e] = np.random.default_rng(sequence(seed, Purpose.ACTION, number))
        self._used[e] = self._block

    def _begin_block(self, e: int) -> None:
        assert self._amplitudes is not None
        generator = self._generators[e]
        self._before[e] = dict(generator.bit_generator.state)
        white = generator.standard_normal((self._block, self._head.noise_size))
        self._blocks[e], self._used[e] = filtered(white, self._amplitudes), 0

"""Seeds: one numpy SeedSequence per run, one child of it for each purpose and each environment's number.

So neither the number of workers nor the number of ranks changes the seeds or the noise of an environment.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a stream of random numbers is for. The numbers are part of a run's identity: never reuse one."""

    ENVIRONMENT = 0
    ACTION = 1
    ACTOR_WEIGHTS = 2
    CRITIC_WEIGHTS = 3
    MINIBATCHES = 4
    EVALUATION_ENVIRONMENT = 5
    EVALUATION_ACTION = 6
    INSPECTION = 7  # a seed of its own, from which all purposes of an inspection are drawn
    RESUMED = 8  # likewise, for the environments that a resumed run cannot restore
    EXPLORATION = 9  # weights of what measures novelty
    INTRINSIC_WEIGHTS = 10  # of the critic of intrinsic rewards
    OPPONENT = 11  # actions of a frozen policy in self-play


def sequence(seed: int, purpose: Purpose, index: int = 0) -> np.random.SeedSequence:
    """The child of ``seed`` for this purpose and index."""
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), index))


def integer(seed: int, purpose: Purpose, index: int = 0) -> int:
    """A seed in [0, 2^31), for libraries that take an integer."""
    return int(sequence(seed, purpose, index).generate_state(1)[0] >> 1)


def torch_generator(seed: int, purpose: Purpose) -> torch.Generator:
    """A torch generator for this purpose, on the CPU."""
    return torch.Generator().manual_seed(integer(seed, purpose))


def draw_noise(
    generators: list[np.random.Generator], kind: str, steps: int, size: int, dtype: torch.dtype, hold: int | None = 1
) -> torch.Tensor:
    """Action noise [T, E, size] of a head's ``kind``: each environment's generator draws one column.

    A draw lasts for ``hold`` steps, from the first on; None: for all of them.
    """
    if hold != 1:
        drawn = draw_noise(generators, kind, -(-steps // (hold or steps)), size, dtype)
        return drawn.repeat_interleave(hold or steps, 0)[:steps]
    numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
    out = np.empty((steps, len(generators), size), numpy_dtype)
    for e, generator in enumerate(generators):
        draw = generator.standard_normal if kind == "normal" else generator.random
        out[:, e] = draw((steps, size), dtype=numpy_dtype)
    return torch.from_numpy(out)

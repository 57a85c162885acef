"""Seeds: a stream of random numbers for every purpose and number, which stays the same."""

import numpy as np
import torch

from rlopt.rollout.seeding import Purpose, integer, sequence, torch_generator


def test_no_two_purposes_seeds_or_indices_share_a_stream():
    streams = [(s, p, i) for s in range(3) for p in Purpose for i in range(20)]
    assert len({integer(*stream) for stream in streams}) == len(streams)
    draws = {np.random.default_rng(sequence(*stream)).random() for stream in streams}
    assert len(draws) == len(streams)
    assert len({torch.rand((), generator=torch_generator(s, p)).item() for s in range(3) for p in Purpose}) == 3 * len(
        Purpose
    )


def test_a_purpose_keeps_its_number_and_so_a_seed_its_run():
    numbers = {
        "ENVIRONMENT": 0,
        "ACTION": 1,
        "ACTOR_WEIGHTS": 2,
        "CRITIC_WEIGHTS": 3,
        "MINIBATCHES": 4,
        "EVALUATION_ENVIRONMENT": 5,
        "EVALUATION_ACTION": 6,
    }
    assert numbers.items() <= {p.name: int(p) for p in Purpose}.items()
    assert [integer(0, Purpose.ENVIRONMENT, e) for e in range(2)] == [2044266242, 1790637272]

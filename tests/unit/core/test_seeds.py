"""A generator follows from its numbers, all of them and in their order."""

import numpy as np
import torch

from rlopt.core.seeds import seeded


def test_a_generator_is_that_of_numpys_seed_sequence():
    seed = int(np.random.SeedSequence((3, 0, 7)).generate_state(1, np.uint64)[0])
    expected = torch.rand(5, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.rand(5, generator=seeded(3, 0, 7)), expected)


def test_other_numbers_give_another_one():
    numbers = [(0,), (1,), (0, 1), (1, 1), (0, 1, 1)]
    draws = {float(torch.rand((), generator=seeded(*each))) for each in numbers}
    assert len(draws) == len(numbers)
    assert seeded(1, 0).initial_seed() == seeded(1).initial_seed()

"""Arrays in the memory of tensors."""

import torch

from rlopt.core.arrays import add_one_, squared_length


def test_a_squared_length_of_any_size_is_that_of_torch():
    for size in (1, 8192, 20_001):
        x = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert abs(squared_length(x) / float(torch.dot(x, x)) - 1) < 1e-12


def test_one_is_added_in_place():
    x = torch.tensor(2.0)
    assert add_one_(x) is x and float(x) == 3

"""Philox4x32-10 against its authors' known answers, and the numbers made of it against their distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from rlopt.envs.tensor.philox import Noise, philox
from tests.support.tensors import CPU

# Random123's kat_vectors: counter, key -> words
KNOWN = [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_its_authors_known_answers(counter, key, words):
    found = philox(tuple(torch.tensor([x]) for x in counter), tuple(key))
    assert [int(x) for x in found] == words


def noise(first=0, count=40, purpose=0, seed=7):
    return Noise(seed, first, count, CPU, purpose)


@pytest.mark.parametrize(("kind", "cdf"), [("uniform", "uniform"), ("normal", "norm")])
def test_numbers_have_their_distribution(kind, cdf):
    """Over all, of each environment and of each row; 40 environments, 3 numbers of 1,000 rows."""
    x = noise().draw(kind, 5, 1000, 3, torch.float64).numpy()
    assert stats.kstest(x.ravel(), cdf).pvalue > 1e-3
    of_each = [stats.kstest(x[:, e].ravel(), cdf).pvalue for e in range(40)]
    of_rows = [stats.kstest(x[t].ravel(), cdf).pvalue for t in range(0, 1000, 10)]
    for values in (of_each, of_rows):  # which are themselves uniform
        assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_neighbours_are_not_correlated():
    """In time, among an action's numbers, among environments and between purposes."""
    x = noise(count=64).draw("normal", 0, 2000, 2, torch.float64).numpy()
    other = noise(count=64, purpose=1).draw("normal", 0, 2000, 2, torch.float64).numpy()
    pairs = [(x[1:], x[:-1]), (x[..., 0], x[..., 1]), (x[:, 1:], x[:, :-1]), (x, other), (x[1:], x[:-1] ** 2)]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 3, 4, 6])
def test_a_number_depends_on_its_environment_and_row_alone(dtype, size):
    whole = noise().draw("uniform", 0, 50, size, dtype)
    assert whole.shape == (50, 40, size) and whole.dtype == dtype
    part = noise(first=11, count=7).draw("uniform", 13, 20, size, dtype)
    assert torch.equal(part, whole[13:33, 11:18])


def test_seeds_and_purposes_have_other_numbers():
    drawn = [noise(seed=s, purpose=p).draw("uniform", 0, 9, 2, torch.float64) for s in (0, 1) for p in (0, 1)]
    assert len({float(x[0, 0, 0]) for x in drawn}) == 4


def test_uniform_numbers_are_within_their_bounds():
    """Also in float32, where 1 - 2^-25 would be 1: none of them has an infinite normal number."""
    largest = torch.tensor([2**32 - 1, 0])
    assert ((largest >> 9).float() + 0.5).mul(2.0**-23).tolist() == [1 - 2**-24, 2**-24]


def test_large_indices_have_their_own_numbers():
    """Row 2^34 is in the second word of the counter."""
    far = noise().draw("uniform", 2**34, 2, 4, torch.float64)
    assert not torch.equal(far, noise().draw("uniform", 0, 2, 4, torch.float64))

import pytest
import torch

from rlopt.core.curvature import Given
from rlopt.core.spectrum import ritz_values
from tests.support.oracles import randn


def matrix(eigenvalues: list[float], seed: int = 0) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues."""
    Q, _ = torch.linalg.qr(randn(len(eigenvalues), len(eigenvalues), seed=seed))
    return Q @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ Q.t()


def found(A: torch.Tensor, products: int = 100) -> torch.Tensor:
    return ritz_values(Given(A), A[0], products, seed=0)


@pytest.mark.parametrize(
    "eigenvalues",
    [
        [3.0],
        [5.0, 3.0, 2.0, 1.0, 0.1, 1e-4],
        [7.0, 2.0, 0.5, 0.0, 0.0, 0.0, 0.0],
        [4.0, -3.0, 1.0, -0.5, 0.0, 0.25],
        [-1.0, -2.0, -4.0],
    ],
    ids=str,
)
def test_enough_products_find_every_distinct_eigenvalue_but_0(eigenvalues):
    wanted = torch.tensor(sorted({v for v in eigenvalues if v}), dtype=torch.float64)
    torch.testing.assert_close(found(matrix(eigenvalues)), wanted, rtol=1e-8, atol=1e-12)


def test_equal_eigenvalues_are_found_once():
    wanted = torch.tensor([2.0, 6.0], dtype=torch.float64)
    torch.testing.assert_close(found(matrix([2.0, 2.0, 2.0, 6.0, 6.0, 0.0])), wanted)
    torch.testing.assert_close(found(torch.eye(4, dtype=torch.float64)), torch.ones(1, dtype=torch.float64))


def test_of_a_zero_matrix_there_is_none():
    assert found(torch.zeros(5, 5, dtype=torch.float64)).numel() == 0


@pytest.mark.parametrize("products", [1, 3, 8, 20])
def test_few_products_give_values_between_extreme_eigenvalues(products):
    eigenvalues = [10 * 0.7**i for i in range(30)] + [0.0] * 20
    mu = found(matrix(eigenvalues), products)
    assert len(mu) == products
    assert eigenvalues[29] * (1 - 1e-9) <= float(mu[0]) and float(mu[-1]) <= 10 * (1 + 1e-9)
    if products == 20:
        torch.testing.assert_close(mu[-3:].flip(0), torch.tensor(eigenvalues[:3], dtype=torch.float64))


def test_the_seed_alone_decides():
    A = matrix([10 * 0.7**i for i in range(30)])
    assert torch.equal(found(A, 5), found(A, 5))
    assert not torch.equal(found(A, 5), ritz_values(Given(A), A[0], 5, seed=1))

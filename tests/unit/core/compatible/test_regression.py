"""The compatible critics' equations, by parameters and by samples, against the dense normal equations."""

import pytest
import torch

from rlopt.core.checks import NumericalFailure
from rlopt.core.compatible.regression import GivenScores, SampleScores, removed, solve
from tests.support.experiences import made, scores
from tests.support.oracles import close, randn


def same(u: torch.Tensor) -> torch.Tensor:
    return u


def share(B: int) -> torch.Tensor:
    weight = randn(B, seed=3).abs()
    return weight / weight.sum()


@pytest.mark.parametrize(("B", "P"), [(12, 4), (4, 12)], ids=["by parameters", "by samples"])
@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_both_forms_are_the_ridge_regression(B, P, ridge):
    psi, y, d = randn(B, P, seed=1), randn(B, seed=2), share(B)
    F = psi.T @ (d[:, None] * psi)
    rho = ridge * F.trace() * (d @ d)  # the shares come to 1
    wanted = torch.linalg.solve(F + rho * torch.eye(P).double(), psi.T @ (d * y))
    assert close(solve(GivenScores(psi), d, same, y, ridge), wanted, 1e-9)


@pytest.mark.parametrize(("B", "P"), [(12, 4), (4, 12)], ids=["by parameters", "by samples"])
def test_a_ridge_has_no_unit_and_fades_with_more_samples(B, P):
    """Scores of another unit, shares of another sum, rows that do not count: the same fit. Twice the data: half rho."""
    psi, y, d = randn(B, P, seed=1), randn(B, seed=2), share(B)
    usual = solve(GivenScores(psi), d, same, y, 0.5)
    assert close(1e3 * solve(GivenScores(1e3 * psi), d, same, y, 0.5), usual, 1e-9)
    assert close(solve(GivenScores(psi), 7 * d, same, y, 0.5), usual, 1e-9)
    masked = torch.cat([d, torch.zeros(3).double()])
    more = GivenScores(torch.cat([psi, randn(3, P, seed=8)]))
    assert close(solve(more, masked, same, torch.cat([y, randn(3, seed=9)]), 0.5), usual, 1e-9)
    twice = GivenScores(torch.cat([psi, psi]))
    assert close(solve(twice, torch.cat([d, d]) / 2, same, torch.cat([y, y]), 1.0), usual, 1e-9)


@pytest.mark.parametrize(("B", "P"), [(12, 4), (4, 12)])
def test_without_a_ridge_w_is_the_shortest_solution(B, P):
    psi, y, d = randn(B, P, seed=1), randn(B, seed=2), share(B)
    root = d.sqrt()
    wanted = torch.linalg.lstsq(root[:, None] * psi, (root * y)[:, None], driver="gelsd").solution[:, 0]
    assert close(solve(GivenScores(psi), d, same, y, 0.0), wanted, 1e-8)


@pytest.mark.parametrize(("B", "P"), [(12, 4), (4, 12)])
def test_what_the_features_explain_has_no_part_in_w(B, P):
    """By both forms: a target that is linear in the features is removed altogether."""
    psi, d, features = randn(B, P, seed=1), share(B), randn(B, 2, seed=4)
    residual = removed(features, features, d)
    assert float(solve(GivenScores(psi), d, residual, features @ randn(2, seed=5), 1e-2).norm()) < 1e-10
    y = randn(B, seed=6)
    assert close(
        solve(GivenScores(psi), d, residual, y + features[:, 0], 1e-2),
        solve(GivenScores(psi), d, residual, y, 1e-2),
        1e-9,
    )


def test_what_is_left_is_orthogonal_to_repeated_features():
    d, features = share(9), randn(9, 2, seed=4)
    twice = torch.cat([features, features[:, :1]], 1)
    left = removed(twice, twice, d)(randn(9, 3, seed=5))
    assert float((twice.T @ (d[:, None] * left)).norm()) < 1e-12


def test_scores_of_samples_are_those_of_the_rows():
    case, experience = made()
    _, s = case.head.log_prob_and_score(case.tape.outputs, experience.samples.actions)
    rows = torch.from_numpy(scores(case))
    found, u = SampleScores(case.tape, s), randn(len(rows), seed=7)
    assert found.shape == rows.shape
    assert close(found.rows(), rows, 1e-11) and close(found.gram(), rows @ rows.T, 1e-11)
    assert close(found.pull(u), rows.T @ u, 1e-11)


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_equations_with_a_number_that_is_not_finite_fail(ridge):
    psi = randn(5, 3, seed=1)
    psi[0, 0] = torch.nan
    with pytest.raises(NumericalFailure, match="the compatible critic's equations"):
        solve(GivenScores(psi), share(5), same, randn(5, seed=2), ridge)

"""A metric given as a matrix, in whatever form, or refused."""

import numpy as np
import pytest
from torch import Tensor

from rlopt.core.metrics.mahalanobis import Mahalanobis
from tests.support.metrics import bind
from tests.support.oracles import TAPES, close, eye, make_case, randn


def positive(size: int) -> Tensor:
    A = randn(size, size, seed=8)
    return A @ A.T / size + 0.1 * eye(size)


def numbers(x: Tensor) -> tuple:
    return tuple(numbers(row) for row in x) if x.ndim else float(x)


@pytest.fixture
def save(tmp_path):
    def save(*arrays: Tensor, **named: Tensor) -> str:
        path = tmp_path / ("A.npz" if named else "A.npy")
        if named:
            np.savez(path, **{k: v.numpy() for k, v in named.items()})
        else:
            np.save(path, arrays[0].numpy())
        return str(path)

    return save


@pytest.mark.parametrize("tape", TAPES)
def test_mahalanobis_is_the_matrix_given_in_whatever_form(save, tape):
    case = make_case("sigma", tape, hidden=())
    P = len(case.theta)
    A, d, F = positive(P), randn(P).abs() + 0.1, randn(P, 2, seed=1)
    forms = [
        (lambda: Mahalanobis(None, None, None), eye(P)),
        (lambda: Mahalanobis(3.0, None, None), 3 * eye(P)),
        (lambda: Mahalanobis(numbers(d), None, None), d.diag()),
        (lambda: Mahalanobis(None, numbers(A), None), A),
        (lambda: Mahalanobis(0.5, numbers(A), None), A + 0.5 * eye(P)),
        (lambda: Mahalanobis(None, None, save(A)), A),
        (lambda: Mahalanobis(None, None, save(d)), d.diag()),
        (lambda: Mahalanobis(0.5, None, save(F)), F @ F.T + 0.5 * eye(P)),
        (lambda: Mahalanobis(None, None, save(factor=F, diagonal=d)), F @ F.T + d.diag()),
        (lambda: Mahalanobis(numbers(d), None, save(factor=F, matrix=A)), F @ F.T + A + d.diag()),
        (lambda: Mahalanobis(None, None, save(A.float())), A.float().double()),
    ]
    v = randn(P, seed=2)
    for make, M in forms:
        curvature, state = bind(make(), case)
        assert state == {}
        assert close(curvature.dense(), M, 1e-12)
        assert close(curvature.product(v), M @ v, 1e-12)


def test_mahalanobis_is_read_once(save, tmp_path):
    case = make_case("sigma", hidden=())
    A = positive(len(case.theta))
    metric = Mahalanobis(None, None, save(A))
    (tmp_path / "A.npy").unlink()
    assert close(bind(metric, case)[0].dense(), A, 1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda s: Mahalanobis(0.0, None, None), "diagonal must be above 0 everywhere; got 0.0"),
        (lambda s: Mahalanobis([1.0, -2.0], None, None), "diagonal must be above 0 everywhere; got -2.0"),
        (lambda s: Mahalanobis([1.0, float("nan")], None, None), "diagonal must be finite numbers"),
        (lambda s: Mahalanobis("two", None, None), "diagonal must be numbers"),
        (lambda s: Mahalanobis([[1.0]], None, None), "diagonal must be a number or a list of them"),
        (
            lambda s: Mahalanobis(None, ((1.0, 2.0), (2.0, 1.0)), None),
            "positive definite; got 'smallest eigenvalue -1'",
        ),
        (lambda s: Mahalanobis(None, ((1.0, 0.5), (0.0, 1.0)), None), "symmetric; got 'a difference of 0.5'"),
        (lambda s: Mahalanobis(None, ((1.0, 0.5),), None), r"square; got 'shape \(1, 2\)'"),
        (lambda s: Mahalanobis(None, ((1.0,), (1.0, 2.0)), None), "matrix must be numbers in rows of one length"),
        (lambda s: Mahalanobis([1.0, 1.0, 1.0], ((1.0, 0.0), (0.0, 1.0)), None), "of 2 rows, as the matrix; got 3"),
        (lambda s: Mahalanobis(None, None, s(randn(3, 2))), "above 0 everywhere beside a factor of low rank; got 0.0"),
        (lambda s: Mahalanobis(None, ((1.0,),), s(matrix=eye(1))), "matrix must be null beside file="),
        (lambda s: Mahalanobis(None, None, s(metric=eye(1))), "name must be diagonal, matrix or factor; got 'metric'"),
        (lambda s: Mahalanobis(None, None, s(randn(2, 2, 2))), r"factor must be of shape \(P, r\)"),
        (
            lambda s: Mahalanobis(None, None, "nowhere.npy"),
            "file must be a .npy or .npz file of numbers; 'nowhere.npy'",
        ),
    ],
)
def test_mahalanobis_refuses_what_is_no_metric(make, says, save):
    with pytest.raises(ValueError, match=says):
        make(save)


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 broken"])
def test_mahalanobis_refuses_a_broken_file(tmp_path, content):
    (tmp_path / "A.npy").write_bytes(content)
    with pytest.raises(ValueError, match="must be a .npy or .npz file"):
        Mahalanobis(None, None, str(tmp_path / "A.npy"))


def test_mahalanobis_runs_no_code_of_a_file(tmp_path):
    np.save(tmp_path / "A.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="file must be"):
        Mahalanobis(None, None, str(tmp_path / "A.npy"))


def test_mahalanobis_names_the_sizes_that_do_not_fit(save):
    case = make_case("categorical", hidden=())
    for metric in (Mahalanobis((1.0, 2.0), None, None), Mahalanobis(1.0, None, save(randn(5, 2)))):
        with pytest.raises(
            ValueError,
            match=r"(diagonal must have 12 rows, .* of shape \(2,\)|factor must have 12 rows, .* of shape \(5, 2\))",
        ):
            bind(metric, case)

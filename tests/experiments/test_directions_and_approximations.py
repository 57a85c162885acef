"""experiments/directions and experiments/approximations: what they assert, at reduced size."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments._shared import policies
from experiments.approximations import measure
from experiments.directions import midway, picture

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("policies")


@pytest.fixture
def point(folder):
    """A small policy part-way through training."""
    return policies.point(policies.trained(folder, "pendulum", 6_000, 0, 4), 200)


def numeric(J, theta, e=1e-4):
    """Gradient (2,) and Hessian (2, 2) of J by central differences."""
    unit = np.eye(2) * e

    def f(d):
        return float(J(*(np.array(t) for t in theta + d)))

    g = [(f(u) - f(-u)) / (2 * e) for u in unit]
    H = [[(f(u + v) - f(u - v) - f(v - u) + f(-u - v)) / (4 * e * e) for v in unit] for u in unit]
    return np.array(g), np.array(H)


@pytest.mark.parametrize("where", ["NEAR", "FAR"])
def test_the_picture_shows_its_closed_forms_gradient_and_hessian(where):
    theta = np.array(getattr(picture, where))
    g, H = numeric(picture.J, theta)
    at = picture.point(*theta)
    assert at.g.numpy() == pytest.approx(g, abs=1e-7)
    assert at.curvature("hessian").dense().numpy() == pytest.approx(-H, abs=1e-5)
    assert (np.linalg.eigvalsh(H) < 0).all() == (where == "NEAR")


def test_ellipses_touch_the_line_of_equal_gain_at_the_steps_ends():
    g, steps = picture.steps(picture.NEAR)
    assert [s.metric for s in steps] == list(picture.SIX)
    for s in steps:
        assert s.cosine > 0
        assert g @ s.d == pytest.approx(picture.GAIN)
        assert s.d @ s.matrix @ s.d == pytest.approx(s.size)
        normal = s.matrix @ s.d
        assert normal / np.linalg.norm(normal) == pytest.approx(g / np.linalg.norm(g))


def test_only_an_indefinite_newton_matrix_leaves_the_half_plane():
    _, steps = picture.steps(picture.FAR)
    assert [s.metric for s in steps if s.cosine < 0] == ["hessian"]
    at = picture.point(*picture.FAR)
    least = float(torch.linalg.eigvalsh(at.curvature("hessian").dense())[0])
    assert picture.step(at, "hessian", -1.01 * least).cosine > 0
    assert torch.dot(picture.absolute(at, "hessian", 1e-3), at.g) > 0


@pytest.mark.parametrize("damping", [0.7, 0.8, 2.0])
def test_a_ball_is_a_damping_where_the_hessian_is_indefinite_too(damping):
    assert picture.ball(picture.FAR, "hessian", damping) < 1e-3
    assert picture.ball(picture.FAR, "hessian", 0.1) > 0.1  # lambda below minus the least eigenvalue: no maximiser


def test_short_natural_gradients_of_two_parametrisations_agree():
    short, long = picture.invariance("fisher")
    assert short < 1e-3 and 0.005 < long
    assert picture.invariance("gauss_newton")[0] > 0.1


def test_half_plane_on_a_real_policy(point):
    dampings = np.geomspace(1e-5, 10, 15)
    for metric in midway.METRICS:
        cosines, least, _ = midway.damped(point, metric, dampings)
        assert (cosines[dampings > max(-least, 0) + 1e-9] > 0).all(), metric
        assert metric == "identity" or cosines.min() < 0.9  # they are directions of their own
    indefinite = {m: midway.damped(point, m, dampings)[1] < -1e-6 for m in midway.METRICS}
    assert [m for m, found in indefinite.items() if found] == ["hessian", "ggn"]


def test_which_metrics_depend_on_the_loss(point):
    found = midway.relations(point)
    changed = found["changed_by_other_advantages"]
    assert [m for m, x in changed.items() if x == 0] == ["identity", "gauss_newton", "empirical_fisher"]
    assert found["log_likelihood"]["gradient_covariance_to_empirical_fisher"] < 1e-12
    assert 1e-3 < found["log_likelihood"]["ggn_to_fisher"] < 0.5  # mean and scale: equal in expectation alone


def test_order_of_errors_that_theory_guarantees(point):
    curvature = point.curvature("fisher")
    truth = measure.Truth(curvature)
    damping = float(truth.F.diagonal().mean())
    chosen = {c.name: c for c in measure.CHOICES if c.matrix and c.options.get("rank", 0) <= 10}
    F = {name: measure.matrix(c, curvature, point.g, damping) for name, c in chosen.items()}
    error = {name: float((matrix - truth.F).norm()) for name, matrix in F.items()}
    assert error["block, layer"] < error["block, incoming"] < error["diagonal"]
    assert error["block, layer"] < error["block, outgoing"] < error["diagonal"]
    assert error["block, layer"] < error["E-KFAC"] < error["K-FAC"]
    assert error["low rank, 10"] < error["low rank, 3"] < error["low rank, 1"]
    assert error["exact"] < 1e-9
    assert torch.allclose(F["diagonal"], truth.F.diagonal().diag(), atol=1e-9)
    sums, sizes, exact = (F[name].diagonal() for name in ("Lehman, sum", "Lehman, abs", "diagonal"))
    assert (sums <= sizes + 1e-9).all() and (sizes <= exact + 1e-9).all()
    assert sums.sum() < 0.9 * exact.sum()


def test_errors_of_the_inverse_product(point):
    curvature = point.curvature("fisher")
    truth = measure.Truth(curvature)
    by_name = {c.name: c for c in measure.CHOICES}
    found = {n: measure.errors(by_name[n], curvature, truth, point.g, 0.1) for n in ("exact", "diagonal", "CG, 30")}
    assert found["exact"]["error"] < 1e-9 and found["exact"]["random"] < 1e-9
    assert found["CG, 30"]["error"] < 1e-2 < found["diagonal"]["error"]
    x = point.g / (truth.F.diagonal() + 0.1)
    A = truth.F + 0.1 * torch.eye(len(x))
    best = torch.linalg.solve(A, point.g)
    wanted = ((x - best) @ A @ (x - best) / (best @ A @ best)) ** 0.5
    assert found["diagonal"]["error"] == pytest.approx(float(wanted))


def test_numbers_stored(point):
    layers = measure.places(point.curvature("fisher"))
    assert [(at.outputs, at.inputs) for at in layers] == [(4, 4), (4, 5), (1, 5), (1, 1)]
    stored = {c.name: c.stored(layers, len(point.g)) for c in measure.CHOICES}
    assert stored["block, incoming"] == 4 * 16 + 4 * 25 + 25 + 1
    assert stored["block, outgoing"] == 4 * 16 + 5 * 16 + 5 + 1
    assert stored["K-FAC"] == 2 * (32 + 41 + 26 + 2)


def test_reproduce_names_what_there_is():
    root = EXPERIMENTS.parent
    done = subprocess.run([root / "scripts/reproduce", "lrq"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "all or one of:" in done.stderr and "got: lrq" in done.stderr
    for path in EXPERIMENTS.glob("*/__main__.py"):
        assert f" {path.parent.name}" in done.stderr


def test_scores_have_mean_zero():
    assert picture.mean_score(picture.point(*picture.FAR)) < 1e-12

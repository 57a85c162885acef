"""The closed forms against finite differences, Monte Carlo, Riccati and the scalar formulas written out."""

import sys
from typing import NamedTuple

import numpy as np
import pytest

from rlopt.errors import UserError
from rlopt.tasks.lqr import LQR

SYSTEMS = 50
SHAPES = {"scalar": [(1, 1)], "matrix": [(2, 1), (2, 2), (3, 2)]}


class Policy(NamedTuple):
    system: LQR
    K: np.ndarray  # (m, n)
    sigma: np.ndarray  # (m,)

    @property
    def arguments(self):
        """K and sigma as the system takes them."""
        return (float(self.K[0, 0]), float(self.sigma[0])) if self.system.scalar else (self.K, self.sigma)


def random_policies(kind: str) -> list[Policy]:
    """Systems with everything drawn, each with a policy under which gamma rho(M)^2 < .8."""
    rng = np.random.default_rng([11, len(kind)])
    found: list[Policy] = []
    while len(found) < SYSTEMS:
        n, m = SHAPES[kind][len(found) % len(SHAPES[kind])]
        A, B = rng.normal(size=(n, n)) * 0.8, rng.normal(size=(n, m))
        Q, R, S0 = (rng.normal(size=(size, size)) for size in (n, m, n))
        Q, R, S0 = Q @ Q.T, R @ R.T + 0.2 * np.eye(m), 0.5 * S0 @ S0.T
        gamma, noise = rng.uniform(0.7, 0.92), rng.uniform(0, 0.5, n)
        K, sigma = rng.normal(size=(m, n)), rng.uniform(0.2, 1, m)
        if gamma * np.abs(np.linalg.eigvals(A + B @ K)).max() ** 2 > 0.8:
            continue
        values = (A, B, Q, R, gamma, S0, noise)
        if kind == "scalar":
            values = tuple(float(np.squeeze(value)) for value in values)
        found.append(Policy(LQR(*values), K, sigma))
    return found


POLICIES = {kind: random_policies(kind) for kind in SHAPES}


def theta(policy: Policy, scale: str = "sigma") -> np.ndarray:
    return np.concatenate([policy.K.ravel(), policy.sigma if scale == "sigma" else np.log(policy.sigma)])


def at(policy: Policy, point: np.ndarray, scale: str = "sigma") -> Policy:
    m, n = policy.K.shape
    sigma = point[m * n :] if scale == "sigma" else np.exp(point[m * n :])
    return policy._replace(K=point[: m * n].reshape(m, n), sigma=sigma)


def value_matrix(policy: Policy) -> np.ndarray:
    """P by iterating its equation."""
    s, K = policy.system.matrices, policy.K
    M, P = s.A + s.B @ K, np.zeros_like(s.A)
    for _ in range(1000):
        P = s.Q + K.T @ s.R @ K + policy.system.gamma * M.T @ P @ M
    return P


@pytest.mark.parametrize("scale", ["sigma", "log_sigma"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_gradient_is_that_of_finite_differences(kind, scale):
    h = 1e-5
    for policy in POLICIES[kind]:
        point = theta(policy, scale)
        numeric = [
            policy.system.J(*at(policy, point + h * e, scale).arguments)
            - policy.system.J(*at(policy, point - h * e, scale).arguments)
            for e in np.eye(len(point))
        ]
        exact = policy.system.gradient(*policy.arguments, scale)
        assert np.abs(np.array(numeric) / (2 * h) - exact).max() < 1e-6 * np.abs(exact).max()


def rollouts(policy: Policy, episodes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Discounted return (N,), score-function gradient (N, P) and sum of gamma^t score score^T (N, P, P) by episode.

    Every gamma^t E[.] has shrunk below 1e-4 of its start when an episode ends. The baseline is -s^T P s + const.
    """
    system, K, sigma = policy.system, policy.K, policy.sigma
    s_, gamma = system.matrices, system.gamma
    slowest = max(gamma, gamma * np.abs(np.linalg.eigvals(s_.A + s_.B @ K)).max() ** 2)
    steps = int(np.log(1e-4) / np.log(slowest)) + 1
    P = value_matrix(policy)
    const = -np.trace(s_.R * sigma**2) - gamma * np.trace(P @ (s_.B * sigma**2 @ s_.B.T + s_.W))
    s = rng.standard_normal((episodes, len(P))) @ np.linalg.cholesky(s_.S0).T
    rewards, scores, baselines = [], [], []
    for _ in range(steps):
        e = rng.standard_normal((episodes, len(sigma)))
        a = s @ K.T + sigma * e
        by_mean = (e / sigma)[:, :, None] * s[:, None]
        scores.append(np.concatenate([by_mean.reshape(episodes, -1), (e**2 - 1) / sigma], 1))
        baselines.append(const / (1 - gamma) - np.einsum("bi,ij,bj->b", s, P, s))
        rewards.append(-np.einsum("bi,ij,bj->b", s, s_.Q, s) - np.einsum("bi,ij,bj->b", a, s_.R, a))
        s = s @ s_.A.T + a @ s_.B.T + rng.standard_normal(s.shape) * np.sqrt(np.diag(s_.W))
    following, gradient, fisher = np.zeros(episodes), 0.0, 0.0
    for t in reversed(range(steps)):
        following = rewards[t] + gamma * following
        gradient = gradient + gamma**t * scores[t] * (following - baselines[t])[:, None]
        fisher = fisher + gamma**t * scores[t][:, :, None] * scores[t][:, None]
    return following, gradient, fisher


def z(samples: np.ndarray, exact: float) -> float:
    """How many standard errors the mean of samples (N,) lies from ``exact``."""
    return float((samples.mean() - exact) / (samples.std(ddof=1) / np.sqrt(len(samples))))


@pytest.mark.parametrize("kind", SHAPES)
def test_the_closed_forms_are_those_of_monte_carlo(kind):
    rng = np.random.default_rng(5)
    distances = []
    for policy in POLICIES[kind]:
        returns, gradient, fisher = rollouts(policy, 2000, rng)
        u = rng.normal(size=gradient.shape[1])  # one direction for all entries, cross-blocks included
        exact = policy.system.gradient(*policy.arguments), policy.system.fisher(*policy.arguments)
        distances.append(
            [
                z(returns, policy.system.J(*policy.arguments)),
                z(gradient @ u, exact[0] @ u),
                z(np.einsum("i,bij,j->b", u, fisher, u), u @ exact[1] @ u),
            ]
        )
    far = np.abs(distances)
    assert far.max() < 3
    assert (0.5 < (far**2).mean(0)).all() and ((far**2).mean(0) < 1.7).all()  # the standard errors are right too


@pytest.mark.parametrize("scale", ["sigma", "log_sigma"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_natural_gradient_solves_the_fisher_system(kind, scale):
    for policy in POLICIES[kind]:
        F, g = policy.system.fisher(*policy.arguments, scale), policy.system.gradient(*policy.arguments, scale)
        natural = policy.system.natural_gradient(*policy.arguments, scale)
        assert np.allclose(F @ natural, g, rtol=1e-9, atol=1e-12 * np.abs(g).max())
        assert np.allclose(F, F.T) and np.linalg.eigvalsh(F).min() > 0


@pytest.mark.parametrize("kind", SHAPES)
def test_the_natural_gradient_ignores_how_the_scale_is_written(kind):
    for policy in POLICIES[kind]:
        m = len(policy.sigma)
        x, y = (policy.system.natural_gradient(*policy.arguments, scale) for scale in ("sigma", "log_sigma"))
        assert np.allclose(x[:-m], y[:-m]) and np.allclose(x[-m:], policy.sigma * y[-m:])


@pytest.mark.parametrize("kind", SHAPES)
def test_the_gradient_in_k_vanishes_only_at_the_riccati_optimum(kind):
    for policy in POLICIES[kind]:
        best = policy._replace(K=np.reshape(policy.system.optimum(), policy.K.shape))
        beside = best._replace(K=best.K + 1e-3)
        m = len(policy.sigma)
        at_best, at_beside = (p.system.gradient(*p.arguments) for p in (best, beside))
        assert np.abs(at_best[:-m]).max() < 1e-8 * np.abs(at_best[-m:]).max()
        assert np.abs(at_beside[:-m]).max() > 1e-6 * np.abs(at_best[-m:]).max()
        assert (at_best[-m:] < 0).all()
        assert policy.system.J(*best.arguments) > policy.system.J(*beside.arguments)


def test_the_scalar_formulas_written_out():
    for policy in POLICIES["scalar"]:
        system, (k, sigma) = policy.system, policy.arguments
        A, B, Q, R, g = system.A, system.B, system.Q, system.R, system.gamma
        S0, W = system.start_variance, system.noise_std**2
        m = A + B * k
        P = (Q + R * k**2) / (1 - g * m**2)
        X = (S0 + g * (B**2 * sigma**2 + W) / (1 - g)) / (1 - g * m**2)
        J = -(P * S0 + (R * sigma**2 + g * P * (B**2 * sigma**2 + W)) / (1 - g))
        gradient = [-2 * X * (R * k + g * P * B * m), -2 * sigma * (R + g * P * B**2) / (1 - g)]
        natural = [-2 * sigma**2 * (R * k + g * P * B * m), -(sigma**3) * (R + g * P * B**2)]
        assert system.J(k, sigma) == pytest.approx(J, rel=1e-12)
        assert system.gradient(k, sigma) == pytest.approx(gradient, rel=1e-12)
        assert system.fisher(k, sigma) == pytest.approx(np.diag([X / sigma**2, 2 / sigma**2 / (1 - g)]), rel=1e-12)
        assert system.natural_gradient(k, sigma) == pytest.approx(natural, rel=1e-12)


@pytest.mark.parametrize(
    "system, k",
    [
        (LQR(gamma=0.9), -0.5884),
        (LQR(gamma=0.95), -0.6037),
        (LQR(gamma=0.99), -0.6153),
        (LQR(A=np.sqrt(1 + 1 / 0.95)), -1.0),
    ],
)
def test_the_optimum_of_the_example(system, k):
    assert system.optimum() == pytest.approx(k, abs=5e-5)


def test_uniform_weighting_is_the_mean_over_the_horizon():
    system, k, sigma, horizon = LQR(start_variance=0.7, noise_std=0.2), -0.3, 0.5, 7
    second, moments = 0.7, []
    for _ in range(horizon):
        moments.append(second)
        second = 0.7**2 * second + sigma**2 + 0.2**2
    discounted, uniform = system.gradient(k, sigma), system.gradient(k, sigma, uniform_over=horizon)
    X = system.fisher(k, sigma)[0, 0] * sigma**2
    assert uniform == pytest.approx(discounted * [np.mean(moments) / X, 1 - system.gamma])
    expected = np.diag([np.mean(moments) / sigma**2, 2 / sigma**2])
    assert system.fisher(k, sigma, uniform_over=horizon) == pytest.approx(expected)


def test_arrays_of_policies_are_taken_at_once():
    system = LQR(noise_std=0.1)
    k, sigma = np.meshgrid([-1.2, -0.5, -0.1], [0.2, 0.9])
    assert system.J(k, sigma).shape == (2, 3) and system.fisher(k, sigma).shape == (2, 3, 2, 2)
    assert system.gradient(k, sigma)[1, 2] == pytest.approx(system.gradient(-0.1, 0.9))
    two = LQR(dimension=2)
    K = np.stack([-0.3 * np.eye(2), -0.6 * np.eye(2)])
    assert two.gradient(K, 0.5).shape == (2, 6)
    assert two.J(K, 0.5)[1] == pytest.approx(2 * LQR().J(-0.6, 0.5))


def test_an_unstable_closed_loop_is_marked():
    system = LQR()
    assert system.J([0.5, -0.5], 0.1).tolist() == [-np.inf, pytest.approx(system.J(-0.5, 0.1))]
    assert np.isnan(system.gradient([0.5, -0.5], 0.1)).tolist() == [[True, True], [False, False]]
    assert system.stable([0.5, -0.5]).tolist() == [False, True]
    edge = 1 / np.sqrt(system.gamma) - 1
    assert system.J(edge - 1e-6, 1.0) < -1e4 and system.J(edge + 1e-6, 1.0) == -np.inf


@pytest.mark.parametrize(
    "values, name",
    [
        ({"gamma": 1.0}, "gamma"),
        ({"R": 0.0}, "R"),
        ({"Q": [[0.0, 1.0], [1.0, 0.0]], "dimension": 2}, "Q"),
        ({"Q": [[1.0, 0.5], [0.0, 1.0]], "dimension": 2}, "Q"),
        ({"start_variance": -1.0}, "start_variance"),
        ({"noise_std": [1.0, 2.0]}, "noise_std"),
        ({"noise_std": -0.1}, "noise_std"),
        ({"A": np.eye(2), "B": np.ones((3, 1))}, "A, B and dimension"),
        ({"A": np.ones((2, 3))}, "A"),
        ({"A": np.nan}, "A"),
        ({"dimension": 0}, "dimension"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(values, name):
    with pytest.raises(ValueError, match=f"^{name} must be "):
        LQR(**values)


def test_a_policy_out_of_range_is_refused_by_name():
    with pytest.raises(ValueError, match="^sigma must be 0 or above"):
        LQR().J(-0.5, -0.1)
    with pytest.raises(ValueError, match="^sigma must be above 0"):
        LQR().fisher(-0.5, 0.0)
    with pytest.raises(ValueError, match=r"^k must be of shape \(..., 2, 2\)"):
        LQR(dimension=2).J([[-0.5]], 0.1)
    with pytest.raises(ValueError, match="^scale must be sigma or log_sigma"):
        LQR().gradient(-0.5, 0.1, "variance")


def test_without_scipy_only_the_optimum_is_lost(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.linalg", None)
    assert LQR().J(-0.5, 0.1) < 0
    with pytest.raises(UserError, match=r"needs scipy: pip install 'rlopt-geometry\[plot\]'"):
        LQR().optimum()

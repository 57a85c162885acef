"""experiments/lqr: the closed-form paths, and the quantities of TRPO on which they rest."""

import numpy as np
import pytest

from experiments.lqr import exact, sampled, settings
from rlopt.tasks.lqr import LQR
from tests.support.building import resolve

OLD = (-0.3, 0.6)


@pytest.fixture
def chosen():
    return {setting.name: setting for setting in settings.settings()}


@pytest.mark.parametrize(
    "name, method, k, tolerance",
    [
        ("unit-sigma", "vanilla", -0.308, 0.01),
        ("unit-sigma", "natural", -0.604, 0.002),
        ("unit-log_sigma", "vanilla", -0.601, 0.01),
        ("unit-log_sigma", "natural", -0.604, 0.002),
        ("minus_one-sigma", "natural", -1.0, 0.002),
    ],
)
def test_where_the_arrows_lead(chosen, name, method, k, tolerance):
    setting = chosen[name]
    path = exact.flow(setting, method, setting.start)
    assert path[-1, 1] < 0.01 <= path[-2, 1]
    assert path[-1, 0] == pytest.approx(k, abs=tolerance)


def test_vanilla_is_stuck_in_sigma_if_the_optimum_is_minus_one(chosen):
    setting = chosen["minus_one-sigma"]
    assert setting.system.optimum() == pytest.approx(-1)
    assert exact.flow(setting, "vanilla", setting.start)[-1, 0] > -0.8


def test_how_well_the_arrows_point_at_the_optimum():
    cosines = exact.mean_cosines(LQR())
    assert cosines["vanilla"] == pytest.approx(0.813, abs=0.01)
    assert cosines["natural"] == pytest.approx(0.973, abs=0.01)


SYSTEM = LQR(A=1.1, B=0.8, Q=0.5, R=2.0, start_variance=0.3, noise_std=0.2)


def slope(f, h=1e-5):
    """Gradient in (k, sigma) at OLD by central differences."""
    return np.array([(f(np.add(OLD, h * e)) - f(np.subtract(OLD, h * e))) / (2 * h) for e in np.eye(2)])


def test_the_surrogate_has_the_gradient_of_the_return():
    surrogate = exact.surrogate
    found = slope(lambda new: surrogate(SYSTEM, OLD, tuple(new)))
    assert found == pytest.approx((1 - SYSTEM.gamma) * SYSTEM.gradient(*OLD), rel=1e-7)
    assert surrogate(SYSTEM, OLD, OLD) == 0


def test_the_surrogate_is_the_advantage_under_the_old_states():
    """J(new) - J(old) = sum over the states of new of the advantage; with k = k_new the states of old are left."""
    new = (OLD[0], 0.7)
    rng = np.random.default_rng(0)
    value = LQR(SYSTEM.A, SYSTEM.B, SYSTEM.Q, SYSTEM.R, SYSTEM.gamma, 1.0).J(OLD[0], 0.0)  # -P
    s = rng.normal(size=400_000) * np.sqrt(SYSTEM.fisher(*OLD)[0, 0] * OLD[1] ** 2 * (1 - SYSTEM.gamma))

    def q(action):
        return -SYSTEM.Q * s**2 - SYSTEM.R * action**2 + SYSTEM.gamma * value * (SYSTEM.A * s + SYSTEM.B * action) ** 2

    e = rng.normal(size=s.shape)
    gain = q(-0.35 * s + new[1] * e) - q(OLD[0] * s + OLD[1] * e)
    error = gain.std() / np.sqrt(len(s))
    assert exact.surrogate(SYSTEM, OLD, (-0.35, new[1])) == pytest.approx(gain.mean(), abs=4 * error)
    assert error < 0.02 * abs(gain.mean())


def test_the_kl_has_the_fisher_matrix_for_its_curvature():
    kl = exact.kl
    F = (1 - SYSTEM.gamma) * SYSTEM.fisher(*OLD)
    for step in np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]) * 1e-4:
        assert kl(SYSTEM, OLD, tuple(np.add(OLD, step))) == pytest.approx(step @ F @ step / 2, rel=1e-3)
    assert kl(SYSTEM, OLD, (OLD[0], 1.2)) == pytest.approx(np.log(2) + 1 / 8 - 1 / 2)


@pytest.mark.parametrize("name", ["unit-sigma", "unit-log_sigma", "minus_one-sigma", "minus_one-log_sigma"])
def test_closed_form_trpo_steps_are_in_the_radius_and_improve(chosen, name):
    setting = chosen[name]
    for start in setting.starts:
        path = [tuple(policy) for policy in exact.climb(setting, "trpo", start)]
        pairs = list(zip(path, path[1:], strict=False))
        divergences = [exact.kl(setting.system, *pair) for pair in pairs]
        assert max(divergences) <= setting.radius and min(divergences) > 0.5 * setting.radius
        assert all(exact.surrogate(setting.system, *pair) > 0 for pair in pairs)
        assert path[-1] == pytest.approx((setting.system.optimum(), 0.01), abs=0.01)


def test_the_trainer_runs_what_the_closed_form_runs(chosen):
    for setting in chosen.values():
        for method, metric in (("vanilla", "identity"), ("natural", "fisher"), ("trpo", "fisher")):
            config = resolve(sampled.overrides(sampled.Job(setting, method, setting.start, 0)))
            assert config["metric"]["_target_"].split(".")[-2] == metric
            assert config["env"]["kwargs"]["A"] == setting.system.A and config["gamma"] == setting.system.gamma
            assert (config["state_weighting"], config["gae_lambda"]) == ("discounted", 1.0)
            assert config["env"]["kwargs"]["horizon"] == 200 and not config["observations"]["normalise"]
            length = np.sqrt(2 * config["step"]["radius"])
            assert length == pytest.approx(setting.length if method == "vanilla" else np.sqrt(2 * setting.radius))
    trpo = resolve(sampled.overrides(sampled.Job(setting, "trpo", setting.start, 0)))["step"]
    assert (trpo["shrink"], trpo["backtracks"], trpo["accept_ratio"]) == (exact.SHRINK, exact.BACKTRACKS, 0)

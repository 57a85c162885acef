"""experiments/landscapes: bounds, exponents, equal trajectories and torch.optim's, at reduced size."""

import numpy as np
import pytest
import torch

from experiments.landscapes import bounds, functions, methods, preconditioning, written

pytestmark = pytest.mark.usefixtures("double_precision")


def test_the_core_sees_the_function_that_is_plotted():
    """Gradient and Hessian by autograd of f against the tape's and the metric's."""
    for landscape in (functions.canyon(), functions.rosenbrock(), functions.bumpy(), functions.chain(30, 12)):
        theta = landscape.start + 0.1
        wanted = torch.autograd.functional.jacobian(landscape.f, theta)
        assert torch.allclose(methods.ascent(landscape, theta), -wanted, rtol=1e-10, atol=1e-12)
        tape = landscape.network.tape(theta, landscape.samples.inputs)
        H, _ = methods.Hessian().bind({}, tape, landscape.head, landscape.samples, landscape.objective)
        assert torch.allclose(H.dense(), torch.autograd.functional.hessian(landscape.f, theta), rtol=1e-9, atol=1e-9)


def test_the_example_has_condition_2_6_and_the_chain_of_its_name():
    mu, L = functions.example().bounds
    assert L / mu == pytest.approx(2.6)
    chain = functions.chain(50, 300)
    H = torch.autograd.functional.hessian(chain.f, chain.start)
    spectrum = torch.linalg.eigvalsh(H)
    assert 1 / 50 <= spectrum[0] < 1.01 / 50 and 0.99 < spectrum[-1] <= 1


def test_counts_obey_the_bounds_on_random_quadratics():
    rows = bounds.random_quadratics(20, target=1e-4)
    assert len(rows) == 20 and len({row["kappa"] for row in rows}) == 20
    for row in rows:
        for method in ("gradient descent", "Nesterov"):
            assert 0 < row[method]["measured"] <= row[method]["bound"] and row[method]["worst"] <= 1
        assert row["1/k"] <= 1


def test_the_chains_exponents_in_kappa_and_its_lower_bound():
    found = bounds.exponents([100.0, 300.0, 1000.0])["exponents"]
    assert found["gradient descent"] == pytest.approx(1, abs=0.1)
    assert found["Nesterov"] == pytest.approx(0.5, abs=0.1) and found["CG"] == pytest.approx(0.5, abs=0.1)
    curves = bounds.curves(kappa=30, size=100, target=1e-6)
    assert all(margin >= 1 for margin in curves["least_over_lower"].values())
    assert curves["least_over_lower"]["CG"] < 10  # the bound is nearly reached


def test_nesterovs_errors_are_at_his_points_cgs_at_every_iterate():
    chain = functions.chain(20, 60)
    H, b = torch.autograd.functional.hessian(chain.f, chain.start), bounds.optimum(chain)
    eta = (20**0.5 - 1) / (20**0.5 + 1)
    theta, v, wanted = chain.start, torch.zeros(60), [chain.error(chain.start)]
    for _ in range(10):
        v = eta * v - H @ (theta + eta * v - b)
        theta = theta + v
        wanted.append(chain.error(theta))
    assert np.allclose(bounds.errors(chain, "Nesterov", 1e-9)[:11], wanted, rtol=1e-9)
    assert len(bounds.errors(chain, "CG", 1e-6)) - 1 == bounds.cg_count(chain, 1e-6)


def test_without_strong_convexity_rates_are_sublinear():
    slopes = list(bounds.convex_rates(400)["slopes"].values())
    assert slopes[0] == pytest.approx(-1, abs=0.1) and slopes[2] == pytest.approx(-2, abs=0.15)


def test_preconditioned_and_reparametrised_descent_are_one_path():
    for row in preconditioning.same_paths(60):
        assert row["difference"] < 1e-10 < 1e-3 < row["from_plain"]


def test_who_is_invariant_to_a_linear_change_of_coordinates():
    found = {row["method"]: row["difference"] for row in preconditioning.invariance(8)}
    for name in ("Newton", "Gauss-Newton", "natural gradient"):
        assert found.pop(name) < 1e-9
    assert all(difference > 1e-3 for difference in found.values())


def test_bent_coordinates_are_seen_to_first_order_in_the_step():
    found = preconditioning.bent((0.1, 0.05))["differences"]
    assert found[0] / found[1] == pytest.approx(2, abs=0.1)


def test_methods_are_torch_optims_where_definitions_agree():
    for rows in written.everywhere(60).values():
        for row in rows:
            assert (row["difference"] < 1e-6) == row["definitions_agree"], row


def test_adams_corrections_under_a_constant_gradient():
    found = written.first_steps(3000)
    assert np.allclose(found["t"], 1)
    assert found["1"][0] == pytest.approx(1) and found["1"][-1] == pytest.approx(0.1**-1 * 0.001**0.5, rel=0.03)
    assert found["none"][0] == pytest.approx(0.1 / 0.001**0.5)


def test_momentum_climbs_out_where_gradient_descent_stays():
    ends = [
        methods.path(functions.bumpy(), m, 150)[-1, 0] for m in (methods.gradient_descent(0.1), methods.momentum(0.1))
    ]
    assert ends[0] < -5 and abs(ends[1]) < 0.1


def test_one_step_of_each_second_order_method_solves_a_quadratic():
    for metric, solver in (("hessian", "dense"), ("gauss_newton", "dense"), ("fisher", "kfac"), ("hessian", "cg")):
        assert methods.count(functions.canyon(), methods.second_order(metric, solver), 1e-10, 5) == 1

"""Gradient statistics: nothing is held, and a product is that of the newest gradient's square."""

import torch

from rlopt.core.metrics.gradient_statistics import GradientStatistics
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import PRODUCT, STATISTICS
from tests.support import oracles
from tests.support.oracles import close, make_case, randn


def test_its_products_are_those_of_the_newest_gradient():
    case = make_case("log_sigma", weights="masked")
    metric = GradientStatistics()
    curvature, state = metric.bind(metric.init(), case.tape, case.head, case.samples, Surrogate(0.0))
    g, v = oracles.gradient(case, "surrogate"), randn(len(case.theta), seed=1)
    assert state == {} and curvature.size == len(v)
    assert close(curvature.product(v), g * torch.dot(g, v), 1e-10)
    assert close(curvature.dense(), torch.outer(g, g), 1e-10)


def test_only_solvers_that_learn_from_gradients_serve_it():
    assert STATISTICS in GradientStatistics.supplies and PRODUCT not in GradientStatistics.supplies

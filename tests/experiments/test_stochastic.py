"""experiments/stochastic: the many-seeds loops against rlopt's own parts, and the rates, at reduced size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from experiments.stochastic import curvature, descent, problems
from rlopt.core import heads
from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.identity import Identity as Euclidean
from rlopt.core.network import Network
from rlopt.core.objectives.value import Value
from rlopt.core.samples import Samples
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.update import Update

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("kind", ["linear", "logistic"])
def test_the_problems_are_what_autograd_says(kind):
    p = problems.make(kind, terms=30)
    theta = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))

    def h(t):
        return p.value(t[None])[0]

    assert torch.allclose(torch.autograd.functional.jacobian(h, theta[0]), p.full(theta)[0])
    assert torch.allclose(torch.autograd.functional.hessian(h, theta[0]), p.hessian_at(theta[0]))
    assert p.full(p.optimum[None]).abs().max() < 1e-12 and p.each.mean(0).abs().max() < 1e-12
    each = p.gradient(theta.expand(30, -1), torch.arange(30)[:, None])
    assert torch.allclose(each.mean(0), p.full(theta)[0])
    assert p.excess(theta) == pytest.approx(float(h(theta[0]) - h(p.optimum)))
    covariance = torch.einsum("mi,mj->ij", p.each, p.each) / 30
    assert p.constant == pytest.approx(float((torch.linalg.inv(p.hessian) @ covariance).trace()) / 2)


@pytest.mark.parametrize("kind", ["linear", "logistic"])
def test_a_seed_of_sgd_is_rlopts_update_on_the_same_terms(kind):
    p = replace(problems.make(kind, terms=30), ridge=0.0)
    start, steps, at = torch.ones(5), 40, [40]
    found = descent.sgd(p, start, descent.inverse(0.05, 0.1), at, 3, {"u": descent.UNIFORM, "e": descent.EMA})
    drawn = list(descent.drawn(p, steps, 3, 1, 0))
    head = heads.Value() if kind == "linear" else heads.Bernoulli(1)
    targets = p.y if kind == "linear" else (p.y + 1) / 2
    step = Optimizer(
        {"_target_": "torch.optim.SGD", "lr": 0.05},
        {"_target_": "rlopt.core.steps.optimizer.InverseLR", "decay": 0.1},
        None,
    )
    network = Network(nn.Linear(5, 1, bias=False))
    update = Update(network, head, Value(), Euclidean(), Identity(), Constant(0.0), step)
    for seed in range(3):
        theta, path = start.clone(), []
        state = update.init(theta)
        for index in drawn:
            i = index[seed]
            theta, state, _ = update(theta.clone(), state, Samples(p.a[i], targets[i, None], torch.ones(1)))
            state = {**state, "step": step.advance(state["step"])}
            path.append(theta.clone())
        assert torch.allclose(found["last"][0, seed], theta, rtol=1e-10)
        assert torch.allclose(found["u"][0, seed], torch.stack(path).mean(0), rtol=1e-10)
        weights = 0.99 ** torch.arange(steps - 1, -1, -1.0)
        assert torch.allclose(found["e"][0, seed], weights @ torch.stack(path) / weights.sum(), rtol=1e-10)


def test_averaged_sgd_reaches_the_asymptotic_rate():
    """Started at the optimum, so that little is left of the start after 4,000 steps."""
    p = problems.make("linear", kappa=2.0)
    theta = descent.sgd(p, p.optimum, descent.power(1 / p.L, 0.01, 0.6), [4000], 1000, {"u": descent.UNIFORM})["u"][0]
    mean, low, high = descent.interval(4000 * p.excess(theta) / p.constant)
    assert mean == pytest.approx(1, abs=0.15) and high - low < 0.15


@pytest.mark.parametrize("kind", ["linear", "logistic"])
def test_variance_reduction_is_linear_where_sgd_is_not(kind):
    p = problems.make(kind, terms=60)
    start, a = p.optimum + 1.0, 1 / p.L
    svrg = descent.svrg(p, start, 0.5 * a, 60, 4).mean(1)
    sag = descent.sag(p, start, a, 60, 4).mean(1)
    sgd = descent.sgd(p, start, descent.constant(a), [60 * 60], 4)["last"][0]
    assert sag[-1] < 1e-5 and svrg[-1] < 1e-5
    assert sag[-1] < max(0.01 * sag[30], 1e-15) and svrg[-1] < max(0.01 * svrg[10], 1e-15)  # or rounding
    assert p.excess(sgd).mean() > 1e-3


def test_a_running_mean_of_curvature_trades_noise_for_staleness():
    p = replace(problems.make("logistic"), ridge=0.0)
    net, theta = curvature.network(p), torch.ones(5)
    everything = curvature.samples(p, torch.arange(len(p.a)))
    assert torch.allclose(curvature.fisher(p, net, theta, everything), p.hessian_at(theta))
    found = curvature.errors(p, 120, 10, 0.3, 2)["settled"]
    noise, stale, whole = (np.array(found[name]) for name in ("noise", "staleness", "all"))
    assert stale[0] == 0 and (np.diff(stale) > 0).all() and noise[0] > 3 * noise[-1]
    assert 0 < whole.argmin() < len(whole) - 1

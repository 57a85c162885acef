import re
from pathlib import Path

import pytest
import torch
from torch import nn

import rlopt
from rlopt.core import heads
from rlopt.core.metrics.fisher import Fisher


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def test_products_columns_and_solutions_agree(module):
    inputs = torch.randn(20, 4, dtype=torch.float64)
    M = rlopt.curvature(module, heads.Categorical(3), inputs, metric="fisher")
    g = torch.randn(M.shape[0], dtype=torch.float64)
    dense = M.dense()
    assert torch.allclose(M @ g, dense @ g, atol=1e-12)
    eye = torch.eye(len(g), dtype=torch.float64)
    truth = torch.linalg.solve(dense + 1e-2 * eye, g)
    assert torch.allclose(rlopt.solve(M, g, solver="dense", damping=1e-2).x, truth, atol=1e-10)


def test_the_fisher_is_that_of_the_modules_own_parameters(module):
    inputs = torch.randn(1, 4, dtype=torch.float64)
    M = rlopt.curvature(module, heads.Categorical(3), inputs)
    logits = module(inputs)[0]
    p = logits.softmax(0).detach()
    expected = torch.zeros(M.shape, dtype=torch.float64)
    for k in range(3):
        score = torch.autograd.grad(logits.log_softmax(0)[k], list(module.parameters()), retain_graph=True)
        flat = torch.cat([part.reshape(-1) for part in score])
        expected += p[k] * torch.outer(flat, flat)
    assert torch.allclose(M.dense(), expected, atol=1e-12)


def test_weights_count_samples(module):
    inputs = torch.randn(6, 4, dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    weighted = rlopt.curvature(module, heads.Categorical(3), inputs, weights=weights)
    repeated = rlopt.curvature(module, heads.Categorical(3), inputs[[0, 1, 1, 3, 5]])
    assert torch.allclose(weighted.dense(), repeated.dense(), atol=1e-12)


def test_a_name_that_is_not_known_is_refused_with_those_that_are(module):
    inputs = torch.randn(6, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="did you mean fisher"):
        rlopt.curvature(module, heads.Categorical(3), inputs, metric="fischer")
    with pytest.raises(ValueError, match="there is no metric 'zzz'; metric is one of average, empirical_fisher, "):
        rlopt.curvature(module, heads.Categorical(3), inputs, metric="zzz")
    M = rlopt.curvature(module, heads.Categorical(3), inputs)
    with pytest.raises(ValueError, match="cannot serve metric 'fisher'.*cg.*dense"):
        rlopt.solve(M, torch.zeros(M.shape[0], dtype=torch.float64), solver="identity")
    with pytest.raises(ValueError, match="one entry for each of the 6 inputs; got 2"):
        rlopt.curvature(module, heads.Categorical(3), inputs, weights=torch.ones(2))


def test_a_metric_of_the_actions_that_were_taken_asks_for_them(module):
    inputs = torch.randn(6, 4, dtype=torch.float64)
    for metric in ("empirical_fisher", "ggn", "hessian", "gradient_covariance", Fisher("taken", 0)):
        with pytest.raises(ValueError, match=r"looks at the actions that were taken; give actions=\.\.\., 6 of them"):
            rlopt.curvature(module, heads.Categorical(3), inputs, metric)
    for metric in ("fisher", "gauss_newton", "identity", "mahalanobis"):
        rlopt.curvature(module, heads.Categorical(3), inputs, metric)


def test_the_empirical_fisher_is_that_of_the_actions_given(module):
    inputs, actions = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    found = rlopt.curvature(module, heads.Categorical(3), inputs, "empirical_fisher", actions=actions)
    rows = []
    for x, a in zip(inputs, actions, strict=True):
        score = torch.autograd.grad(module(x).log_softmax(0)[a], list(module.parameters()))
        rows.append(torch.cat([part.reshape(-1) for part in score]))
    S = torch.stack(rows)
    assert torch.allclose(found.dense(), S.T @ S / 6, atol=1e-12)


def test_the_lines_in_the_readme_run():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "import torch, rlopt" in b)
    names = {}
    exec(block, names)
    assert names["x"].shape == (names["M"].shape[0],)
    assert names["x"].isfinite().all()

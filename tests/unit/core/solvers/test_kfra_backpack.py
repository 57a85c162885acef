"""KFRA against BackPACK's (Dangel, Kunstner and Hennig 2020); skipped where it is not installed."""

import copy
import warnings

import pytest
import torch
from torch import nn

from rlopt.core.metrics.fisher import Fisher
from rlopt.core.solvers.kfra import KFRA
from tests.support.oracles import close, make_case

with warnings.catch_warnings():  # its dependencies use what torch deprecates
    warnings.simplefilter("ignore")
    backpack = pytest.importorskip("backpack")
    extensions = pytest.importorskip("backpack.extensions")


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid])
def test_kfras_factors_are_backpacks_for_cross_entropy(activation, hidden):
    case = make_case("categorical", weights="uniform", count=9, hidden=hidden, activation=activation)
    curvature, _ = Fisher(None, 0).bind({}, case.tape, case.head, case.samples, None)
    _, state = KFRA("exact", 0.0, 1).prepare(KFRA("exact", 0.0, 1).init(), curvature, 1e-2)

    # for the log-likelihood of logits the Hessian in z that BackPACK sends back is the Fisher information
    module, loss = backpack.extend(copy.deepcopy(case.module)), backpack.extend(nn.CrossEntropyLoss())
    with torch.enable_grad(), warnings.catch_warnings(), backpack.backpack(extensions.KFRA()):
        warnings.simplefilter("ignore")
        loss(module(case.samples.inputs), case.samples.actions).backward()

    theirs = dict(module.named_parameters())
    assert len(state["factors"]) == len(hidden) + 1
    for name, factor in state["factors"].items():
        G, A = theirs[name].kfra
        assert close(factor["G"], G, 1e-10) and G.norm() > 1e-3
        assert close(factor["A"][:-1, :-1], A, 1e-10) and A.norm() > 1e-3
        assert close(theirs[name.replace("weight", "bias")].kfra[0], G, 1e-12)

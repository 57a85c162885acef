"""Masked outputs against torch's own derivatives, and a masked policy against the policy of the allowed actions alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlopt.core import heads
from rlopt.core.network import Network
from rlopt.core.tapes.masked import FORBIDDEN
from rlopt.policy.inference import numpy_sampler
from tests.support.densities import distribution
from tests.support.masking import D, allowed, draw_masks, masked_case
from tests.support.oracles import TAPES, Case, close, hessian, jacobian, make_case, mlp, outputs, points, randn
from tests.support.updates import PRESETS, Update

HEADS = [heads.Categorical(4, masked=True), heads.MultiCategorical((2, 3)), heads.Joint(heads.Categorical(3), 2.5)]
KEPT = torch.tensor([1, 3, 4])  # of five actions


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_products_are_those_of_the_masked_module(head, tape):
    case = masked_case(head, tape)
    J, made, inputs = jacobian(case), case.tape, case.samples.inputs
    u, v = randn(*J.shape[:2], seed=7), randn(J.shape[2], seed=8)
    assert close(made.outputs, outputs(case.module, case.theta, inputs), 1e-12)
    assert torch.equal(made.outputs, case.network.outputs(case.theta, inputs))
    assert close(made.jvp(v), J @ v, 1e-10) and close(made.vjp(u), torch.einsum("bop,bo->p", J, u), 1e-10)
    bent = hessian(lambda theta: (u * outputs(case.module, theta, inputs) * allowed(case)).sum(), case.theta)
    assert close(made.hvp(u, v), bent @ v, 1e-10) and close(made.hvp(2 * u, v), 2 * bent @ v, 1e-10)
    rows = [torch.einsum("klj,bli->bji", layer.signals[:, b], layer.inputs[b : b + 1]).flatten()
            for b in range(3) for layer in made.layers(u[None])]  # fmt: skip
    gradients = torch.einsum("bop,bo->bp", J, u)[:3]
    assert close(torch.cat(rows).sort().values, gradients.flatten().sort().values, 1e-10)
    there = case.theta + randn(len(case.theta), seed=9)
    for at, part in made.parts(5):
        assert close(part.vjp(u[at]), torch.einsum("bop,bo->p", J[at], u[at]), 1e-10)
        assert close(part.at(there, inputs[at]).outputs, outputs(case.module, there, inputs[at]), 1e-12)


@pytest.mark.parametrize("head", HEADS[:2], ids=lambda head: type(head).__name__)
def test_it_is_the_distribution_over_allowed_actions(head):
    masks = draw_masks(head, 40)
    free, other = points(head, 40), points(head, 40, seed=1)
    z, new = (torch.where(masks > 0, x, FORBIDDEN) for x in (free, other))
    counts, start = getattr(head, "counts", (getattr(head, "count", 0),)), 0
    wanted = {"entropy": 0.0, "kl": 0.0}
    root, C = head.fisher_root(z), torch.zeros(40, len(masks[0]), len(masks[0]), dtype=z.dtype)
    for n in counts:
        for b in range(40):
            index = start + masks[b, start : start + n].nonzero().flatten()
            p, q = (torch.distributions.Categorical(logits=x[b, index]) for x in (free, other))
            wanted["entropy"] = wanted["entropy"] + p.entropy() * torch.eye(40, dtype=z.dtype)[b]
            wanted["kl"] = wanted["kl"] + torch.distributions.kl_divergence(p, q) * torch.eye(40, dtype=z.dtype)[b]
            C[b, index[:, None], index] = p.probs.diag() - p.probs[:, None] * p.probs
        start += n
    assert close(head.entropy(z), wanted["entropy"], 1e-12) and close(head.kl(z, new), wanted["kl"], 1e-12)
    assert close(torch.einsum("kbi,kbj->bij", root, root), C, 1e-12) and close(head.kl_hessian(z, z), C, 1e-12)
    t = randn(*z.shape, seed=3)
    assert close(head.fisher_product(z)(t), torch.einsum("bij,bj->bi", C, t), 1e-12)
    for gradient in (head.entropy_gradient(z), head.kl_gradient(z, new), head.log_prob_and_score(z, head.mode(z))[1]):
        assert gradient.isfinite().all() and not gradient[masks == 0].any()
    assert not head.entropy_hessian(z)[masks == 0].any()


def small_and_masked() -> tuple[Case, Case, torch.Tensor]:
    """A policy of three actions, one of five of which the same three are allowed, and the former's places in theta."""
    small = make_case(heads.Categorical(3), weights="masked", moved=0.2)
    layers = mlp((D, 5, 4, 5), seed=9)
    for own, given in zip(layers, small.module, strict=True):
        if hasattr(own, "weight"):
            with torch.no_grad():
                rows = KEPT if len(own.weight) == 5 and own is layers[-1] else slice(None)
                own.weight[rows], own.bias[rows] = given.weight, given.bias
    number = torch.arange(20).reshape(5, 4)[KEPT].flatten()
    last = len(small.theta) - 15
    places = torch.cat([torch.arange(last), last + number, last + 20 + KEPT])
    network = Network(layers, 0, 5, masked=True)
    masks = torch.zeros(len(small.samples), 5, dtype=torch.float64)
    masks[:, KEPT] = 1
    old = torch.full_like(masks, FORBIDDEN)
    old[:, KEPT] = small.samples.old_outputs
    inputs = torch.cat([small.samples.inputs, masks], 1)
    samples = replace(small.samples, inputs=inputs, actions=KEPT[small.samples.actions], old_outputs=old)
    return small, Case(layers, network, heads.Categorical(5), network.layout.flatten(layers), samples), places


@pytest.mark.parametrize("preset", PRESETS)
def test_an_update_is_that_of_the_smaller_problem(preset):
    small, large, places = small_and_masked()
    assert torch.equal(large.theta[places], small.theta)
    moved = []
    for case in (small, large):
        update = Update(case.network, case.head, *PRESETS[preset]())
        theta, _, report = update(case.theta.clone(), update.init(case.theta), case.samples)
        assert report.failure is None and not torch.equal(theta, case.theta)
        moved.append(theta)
    assert close(moved[1][places], moved[0], 1e-8)
    others = torch.ones(len(large.theta), dtype=torch.bool)
    others[places] = False
    assert torch.equal(moved[1][others], large.theta[others])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("head", [heads.Categorical(4), heads.MultiCategorical((4, 2))])
def test_no_noise_draws_what_is_forbidden(head, dtype):
    """The last float below 1, 1 itself, to which float64 may be rounded, and 0."""
    z = points(head, 400).to(dtype)
    masks = draw_masks(head, 400)
    z[masks == 0] = FORBIDDEN
    edge = torch.nextafter(torch.ones((), dtype=dtype), torch.zeros((), dtype=dtype))
    for noise in (0.0, float(edge), 1.0):
        u = torch.full((400, head.noise_size), noise, dtype=dtype)
        drawn = [head.sample(z, u)]
        if noise < 1:
            drawn.append(torch.from_numpy(np.asarray(numpy_sampler(head)(z.numpy(), u.numpy()))))
        for actions in drawn:
            assert distribution(head, z).log_prob(actions).gt(-1e3).all()

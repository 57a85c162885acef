"""Every pair of parts takes a finite step, or is refused in one line."""

import itertools
from typing import Any

import pytest
import torch

from rlopt.core.heads import Categorical, DiagonalGaussian
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.errors import UserError
from rlopt.policy.mlp import MLP
from rlopt.training.factory import learner
from tests.support.configurations import GROUPS, PARTS, load_part


def update_of(config: dict[str, Any], head: Any) -> Any:
    module = MLP((4,), "tanh", True, 1.0, 1.0).build(3, head.network_outputs, torch.Generator().manual_seed(0))
    network = Network(module.double(), head.constants)
    return network, learner(config, network, head, where="")


def samples_for(head: Any, network: Network, theta: torch.Tensor) -> Samples:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    z = network.outputs(theta, inputs)
    noise = torch.rand(24, head.noise_size, generator=generator, dtype=torch.float64)
    actions = head.sample(z, noise)
    advantages = torch.randn(24, generator=generator, dtype=torch.float64)
    weight = torch.ones(24, dtype=torch.float64)
    step = torch.arange(24)
    return Samples(inputs, actions, weight, advantages, z, head.log_prob(z, actions), step % 8, step // 8)


HEADS = {"categorical": Categorical(3), "gaussian": DiagonalGaussian(2), "sigma": DiagonalGaussian(2, scale="sigma")}
BASE = {"objective": "surrogate", "metric": "fisher", "solver": "cg", "damping": "constant", "step": "trust_region",
        "schedule": "whole_batch"}  # fmt: skip


@pytest.mark.parametrize(
    "head, pair",
    [
        *(("sigma", (part, "step")) for part in PARTS if part != "step"),
        *(("sigma", (part, "metric")) for part in PARTS if part not in ("metric", "step")),
        ("gaussian", ("metric", "solver")),
        ("categorical", ("metric", "solver")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_every_pair_of_parts_takes_a_finite_step_or_is_refused(head, pair):
    built, head = 0, HEADS[head]
    for names in itertools.product(*(GROUPS[group] for group in pair)):
        chosen = BASE | dict(zip(pair, names, strict=True))
        try:
            network, made = update_of({g: load_part(g, name, optimizer="sgd") for g, name in chosen.items()}, head)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        theta = network.layout.flatten(network.module, head.initial_constants()).double()
        samples = samples_for(head, network, theta)
        after, state, _ = made.run(theta.clone(), made.init(theta), samples, torch.Generator().manual_seed(0), 1)
        assert after.isfinite().all(), names
        assert made.advance(state).keys() == state.keys()
        built += 1
    assert built > 0

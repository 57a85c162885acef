"""Every pair of parts takes a finite step, or is refused in one line."""

import itertools
from typing import Any

import pytest
import torch
from gymnasium import spaces

from rlopt.config import check_config
from rlopt.config.fitting import check_network
from rlopt.core.heads import Categorical, DiagonalGaussian
from rlopt.core.learner import Learner
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.core.update import Update
from rlopt.errors import UserError
from rlopt.policy.mlp import MLP
from tests.support.configurations import GROUPS, PARTS, load_part, small_config

THREE = spaces.Box(-1, 1, (3,))


def update_of(parts: dict[str, Any], head: Any) -> tuple[Network, torch.Tensor, Learner]:
    """A network, its theta, and the learner of these parts for it. Raises UserError where they are refused."""
    chosen = check_config(small_config("", {}) | parts).actor
    module = MLP((4,), "tanh", True, 1.0, 1.0).build(THREE, head.network_outputs, torch.Generator().manual_seed(0))
    network = Network(module.double(), head.constants)
    theta = network.layout.flatten(network.module, head.initial_constants()).double()
    check_network(chosen, network, head, theta, 3, 24, "")
    names = ("objective", "metric", "solver", "damping", "step", "l2")
    update = Update(network, head, *(getattr(chosen, name) for name in names))
    return network, theta, Learner(update, chosen.schedule)


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
            network, theta, made = update_of(
                {g: load_part(g, name, optimizer="sgd") for g, name in chosen.items()}, head
            )
        except UserError as error:
            assert "\n" not in str(error)
            continue
        samples = samples_for(head, network, theta)
        after, state, _ = made.run(theta.clone(), made.init(theta), samples, torch.Generator().manual_seed(0), 1)
        assert after.isfinite().all(), names
        assert made.advance(state).keys() == state.keys()
        built += 1
    assert built > 0

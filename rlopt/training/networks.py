"""Networks: from the options of policy or critic to the network that they describe, if it suits the observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch

from rlopt.config.schema import construct, options, parameters
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.envs.spaces import image
from rlopt.errors import UserError
from rlopt.policy.mlp import MLP, NetworkFactory
from rlopt.policy.nature_cnn import NatureCNN

_KINDS: dict[str, type[MLP] | type[NatureCNN]] = {"mlp": MLP, "nature_cnn": NatureCNN}


def network(
    config: Mapping[str, Any], where: str, head: Head, space: gym.Space, generator: torch.Generator, dtype: torch.dtype
) -> Network:
    """The network at ``where`` in ``config`` (policy or critic), from observations of ``space`` to ``head``'s outputs.

    Its weights are drawn from ``generator``. Raises UserError where it cannot see such observations.
    """
    name = options(config, where).get("network", "mlp")
    if name not in _KINDS:
        raise UserError(f"{where}.network must be one of {', '.join(_KINDS)}; got {name!r}")
    kind = _KINDS[name]
    factory: NetworkFactory = construct(kind, options(config, where, *parameters(kind)), where)
    try:
        factory.sees(space)
    except ValueError as error:
        others = "policy=nature_cnn critic=nature_cnn, or critic=shared for one network"
        advice = others if image(space) else "policy=mlp critic=mlp"
        raise UserError(f"{where}={name}: {error}; choose {advice}") from error
    try:
        module = factory.build(space, head.network_outputs, generator)
    except ValueError as error:
        raise UserError(f"{where}.{error}") from error
    return Network(module.to(dtype), head.constants)

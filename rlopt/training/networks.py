"""Networks: from the options of policy or critic to the network that they describe, if it suits the observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch

from rlopt.config.schema import construct, options, parameters
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.envs.spaces import described, image, observation_size
from rlopt.errors import UserError
from rlopt.policy.mlp import MLP
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
    kind, pixels = _KINDS[name], image(space)
    made = construct(kind, options(config, where, *parameters(kind)), where)
    if kind.images and pixels is None:
        raise UserError(
            f"{where}=nature_cnn sees images, Boxes of uint8 in 2 or 3 dimensions; the observations are "
            f"{described(space)}; choose policy=mlp critic=mlp"
        )
    if pixels is not None and not kind.images:
        raise UserError(
            f"the observations are images, {pixels}, which {where}={name} does not see; choose policy=nature_cnn "
            "critic=nature_cnn, or critic=shared for one network"
        )
    seen: Any = observation_size(space) if pixels is None else pixels
    try:
        module = made.build(seen, head.network_outputs, generator)
    except ValueError as error:
        raise UserError(f"{where}.{error}") from error
    return Network(module.to(dtype), head.constants)

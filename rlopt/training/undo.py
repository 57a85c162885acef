"""Taking back what a network learned from a rollout, where its last step has left it with numbers that are not finite.

Each step is judged before it is taken (core/update.py); that the parameters it leads to are of use only shows after it.
A network learns on a copy, so that the state before the update stays as it was, whatever becomes of the update.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlopt.core.update import first_nonfinite


def copied(network: dict[str, Any]) -> dict[str, Any]:
    """A network's state, with copies of what an optimizer changes in place."""
    parts = network["parts"]
    return {**network, "theta": network["theta"].clone(), "parts": {**parts, "step": _clone(parts["step"])}}


def exploded(network: dict[str, Any], name: str, measured: Tensor | float) -> str | None:
    """What of a network, or of what was measured of it after its steps, is not finite."""
    theta = network["theta"]
    bad = first_nonfinite({"theta": theta, name: torch.as_tensor(measured, dtype=theta.dtype, device=theta.device)})
    return bad and f"{bad} after the update"


def _clone(node: Any) -> Any:
    if isinstance(node, Tensor):
        return node.clone()
    return {k: _clone(v) for k, v in node.items()} if isinstance(node, dict) else node

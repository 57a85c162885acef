"""A tree of tensors and plain values in two forms that can hold no code: JSON, and safetensors for the tensors.

The JSON is the tree, with a tensor's path where the tensor was.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.numpy import save
from safetensors.torch import load
from safetensors.torch import save as save_of_torch
from torch import Tensor

_TENSOR = "__tensor__"
_AWAY = "__tensor_of_device__"  # one that was not on the CPU
_ITEMS = "__items__"  # of a dictionary whose keys are not all text, as JSON's are


def packed(tree: dict[str, Any]) -> tuple[bytes, bytes]:
    """The tree and its tensors. Raises TypeError, with its path, for what neither can hold."""
    tensors: dict[str, Tensor] = {}
    state = json.dumps(_take_out(tree, "", tensors), indent=1).encode()
    try:
        return state, save({name: tensor.numpy() for name, tensor in tensors.items()})
    except TypeError:  # numpy has no such type; torch's form keeps memory for every length that a tensor ever had
        return state, save_of_torch(tensors)


def unpacked(state: bytes, tensors: bytes, device: torch.device) -> dict[str, Any]:
    """The tree; tensors that were not on the CPU come to ``device``. Raises where the two do not belong together."""
    # fresh memory for each: products may round by where a tensor begins
    found = {name: tensor.clone() for name, tensor in load(tensors).items()}
    used: set[str] = set()
    tree: dict[str, Any] = _put_back(json.loads(state), found, device, used)
    if not isinstance(tree, dict) or used != set(found):
        raise ValueError("its two files do not belong together")
    return tree


def _take_out(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The tree with each tensor moved to ``tensors`` and its path left in its place."""
    if isinstance(node, Tensor):
        path = f"{path}~{len(tensors)}" if path in tensors else path  # names may hold slashes themselves
        # columns first, as LAPACK gives them, must come back so: products round by the order in memory
        order = sorted(range(node.dim()), key=lambda i: -node.stride()[i])
        tensors[path] = node.detach().permute(order).to("cpu").contiguous().clone()
        return {_TENSOR if node.device.type == "cpu" else _AWAY: [path, order]}
    if isinstance(node, dict) and not all(isinstance(k, str) for k in node):
        return {_ITEMS: _take_out(list(node.items()), path, tensors)}
    if isinstance(node, dict):
        return {k: _take_out(v, f"{path}/{k}".lstrip("/"), tensors) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_take_out(v, f"{path}/{i}".lstrip("/"), tensors) for i, v in enumerate(node)]
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"a checkpoint holds tensors, numbers and text; {path} is {type(node).__name__}")


def _put_back(node: Any, tensors: dict[str, Tensor], device: torch.device, used: set[str]) -> Any:
    if isinstance(node, dict):
        if len(node) == 1:
            ((kind, value),) = node.items()
            if kind in (_TENSOR, _AWAY):
                path, order = value
                used.add(path)
                tensor = tensors[path].permute([order.index(i) for i in range(len(order))])
                return tensor.to(device) if kind == _AWAY else tensor
            if kind == _ITEMS:
                return {k: _put_back(v, tensors, device, used) for k, v in value}
        return {k: _put_back(v, tensors, device, used) for k, v in node.items()}
    return [_put_back(v, tensors, device, used) for v in node] if isinstance(node, list) else node

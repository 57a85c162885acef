"""Checkpoints: a tree of tensors and plain values as two files, safetensors and JSON. Loading can run no code.

    checkpoints/step-000000102400/tensors.safetensors    every tensor, under its path in the tree
    checkpoints/step-000000102400/state.json             the tree, with a tensor's path where the tensor was

A checkpoint is written under a temporary name and renamed, so that one under its own name is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlopt.errors import UserError

FORMAT = 1
_TENSOR = "__tensor__"
_ITEMS = "__items__"  # of a dictionary whose keys are not all text, as JSON's are


def save(directory: Path, step: int, tree: dict[str, Any], keep: int) -> Path:
    """Write ``tree`` as the checkpoint of ``step`` under ``directory``; older ones beyond ``keep`` are removed."""
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f"step-{step:012d}"
    unfinished = directory / f".{place.name}.{os.getpid()}"
    tensors: dict[str, Tensor] = {}
    plain = {"format": FORMAT, "step": step, "tree": _take_out(tree, "", tensors)}
    shutil.rmtree(unfinished, ignore_errors=True)  # of a save that failed
    unfinished.mkdir()
    save_file(tensors, unfinished / "tensors.safetensors")
    (unfinished / "state.json").write_text(json.dumps(plain, indent=1))
    if place.exists():
        shutil.rmtree(place)
    unfinished.rename(place)
    for old in list_checkpoints(directory)[:-keep]:
        shutil.rmtree(old)
    return place


def list_checkpoints(directory: Path) -> list[Path]:
    """Checkpoints under ``directory``, oldest first."""
    return sorted(p for p in directory.glob("step-*") if p.is_dir())


def load(place: Path) -> dict[str, Any]:
    """The tree saved at ``place``."""
    try:
        plain = json.loads((place / "state.json").read_text())
        tensors = load_file(place / "tensors.safetensors")
        if plain["format"] != FORMAT:
            raise UserError(f"{place} has checkpoint format {plain['format']}; this rlopt reads format {FORMAT}")
        tree: dict[str, Any] = _put_back(plain["tree"], tensors)
        return tree
    except UserError:
        raise
    except Exception as error:  # whatever is wrong with the files, it is one message for the user
        raise UserError(f"{place} is not a whole checkpoint: {type(error).__name__}: {error}") from error


def load_newest(run_dir: Path) -> tuple[int, dict[str, Any]]:
    """(step, tree) of the newest checkpoint of a run."""
    found = list_checkpoints(run_dir / "checkpoints")
    if not found:
        raise UserError(f"{run_dir} holds no checkpoint; give the folder of a run, as `rlopt train` printed it")
    return int(found[-1].name.removeprefix("step-")), load(found[-1])


def _take_out(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The tree with each tensor moved to ``tensors`` and its path left in its place."""
    if isinstance(node, Tensor):
        path = f"{path}~{len(tensors)}" if path in tensors else path  # names may hold slashes themselves
        tensors[path] = node.detach().to("cpu").contiguous().clone()
        return {_TENSOR: path}
    if isinstance(node, dict) and not all(isinstance(k, str) for k in node):
        return {_ITEMS: _take_out(list(node.items()), path, tensors)}
    if isinstance(node, dict):
        return {k: _take_out(v, f"{path}/{k}".lstrip("/"), tensors) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_take_out(v, f"{path}/{i}".lstrip("/"), tensors) for i, v in enumerate(node)]
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"a checkpoint holds tensors, numbers and text; {path} is {type(node).__name__}")


def _put_back(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if set(node) == {_TENSOR}:
            return tensors[node[_TENSOR]]
        if set(node) == {_ITEMS}:
            return {k: _put_back(v, tensors) for k, v in node[_ITEMS]}
        return {k: _put_back(v, tensors) for k, v in node.items()}
    return [_put_back(v, tensors) for v in node] if isinstance(node, list) else node


def to_device(node: Any, device: torch.device) -> Any:
    """The tree with every tensor on ``device``."""
    if isinstance(node, Tensor):
        return node.to(device)
    return {k: to_device(v, device) for k, v in node.items()} if isinstance(node, dict) else node

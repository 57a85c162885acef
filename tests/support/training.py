"""Short runs, what they recorded, and what they saved."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlopt.checkpoint import format as checkpoint
from rlopt.training.trainer import Trainer
from tests.support.probes import make_trainer
from tests.support.traces import read

SMALL = ["batch_size=80", "total_steps=240", "policy.hidden=[8]", "critic.hidden=[8]", "evaluation.episodes=3"]


def start(run_dir: Path, *overrides: str) -> Trainer:
    return make_trainer(f"run_dir={run_dir}", *SMALL, *overrides)


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """name -> (step, value) of every point, as TensorBoard reads them."""
    events = read(run_dir)
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for name, node in tree.items() for k, v in leaves(node, f"{path}/{name}").items()}
    return {path: tree}


def equal(a: Any, b: Any) -> bool:
    left, right = leaves(a), leaves(b)
    return left.keys() == right.keys() and all(
        torch.equal(left[k], right[k]) if isinstance(left[k], Tensor) else left[k] == right[k] for k in left
    )


def saved(run_dir: Path) -> tuple[int, dict[str, Any]]:
    return checkpoint.load_newest(run_dir)


NAN = ["env.id=probe/NotFinite-v0", "env.num_envs=4", "batch_size=20", "total_steps=2000", "evaluation.episodes=0"]

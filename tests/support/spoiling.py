"""Runs with checkpoints to spoil, and files forged with sums that fit."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from rlopt.checkpoint import format as checkpoint
from rlopt.errors import UserError

NAMES = ("manifest.json", "state.json", "tensors.safetensors")


def example(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    return {
        "agent": {
            "actor": {"theta": torch.randn(40, generator=generator), "parts": {"step": {"lr": 3e-4, "on": True, "k": None}}},
            "critic": {"theta": torch.randn(3, 5, generator=generator, dtype=torch.float64)},
            "observations": {"count": torch.tensor(7.0 + step), "mean": torch.zeros(0)},
        },
        "generator": generator.get_state()[:80],
        "recent": [1.5, -2.0, 1e-300],
        "steps": step,
    }  # fmt: skip


def whole_run(run_dir: Path) -> tuple[Path, dict]:
    """A run with two checkpoints: the newest, and its tree."""
    for step in (100, 200):
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        place = checkpoint.save(run_dir / "checkpoints", step, example(step), keep=2)
    return place, example(200)


def refused(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(place)
    message = str(caught.value)
    assert str(place) in message and "\n" not in message and len(message) < 600
    return message


def forge(place: Path, **contents: bytes) -> None:
    """Files under these names, and the manifest that belongs to them."""
    files = {"state.json": (place / "state.json").read_bytes(), "tensors.safetensors": (place / "tensors.safetensors").read_bytes()}  # fmt: skip
    files |= {name.replace("_", "."): content for name, content in contents.items()}
    for name, content in files.items():
        (place / name).write_bytes(content)
    old = json.loads((place / "manifest.json").read_text())
    sums = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    manifest = {"format": old["format"], "step": old["step"], "score": old["score"], "files": sums}
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (place / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest}))


def small() -> dict:
    """A tree with a little of everything."""
    return {
        "theta": torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        "parts": {"step": {"group": {"lr": 3e-4, "betas": [0.9, 0.999], "fused": True}, "moments": {}}, "none": None},
        "generator": torch.Generator().manual_seed(1).get_state(),
        "steps": 12,
    }

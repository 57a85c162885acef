"""Runs with checkpoints to spoil, and files forged with digests that fit."""

import json
import struct
from pathlib import Path

import pytest
import torch

from rlopt.checkpoint import manager as checkpoint
from rlopt.checkpoint.format import seal
from rlopt.errors import UserError

ZEROS = "0" * 64  # in the place of a digest


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


def parts(content: bytes) -> tuple[dict, bytes]:
    """The entries of a safetensors header, and the bytes behind it."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    if end > len(content):
        raise ValueError("the header is cut short")
    return json.loads(content[8:end]), content[end:]


def packed(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header, which may be none."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def forge(place: Path, state: bytes | None = None, tensors: bytes | None = None, **fields: str) -> None:
    """Another state or other tensors, a whole safetensors file, in a checkpoint, with digests that fit.

    A header that can hold no digests is written as it is.
    """
    header, data = parts(place.read_bytes())
    metadata = header["__metadata__"] | fields | {"sha256_tensors": ZEROS, "sha256_header": ZEROS}
    if state is not None:
        metadata["state"] = state.decode(errors="replace")
    try:
        header, data = (header, data) if tensors is None else parts(tensors)
        place.write_bytes(seal(packed({**header, "__metadata__": metadata}, data)))
    except (ValueError, TypeError):
        assert tensors is not None
        place.write_bytes(tensors)


def small() -> dict:
    """A tree with a little of everything."""
    return {
        "theta": torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        "parts": {"step": {"group": {"lr": 3e-4, "betas": [0.9, 0.999], "fused": True}, "moments": {}}, "none": None},
        "generator": torch.Generator().manual_seed(1).get_state(),
        "steps": 12,
    }

"""One checkpoint: a tree of tensors and plain values in one safetensors file. Loading it can run no code.

A file, such as checkpoints/step-000000102400.safetensors, holds every tensor under its path in the tree. The rest is
text in the header's ``__metadata__``:

| entry          | holds                                                             |
|---|---|
| format         | the number of this format                                         |
| step           | the run's steps, as in the file's name                            |
| score          | the return measured for this policy, as JSON; null without one    |
| state          | the tree as JSON, with a tensor's path where the tensor was       |
| sha256_tensors | digest of all bytes behind the header                             |
| sha256_header  | digest of the header, taken with zeros in the place of this digest |

The two digests cover every byte of the file. Step and score can be checked without reading the tensors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from rlopt.errors import UserError, in_one_line
from rlopt.files import replace_file
from rlopt.files.reading import check_depth, open_regular

FORMAT = 3
_NAME = re.compile(r"step-(\d{12,15})\.safetensors")
_LARGEST = 2**62  # bytes; what a header promises is compared with the file's length before it is read
_LARGEST_HEADER = 100_000_000  # bytes; safetensors reads no larger one
_DEEPEST = 100  # levels of the tree
_NO_DIGEST = "0" * 64

# keys that mark, in the JSON, what JSON does not have
_TENSOR = "__tensor__"
_DEVICE_TENSOR = "__tensor_of_device__"  # a tensor that was not on the CPU
_ITEMS = "__items__"  # a dictionary whose keys are not all text


def file_name(step: int) -> str:
    """The name of the checkpoint of ``step``."""
    return f"step-{step:012d}.safetensors"


def step_of(path: Path) -> int:
    """The step in a checkpoint's name; -1 where the name is not a checkpoint's."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def write(path: Path, step: int, tree: dict[str, Any], score: float | None) -> None:
    """Write ``tree`` to ``path``. After a crash there is the old file, or none, or the whole new one.

    Raises OSError where it cannot be written, and TypeError, with the path in the tree, for a value of another kind
    than tensors, numbers, text, dictionaries and lists.
    """
    tensors: dict[str, Tensor] = {}
    metadata = {
        "format": str(FORMAT),
        "step": str(step),
        "score": json.dumps(score),
        "state": json.dumps(_take_tensors(tree, "", tensors)),
        "sha256_tensors": _NO_DIGEST,
        "sha256_header": _NO_DIGEST,
    }
    try:
        content = save_arrays({name: tensor.numpy() for name, tensor in tensors.items()}, metadata)
    except TypeError:  # numpy has no such dtype. save_tensors keeps memory for every length that a tensor ever had
        content = save_tensors(tensors, metadata)
    if _header_length(content) > _LARGEST_HEADER:
        raise OSError(errno.EFBIG, "the state is too large for a checkpoint", str(path))
    replace_file(path, seal(content))


def load(path: Path) -> dict[str, Any]:
    """The tree of a checkpoint, on the CPU. Raises UserError where the file is not as it was written."""
    return unpack(read(path), path)


def read(path: Path) -> bytes:
    """The checkpoint's bytes, all checked. Raises UserError where the file is not as it was written."""
    with _one_line_errors(path), _open(path) as file:
        header, entries = _read_header(file, path)
        fields = entries.pop("__metadata__")
        length = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if os.fstat(file.fileno()).st_size != len(header) + length:
            raise ValueError("the file is not as long as it was written")
        data = file.read(length)
        if _sha256(data) != fields["sha256_tensors"]:
            raise ValueError("the tensors are not as they were written")
        return header + data


def read_score(path: Path) -> float | None:
    """The score in the header; None where there is none, it is not finite, or the header is not as it was written."""
    try:
        with _one_line_errors(path), _open(path) as file:
            _, entries = _read_header(file, path)
            score = json.loads(entries["__metadata__"]["score"])
    except UserError:
        return None
    return score if isinstance(score, int | float) and math.isfinite(score) else None


def unpack(content: bytes, path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """The tree in the bytes from `read`. Tensors that were not on the CPU go to ``device``, by default the CPU.

    ``path`` is named in the UserError that is raised where the state names other tensors than the file holds.
    """
    with _one_line_errors(path):
        fields = json.loads(content[8 : 8 + _header_length(content)])["__metadata__"]
        # fresh memory for each tensor: products may round by where it begins
        tensors = {name: tensor.clone() for name, tensor in load_tensors(content).items()}
        used: set[str] = set()
        check_depth(fields["state"], _DEEPEST)
        tree: dict[str, Any] = _put_tensors(json.loads(fields["state"]), tensors, device or torch.device("cpu"), used)
        if not isinstance(tree, dict) or used != set(tensors):
            raise ValueError("the tensors that its state names are not those that it holds")
        return tree


def seal(content: bytes) -> bytes:
    """Fill both digests into the bytes of a checkpoint; return the new bytes."""
    end = 8 + _header_length(content)
    header = _with_digest(content[:end], "sha256_tensors", _sha256(content[end:]))
    return _with_digest(header, "sha256_header", _sha256_header(header)) + content[end:]


def _header_length(content: bytes) -> int:
    """The length of the header in bytes, which safetensors puts before it in eight bytes."""
    return int.from_bytes(content[:8], "little")


def _with_digest(header: bytes, name: str, digest: str) -> bytes:
    """The header with this digest. Within a JSON text quotes are escaped, so the first match is the entry itself."""
    key = f'"{name}":"'.encode()
    start = header.index(key) + len(key)
    return header[:start] + digest.encode() + header[start + len(_NO_DIGEST) :]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sha256_header(header: bytes) -> str:
    return _sha256(_with_digest(header, "sha256_header", _NO_DIGEST))


def _open(path: Path) -> IO[bytes]:
    """Open a checkpoint for reading. Refuses links and other names, and does not wait for a pipe."""
    if step_of(path) < 0:
        raise ValueError("its name is not step-N.safetensors")
    return open_regular(path, _LARGEST, follow=False)


def _read_header(file: IO[bytes], path: Path) -> tuple[bytes, dict[str, Any]]:
    """The header's bytes, with the eight before it, and its entries, once format, digest and step are right.

    Its length is bounded before it is read.
    """
    start = file.read(8)
    length = _header_length(start)
    if len(start) < 8 or length > min(_LARGEST_HEADER, os.fstat(file.fileno()).st_size - 8):
        raise ValueError("the header is cut short")
    header = start + file.read(length)
    entries: dict[str, Any] = json.loads(header[8:])
    fields = entries["__metadata__"]
    if fields["format"] != str(FORMAT):
        raise UserError(f"{path} has checkpoint format {fields['format'][:9]}; this rlopt reads format {FORMAT}")
    if fields["sha256_header"] != _sha256_header(header):
        raise ValueError("the header is not as it was written")
    if fields["step"] != str(step_of(path)):
        raise ValueError(f"it is the checkpoint of step {fields['step']}")
    return header, entries


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Within, whatever is wrong with the file becomes one line for the user."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {in_one_line(error)}"
        raise UserError(f"{path} is not a whole checkpoint: {message}") from error


def _take_tensors(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON can hold it. Each tensor goes to ``tensors``; its path and the order of its axes stay."""
    if isinstance(node, Tensor):
        path = f"{path}~{len(tensors)}" if path in tensors else path  # names may hold slashes themselves
        # a column-major matrix, as LAPACK gives it, must come back so: products round by the order in memory
        order = sorted(range(node.dim()), key=lambda i: -node.stride()[i])
        tensors[path] = node.detach().permute(order).to("cpu").contiguous().clone()
        return {_TENSOR if node.device.type == "cpu" else _DEVICE_TENSOR: [path, order]}
    if isinstance(node, dict) and not all(isinstance(k, str) for k in node):
        return {_ITEMS: _take_tensors(list(node.items()), path, tensors)}
    if isinstance(node, dict):
        return {k: _take_tensors(v, f"{path}/{k}".lstrip("/"), tensors) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_take_tensors(v, f"{path}/{i}".lstrip("/"), tensors) for i, v in enumerate(node)]
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"a checkpoint holds tensors, numbers and text; {path} is {type(node).__name__}")


def _put_tensors(node: Any, tensors: dict[str, Tensor], device: torch.device, used: set[str]) -> Any:
    """The tree with its tensors again, from the JSON; ``used`` collects their names."""
    if isinstance(node, list):
        return [_put_tensors(v, tensors, device, used) for v in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        ((kind, value),) = node.items()
        if kind in (_TENSOR, _DEVICE_TENSOR):
            path, order = value
            used.add(path)
            tensor = tensors[path].permute([order.index(i) for i in range(len(order))])
            return tensor.to(device) if kind == _DEVICE_TENSOR else tensor
        if kind == _ITEMS:
            return {k: _put_tensors(v, tensors, device, used) for k, v in value}
    return {k: _put_tensors(v, tensors, device, used) for k, v in node.items()}

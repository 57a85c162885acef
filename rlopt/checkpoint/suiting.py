"""Whether what a checkpoint holds suits the run that would go on from it: names, kinds, shapes and types."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def check_suits(found: Any, like: Any, where: str) -> None:
    """Raise ValueError, naming the place in the tree, where ``found`` is not made as ``like`` is.

    What is empty or None in ``like``, as moments are before the first step, may have been filled, though not with text.
    """
    if isinstance(like, Tensor) and like.ndim:
        wanted = f"{_described(like)}"
        _require(isinstance(found, Tensor) and _described(found) == wanted, where, wanted, found)
    elif isinstance(like, dict):
        _require(isinstance(found, dict), where, "a group of entries", found)
        for name, inner in like.items():
            if name not in found:
                raise ValueError(f"{where}/{name} is missing")
            check_suits(found[name], inner, f"{where}/{name}")
        if where != "checkpoint":
            for name in found.keys() - like.keys():
                _check_filled(found[name], f"{where}/{name}")
    elif isinstance(like, (list, tuple)):
        _require(isinstance(found, (list, tuple)) and len(found) == len(like), where, f"a list of {len(like)}", found)
        for i, inner in enumerate(like):
            check_suits(found[i], inner, f"{where}/{i}")
    elif isinstance(like, (bool, str)):
        _require(type(found) is type(like), where, "text" if isinstance(like, str) else "true or false", found)
    elif like is not None:  # a number, in whichever of its two forms
        plain = isinstance(found, (int, float)) and not isinstance(found, bool)
        _require(plain or (isinstance(found, Tensor) and found.ndim == 0), where, "a number", found)
    else:
        _check_filled(found, where)


def _check_filled(found: Any, where: str) -> None:
    """Of a part's state that is not there before its first step is known only what it is made of."""
    if isinstance(found, dict):
        for name, inner in found.items():
            _check_filled(inner, f"{where}/{name}")
    elif isinstance(found, (list, tuple)):
        for i, inner in enumerate(found):
            _check_filled(inner, f"{where}/{i}")
    else:
        _require(not isinstance(found, str), where, "tensors and numbers", found)


def _require(holds: bool, where: str, wanted: str, found: Any) -> None:
    if not holds:
        came = _described(found) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{where} should be {wanted}; it is {came}")


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"

"""Mahalanobis metric: M = A, a symmetric positive definite matrix that is given once and for all (Mahalanobis 1936).

    A = diag(d) + S + F F^T,     d (P,) a diagonal, S (P, P) symmetric, F (P, r) a factor of low rank

Each may be left out. The metric assumes that distance in theta is the same everywhere, which holds for no network but
may for a few well-known parameters.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.curvature import ByProduct, Given
from rlopt.core.heads import Head
from rlopt.core.parts import PRODUCT, SEMIDEFINITE, Bound, Metric, Objective, Requirements, State
from rlopt.core.requirements import Incompatible
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape

_ASYMMETRY = 1e-6  # of the largest entry: what rounding to float32 may have left


@dataclass(frozen=True)
class Mahalanobis(Metric):
    """M = diag(d) + S + F F^T, given once and for all; the units of 1/2 v^T M v are those of the numbers.

    Options:
        diagonal: d, one number or a list of P; null is 1 where nothing else is given, else 0.
        matrix: S, a list of P rows, symmetric; null leaves it out.
        file: null, or a .npy or .npz file of numbers. The array of a .npy file is S where it is square, d where it has
            one dimension, else F (P, r); those of a .npz file are named diagonal, matrix and factor.

    Source: Mahalanobis 1936. Raises ValueError where the sum is not symmetric and positive definite or the file holds
    anything else; Incompatible where P is not the number of parameters.
    """

    diagonal: float | tuple[float, ...] | None
    matrix: tuple[tuple[float, ...], ...] | None
    file: str | None

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, SEMIDEFINITE})

    def __post_init__(self) -> None:
        _ = self._parts  # read and checked now, not in the middle of a run

    @property
    def requirements(self) -> Requirements:
        return Requirements(check_size=self._check_size)

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        size = tape.size
        self._check_size(size)
        parts = {name: part.to(tape.outputs) for name, part in self._parts.items()}
        if "matrix" in parts:
            return Given(parts["matrix"]), state
        d = parts["diagonal"].expand(size)
        if "factor" not in parts:
            return Given(d), state
        F = parts["factor"]
        return ByProduct(tape, lambda v: torch.addmv(d * v, F, F.t() @ v)), state

    def _check_size(self, size: int) -> None:
        """Raise Incompatible unless it fits a theta of ``size`` numbers."""
        for name, part in self._parts.items():
            if part.ndim and len(part) != size:
                shape = tuple(part.shape)
                raise Incompatible(f"{name} must have {size} rows, as theta has, and is of shape {shape}", diagonal=1)

    @cached_property
    def _parts(self) -> dict[str, Tensor]:
        """d () or (P,), S (P, P), F (P, r), those that are given, float64; together they are positive definite."""
        parts = {} if self.file is None else _read(self.file)
        for name in ("diagonal", "matrix"):
            if (given := getattr(self, name)) is not None:
                check(name not in parts, name, f"null beside file={self.file}, which holds one too", given)
                parts[name] = _tensor(name, given)
        d = parts.setdefault("diagonal", torch.tensor(0.0 if parts else 1.0, dtype=torch.float64))
        check(d.ndim < 2, "diagonal", "a number or a list of them", f"shape {tuple(d.shape)}")
        if (F := parts.get("factor")) is not None:
            check(F.ndim == 2, "factor", "of shape (P, r)", f"shape {tuple(F.shape)}")
        if (S := parts.get("matrix")) is None:
            beside = " beside a factor of low rank" if F is not None else ""
            check(bool((d > 0).all()), "diagonal", f"above 0 everywhere{beside}", float(d.min()))
            return parts
        square = S.ndim == 2 and S.shape[0] == S.shape[1]
        check(square, "matrix", "square", f"shape {tuple(S.shape)}")
        asymmetry = (S - S.t()).abs().max()
        check(bool(asymmetry <= _ASYMMETRY * S.abs().max()), "matrix", "symmetric", f"a difference of {asymmetry:.3g}")
        for name, part in parts.items():
            check(
                part.ndim == 0 or len(part) == len(S),
                name,
                f"of {len(S)} rows, as the matrix",
                len(part) if part.ndim else 1,
            )
        A = (S + S.t()) / 2 + d.expand(len(S)).diag()
        if F is not None:
            A = A + F @ F.t()
        least = torch.linalg.eigvalsh(A)[0]
        check(bool(least > 0), "matrix", "positive definite", f"smallest eigenvalue {least:.3g}")
        return {"matrix": A}


def _read(file: str) -> dict[str, Tensor]:
    """Name -> array of a .npy or .npz file; nothing in it can run code."""
    try:
        with open(file, "rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"file must be a .npy or .npz file of numbers; {file!r}: {error}") from error
    if not isinstance(arrays, dict):
        square = arrays.ndim == 2 and arrays.shape[0] == arrays.shape[1]
        arrays = {"matrix" if square else "diagonal" if arrays.ndim < 2 else "factor": arrays}
    for name in arrays:
        check(name in ("diagonal", "matrix", "factor"), f"{file}: an array's name", "diagonal, matrix or factor", name)
    return {name: _tensor(name, array) for name, array in arrays.items()}


def _tensor(name: str, values: Any) -> Tensor:
    """A finite float64 tensor."""
    try:
        tensor = torch.tensor(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers in rows of one length: {error}") from error
    check(tensor.numel() > 0 and bool(tensor.isfinite().all()), name, "finite numbers, at least one", values)
    return tensor

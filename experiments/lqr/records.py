"""Rows of results/*.csv, and how figures read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments._shared.data import read_rows
from experiments.lqr import sampled
from experiments.lqr.settings import Setting

DIGITS = 5  # significant ones
FIELD = ("setting", "k", "sigma", "J", "gradient_k", "gradient_scale", "natural_k", "natural_scale")
EXACT = ("setting", "rule", "method", "start_k", "start_sigma", "update", "k", "sigma")
SAMPLED = ("setting", "method", "start_k", "start_sigma", "seed", "update", "k", "sigma", "return")

Start = tuple[float, float]
ExactPaths = dict[tuple[str, str, str, Start], np.ndarray]  # (setting, rule, method, start) -> (N, 2) of k, sigma
# (setting, method, start, seed) -> (N, 3) of k, sigma, measured return
SampledPaths = dict[tuple[str, str, Start, int], np.ndarray]


def field(setting: Setting) -> list[list[object]]:
    """Rows of J and both arrows on a grid of policies; only where the closed loop is stable."""
    scale = np.geomspace(0.05, 1, 25) if setting.log else np.linspace(0.04, 1, 25)
    k, sigma = (grid.ravel() for grid in np.meshgrid(np.linspace(-2, 0, 41), scale))
    inside = setting.system.stable(k)
    k, sigma = k[inside], sigma[inside]
    gradient = setting.system.gradient(k, sigma, setting.scale)
    natural = setting.system.natural_gradient(k, sigma, setting.scale)
    columns = (k, sigma, setting.system.J(k, sigma), *gradient.T, *natural.T)
    return [[setting.name, *row] for row in zip(*columns, strict=True)]


def exact_rows(paths: ExactPaths) -> list[list[object]]:
    return [
        [setting, rule, method, *start, update, *policy]
        for (setting, rule, method, start), path in paths.items()
        for update, policy in enumerate(path)
    ]


def sampled_rows(paths: list[sampled.Path]) -> list[list[object]]:
    return [
        [
            job.setting.name,
            job.method,
            *job.start,
            job.seed,
            update,
            *policy,
            value,
        ]
        for job, policies, returns in paths
        for update, (policy, value) in enumerate(zip(policies, returns, strict=True))
    ]


def read_fields(path: Path) -> dict[str, np.ndarray]:
    """Setting -> (N, 7), the columns of FIELD after the first."""
    found: dict[str, list[list[float]]] = {}
    for row in read_rows(path):
        found.setdefault(row["setting"], []).append([float(row[name]) for name in FIELD[1:]])
    return {name: np.array(rows) for name, rows in found.items()}


def read_exact(path: Path) -> ExactPaths:
    found: dict[tuple[str, str, str, Start], list[list[float]]] = {}
    for row in read_rows(path):
        key = (row["setting"], row["rule"], row["method"], _start(row))
        found.setdefault(key, []).append([float(row["k"]), float(row["sigma"])])
    return {key: np.array(rows) for key, rows in found.items()}


def read_sampled(path: Path) -> SampledPaths:
    found: dict[tuple[str, str, Start, int], list[list[float]]] = {}
    for row in read_rows(path):
        key = (row["setting"], row["method"], _start(row), int(row["seed"]))
        found.setdefault(key, []).append([float(row[name]) for name in ("k", "sigma", "return")])
    return {key: np.array(rows) for key, rows in found.items()}


def _start(row: dict[str, str]) -> Start:
    return float(row["start_k"]), float(row["start_sigma"])

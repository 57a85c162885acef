"""Groups of runs that differ in nothing but their seed, named by the few options that tell them apart.

One preset sets dozens of options, so that runs of two differ in all of these. A label takes as few as separate every
two groups of the same environment, the preset first, then the parts, then whichever option separates most; each group
has the first few of these that no other shares. Groups of several environments with the same label are one method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rlopt.config.choices import PARTS
from rlopt.report.runs import Run

_ASIDE = ("seed", "run_dir", "updates", "env.id", "env.name")  # not compared, or follow from what is


@dataclass(frozen=True)
class Group:
    environment: str
    method: str  # the label
    config: Mapping[str, str]
    runs: tuple[Run, ...]  # by seed


def groups(runs: Sequence[Run]) -> list[Group]:
    """By environment and method, in the order in which methods and environments first appear in ``runs``."""
    members: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        config = tuple(sorted((k, v) for k, v in run.config.items() if k not in _ASIDE or k == "env.id"))
        members.setdefault(config, []).append(run)
    configs = [dict(config) for config in members]
    found = [
        Group(config["env.id"], method, config, tuple(sorted(same, key=lambda run: run.seed)))
        for config, method, same in zip(configs, labels(configs), members.values(), strict=True)
    ]
    environments = list(dict.fromkeys(g.environment for g in found))
    methods = list(dict.fromkeys(g.method for g in found))
    return sorted(found, key=lambda g: (environments.index(g.environment), methods.index(g.method)))


def varying(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Options that are not the same in all."""
    every = sorted({key for config in configs for key in config} - set(_ASIDE))
    return [key for key in every if len({config.get(key) for config in configs}) > 1]


def telling(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """The fewest options, as far as choosing them one by one finds, that separate configurations of one environment."""
    together = [pair for pair in combinations(configs, 2) if pair[0]["env.id"] == pair[1]["env.id"]]
    candidates, chosen = varying(configs), []
    while together:
        separated = {k: sum(a.get(k) != b.get(k) for a, b in together) for k in candidates}
        useful = [k for k in candidates if separated[k]]
        best = min(useful, key=lambda k: (_rank(k), -separated[k], k.count("."), k))
        chosen.append(best)
        together = [(a, b) for a, b in together if a.get(best) == b.get(best)]
    return chosen


def _rank(key: str) -> int:
    """What one would name first: the preset, the actor's parts, the critic's, anything else."""
    order = ["algo", *PARTS, *(f"critic.{part}" for part in PARTS)]
    return order.index(key) if key in order else len(order)


def labels(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Of each the first of the telling options, as many as no other shares: the preset by its name alone."""
    keys = telling(configs)
    chosen = [tuple(config.get(k) for k in keys) for config in configs]
    found = []
    for config, values in zip(configs, chosen, strict=True):
        others = set(chosen) - {values}
        count = next((n for n in range(1, len(keys)) if not any(o[:n] == values[:n] for o in others)), len(keys))
        words = (_word(key, value) for key, value in zip(keys[:count], values[:count], strict=True))
        found.append(" ".join(words) or config["algo"])
    return found


def _word(key: str, value: str | None) -> str:
    return f"no {key}" if value is None else value if key == "algo" else f"{key}={value}"

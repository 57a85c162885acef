"""Groups of runs that differ in their seed alone, with labels made of the few options in which the groups differ.

A preset sets dozens of options, and runs of two presets may differ in all of them. So labels use as few options as
separate every two groups of one environment: the preset first, then the parts, then the option that separates most
groups. Each group's label is the first few of these options whose values no other group shares. Groups of several
environments with the same label are one method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rlopt.config.choices import ACTOR_PARTS, PARTS
from rlopt.report.runs import Run

_IGNORED = ("seed", "run_dir", "updates", "env.id", "env.name")  # not compared, or they follow from others


# returns that are possible with the environment's own reward and time limit
POSSIBLE = {
    "CartPole-v0": (0.0, 200.0),
    "CartPole-v1": (0.0, 500.0),
    "rlopt/CartPolePositions-v0": (0.0, 500.0),
    "Acrobot-v1": (-500.0, 0.0),
    "MountainCar-v0": (-200.0, 0.0),
    "FrozenLake-v1": (0.0, 1.0),
    "FrozenLake8x8-v1": (0.0, 1.0),
}


@dataclass(frozen=True)
class Group:
    """Runs of one method on one environment."""

    environment: str
    method: str  # the label
    config: Mapping[str, str]
    runs: tuple[Run, ...]  # by seed

    @property
    def possible(self) -> tuple[float, float] | None:
        """The least and the greatest return that there can be; None where that is not known, or was changed."""
        changed = any(key.startswith("env.kwargs.") for key in self.config)
        changed = changed or self.config.get("env.wrappers", "[]") != "[]"
        return None if changed else POSSIBLE.get(self.environment)


def groups(runs: Sequence[Run]) -> list[Group]:
    """Groups by environment and method, in the order in which these first appear in ``runs``."""
    members: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        config = tuple(sorted((k, v) for k, v in run.config.items() if k not in _IGNORED or k == "env.id"))
        members.setdefault(config, []).append(run)
    configs = [dict(config) for config in members]
    found = [
        Group(config["env.id"], method, config, tuple(sorted(same, key=lambda run: run.seed)))
        for config, method, same in zip(configs, labels(configs), members.values(), strict=True)
    ]
    environments = list(dict.fromkeys(g.environment for g in found))
    methods = list(dict.fromkeys(g.method for g in found))
    return sorted(found, key=lambda g: (environments.index(g.environment), methods.index(g.method)))


def varying_options(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Options that differ between these configurations."""
    every = sorted({key for config in configs for key in config} - set(_IGNORED))
    return [key for key in every if len({config.get(key) for config in configs}) > 1]


def separating_options(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Few options that separate every two configurations of one environment, chosen greedily one by one."""
    alike = [pair for pair in combinations(configs, 2) if pair[0]["env.id"] == pair[1]["env.id"]]
    candidates, chosen = varying_options(configs), []
    while alike:
        separated = {k: sum(a.get(k) != b.get(k) for a, b in alike) for k in candidates}
        useful = [k for k in candidates if separated[k]]
        best = min(useful, key=lambda k: (_rank(k), -separated[k], k.count("."), k))
        chosen.append(best)
        alike = [(a, b) for a, b in alike if a.get(best) == b.get(best)]
    return chosen


def _rank(key: str) -> int:
    """The order in which options are named: the preset, the actor's parts, the critic's parts, any other."""
    order = ["algo", *ACTOR_PARTS, *(f"critic.{part}" for part in PARTS)]
    return order.index(key) if key in order else len(order)


def labels(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """The label of each configuration: the first separating options, as many as no other group shares."""
    keys = separating_options(configs)
    chosen = [tuple(config.get(k) for k in keys) for config in configs]
    found = []
    for config, values in zip(configs, chosen, strict=True):
        others = set(chosen) - {values}
        count = next((n for n in range(1, len(keys)) if not any(o[:n] == values[:n] for o in others)), len(keys))
        words = (_word(key, value) for key, value in zip(keys[:count], values[:count], strict=True))
        found.append(" ".join(words) or config["algo"])
    return found


def _word(key: str, value: str | None) -> str:
    """An option in a label; the preset is its name alone."""
    return f"no {key}" if value is None else value if key == "algo" else f"{key}={value}"

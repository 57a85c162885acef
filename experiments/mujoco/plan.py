"""What is trained: the cells of the table, and single choices against the same run without them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from rlopt.config.choices import file
from rlopt.config.saved import load

STEPS = 1_000_000
ABLATION_STEPS = 500_000
TUNING = range(100, 120)  # settings are chosen on these seeds alone
ABLATION_SEEDS = TUNING[:5]
FIRST = ("halfcheetah", "hopper", "walker2d", "ant")
TASKS = (*FIRST, "swimmer", "humanoid", "reacher", "inverted_double_pendulum")
TITLES = {
    "halfcheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "swimmer": "Swimmer-v5",
    "humanoid": "Humanoid-v5",
    "reacher": "Reacher-v5",
    "inverted_double_pendulum": "InvertedDoublePendulum-v5",
}
ALGOS = ("ppo", "trpo", "acktr", "npg", "a2c", "vpg")
ZOO = ("trpo", "ppo", "acktr")  # algorithms of which the best policies are kept


def seeds_of(algo: str, task: str) -> range:
    """The seeds of a cell, fixed before any of them was run."""
    if algo in ("a2c", "vpg"):
        return range(5) if task in FIRST else range(0)
    return range(10) if task in FIRST else range(5)


class Choice(NamedTuple):
    """Options that are tried on an algorithm, and the environments on which they are."""

    name: str
    algo: str
    overrides: tuple[str, ...]
    tasks: tuple[str, ...] = FIRST[:3]


CRITIC_WIDE = ("critic.hidden=[256,256]",)
BOTH_NORMS = ("policy.layer_norm=true", "critic.layer_norm=true")
EQUAL_BETAS = ("optimizer.betas=[0.99,0.99]", "critic.optimizer.betas=[0.99,0.99]")
CHOICES = [  # the first of an algorithm is what the others are compared with
    *(Choice("preset", algo, ()) for algo in ("ppo", "trpo")),
    *(Choice("wide critic", algo, CRITIC_WIDE) for algo in ("ppo", "trpo")),
    Choice("KL-adaptive rate", "ppo", ("scheduler=kl_adaptive",)),
    *(Choice("normalised targets", algo, ("critic.targets.normalise=true",)) for algo in ("ppo", "trpo")),
    *(Choice("correlated noise", algo, ("noise.color=0.5",)) for algo in ("ppo", "trpo")),
    Choice("sample reuse", "ppo", ("reuse.batches=4", "batch_size=1024", "objective.clip=0.08")),
    Choice("sample reuse", "trpo", ("reuse.batches=4", "batch_size=1024", "step.radius=0.0016")),
    Choice("quadratic penalty", "ppo", ("objective=spo",)),
    Choice("layer normalisation", "ppo", BOTH_NORMS),
    Choice("equal betas", "ppo", EQUAL_BETAS),
    *(Choice("preset", algo, (), ("swimmer",)) for algo in ("ppo", "trpo")),
    *(Choice("gamma 0.99", algo, ("gamma=0.99",), ("swimmer",)) for algo in ("ppo", "trpo")),
]


class Job(NamedTuple):
    """One run. ``kind`` is the folder of its result: cells, ablations or search."""

    kind: str
    name: str  # of what differs from the algorithm's preset; nothing for a cell
    algo: str
    task: str
    seed: int
    steps: int
    overrides: tuple[str, ...] = ()  # besides algo, env, seed and steps

    @property
    def label(self) -> str:
        """A name for files."""
        parts = (self.algo, self.name, self.task, str(self.seed))
        return "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts if part)

    @property
    def settings(self) -> dict[str, Any]:
        """What a result must have been made with to count as this run's."""
        named = [typed.partition("=")[2] for typed in self.overrides if typed.startswith("recipe=")]
        own = recipe(named[-1] if named else f"{self.algo}-{self.task}")
        return {"steps": self.steps, "overrides": list(self.overrides), "recipe": own}


@cache
def recipe(name: str | None) -> dict[str, Any]:
    """The overrides of a recipe, such as trpo-hopper, which may begin from another; nothing where there is none."""
    found: dict[str, Any] = {}
    while name and (path := file("recipe", name)).is_file():
        values = load(path)
        found, name = {**values, **found}, values.pop("recipe", None)
    found.pop("recipe", None)
    return found


def cells(steps: int = STEPS) -> list[Job]:
    """Every cell's seed 0, then every cell's seed 1, and so on: an early table has all cells."""
    jobs = [Job("cells", "", algo, task, seed, steps)
            for task in TASKS for algo in ALGOS for seed in seeds_of(algo, task)]  # fmt: skip
    return sorted(jobs, key=lambda job: job.seed)


def ablations(steps: int = ABLATION_STEPS) -> list[Job]:
    """Without recipes, so that a choice is compared with what the preset does."""
    jobs = [Job("ablations", choice.name, choice.algo, task, seed, steps, ("recipe=null", *choice.overrides))
            for choice in CHOICES for task in choice.tasks for seed in ABLATION_SEEDS]  # fmt: skip
    return sorted(jobs, key=lambda job: job.seed)


def tries(typed: str, only: Sequence[tuple[str, str]], steps: int = STEPS) -> list[Job]:
    """The options ``typed`` on the tuning seeds, for the algorithms and environments of ``only``, "all" being any."""
    every = [Job("search", typed, algo, task, seed, steps, tuple(typed.split()))
             for algo in ALGOS for task in TASKS for seed in TUNING]  # fmt: skip
    return list(wanted(every, only, None))


def wanted(jobs: Sequence[Job], only: Sequence[tuple[str, str]], seeds: Sequence[int] | None) -> Iterator[Job]:
    """The jobs of these algorithms and environments, "all" being any, and of these seeds; without them all jobs."""
    for job in jobs:
        named = not only or any(algo in ("all", job.algo) and task in ("all", job.task) for algo, task in only)
        if named and (seeds is None or job.seed in seeds):
            yield job

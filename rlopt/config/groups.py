"""The small groups of a run's options, from advantages to init, one frozen record each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from rlopt.config.schema import construct, options
from rlopt.core.checks import at_least_one, between, check, non_negative, positive
from rlopt.core.popart import PopArt
from rlopt.core.requirements import Requirements
from rlopt.errors import UserError

MOST_EPISODES = 10**6  # of one evaluation
MOST_BATCHES = 100  # that an update is made of
LONGEST_BLOCK = 100_000  # steps of action noise that are held at a time


@dataclass(frozen=True)
class AdvantageOptions:
    # to mean 0 and standard deviation 1 over the whole batch, or over every minibatch; False: not at all
    normalise: Literal["batch", "minibatch", False]
    recompute: bool  # before every epoch, with the critic as it stands


@dataclass(frozen=True)
class ObservationOptions:
    normalise: bool
    clip: float  # standard deviations, > 0
    image: Literal["auto", "channels_first", "channels_last", "none"]  # see envs.observations.as_image

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    @property
    def requirements(self) -> Requirements:
        return Requirements(unread={} if self.normalise else {"clip": "normalise"})


@dataclass(frozen=True)
class RewardOptions:
    scale: bool
    clip: float  # standard deviations of the discounted return, > 0
    sign: bool  # the networks learn from the sign of each reward

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    @property
    def requirements(self) -> Requirements:
        return Requirements(unread={} if self.scale else {"clip": "scale"})


@dataclass(frozen=True)
class TargetOptions:
    """How a critic of its own sees its targets."""

    normalise: bool  # by running statistics, see `core.popart`
    decay: float  # of these, an update

    def __post_init__(self) -> None:
        PopArt(self.decay)  # its check

    @property
    def requirements(self) -> Requirements:
        return Requirements(unread={} if self.normalise else {"decay": "normalise"})


@dataclass(frozen=True)
class ReuseOptions:
    """Of which batches an update is made, see `training.reuse`."""

    batches: int  # the newest, and those before it
    decay: float  # weight of a batch relative to the next newer one, above 0, at most 1
    trace: float  # bound on the ratios in corrected advantages, > 0
    largest: float | None  # bound on the ratios in the objective, > 0; None: none

    def __post_init__(self) -> None:
        check(1 <= self.batches <= MOST_BATCHES, "batches", f"1 or above, at most {MOST_BATCHES}", self.batches)
        check(0 < self.decay <= 1, "decay", "above 0, and at most 1", self.decay)
        positive("trace", self.trace)
        if self.largest is not None:
            positive("largest", self.largest)

    @property
    def requirements(self) -> Requirements:
        idle = ("decay", "trace", "largest") if self.batches == 1 else ()
        return Requirements(unread=dict.fromkeys(idle, "batches"))


@dataclass(frozen=True)
class NoiseOptions:
    """How the noise of collected actions is correlated over time, see `rollout.noise`."""

    color: float  # exponent of the power spectrum f^-color, 0 to 2; 0: independent steps
    block: int  # steps of an environment after which the noise is drawn anew

    def __post_init__(self) -> None:
        between("color", self.color, 0, 2)
        at_least_one("block", self.block)
        longest = f"2 or above with a color above 0, at most {LONGEST_BLOCK:,}"
        check(not self.color or 2 <= self.block <= LONGEST_BLOCK, "block", longest, self.block)

    @property
    def requirements(self) -> Requirements:
        return Requirements(unread={} if self.color else {"block": "color"})


@dataclass(frozen=True)
class SelfPlayOptions:
    """Which agents of a game learn, and who acts for the others, see `rollout.self_play`."""

    every: int | None  # updates after which the opponents' policy is replaced; None: all agents learn
    side: Literal["alternate", "first", "second"]  # that learns; alternate: the first in copies of even number
    first: tuple[str, ...]  # patterns of the first side's agents; empty: the first half

    def __post_init__(self) -> None:
        if self.every is not None:
            at_least_one("every", self.every)

    @property
    def requirements(self) -> Requirements:
        return Requirements(unread={} if self.every else {"side": "every", "first": "every"})

    def learners(self, agents: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Indices of the agents that learn, in the copies of a game by turns. Raises UserError."""
        everyone = range(len(agents))
        if self.every is None:
            return (tuple(everyone),)
        half = agents[: len(agents) // 2]
        matches = [any(fnmatchcase(name, pattern) for pattern in self.first or half) for name in agents]
        first, second = (tuple(i for i in everyone if matches[i] is side) for side in (True, False))
        if not first or not second or (self.side == "alternate" and len(first) != len(second)):
            equal = "; with sides of different sizes choose self_play.side=first or second" if first and second else ""
            raise UserError(
                f"self_play.first={list(self.first)} makes sides of {len(first)} and {len(second)} of the agents "
                f"{', '.join(agents)}{equal or '; self_play needs two sides'}"
            )
        return {"alternate": (first, second), "first": (first,), "second": (second,)}[self.side]


@dataclass(frozen=True)
class EvaluationOptions:
    episodes: int  # at the end of training, of each kind; 0: none
    every_updates: int | None  # None: only at the end
    max_steps: int | None  # of an episode; None: see evaluation.episodes.evaluate

    def __post_init__(self) -> None:
        if self.max_steps is not None:
            at_least_one("max_steps", self.max_steps)
        most = f"0 or above, at most {MOST_EPISODES:,}"
        check(0 <= self.episodes <= MOST_EPISODES, "episodes", most, self.episodes)
        if self.every_updates is not None:
            wanted = "1 or above, with evaluation.episodes above 0"
            check(self.every_updates >= 1 and self.episodes > 0, "every_updates", wanted, self.every_updates)


@dataclass(frozen=True)
class CheckpointOptions:
    """When checkpoints are written, besides the one at the end."""

    every_updates: int | None  # None: never by count
    every_seconds: float | None  # None: never by time
    keep: int  # how many of the newest stay, besides the best

    def __post_init__(self) -> None:
        if self.every_updates is not None:
            at_least_one("every_updates", self.every_updates)
        if self.every_seconds is not None:
            non_negative("every_seconds", self.every_seconds)
        at_least_one("keep", self.keep)


@dataclass(frozen=True)
class RecordOptions:
    """What a run records in its folder, besides summary.json."""

    tensorboard: bool
    csv: bool
    histograms_every: int | None  # updates; None: never
    spectrum_every: int | None  # updates; None: never
    waste_every: int | None  # updates; None: never
    video_steps: int | None  # the first transitions of an episode, at the end; None: no video
    info: tuple[str, ...] = ()  # entries of the environments' infos, see rollout.infos
    names: Literal["rlopt", "sb3"] = "rlopt"  # sb3: its names beside rlopt's own, see loggers.sb3
    tracker: Literal["wandb", "mlflow", "trackio"] | None = None  # see loggers.trackers
    project: str = "rlopt"  # of the tracker

    def __post_init__(self) -> None:
        twice = next((name for name in self.info if self.info.count(name) > 1), None)
        check(twice is None and "" not in self.info, "info", "a list of names, each once", list(self.info))
        check(bool(self.project.strip()), "project", "a name", self.project)
        for name in ("histograms_every", "spectrum_every", "waste_every", "video_steps"):
            if getattr(self, name) is not None:
                at_least_one(name, getattr(self, name))


@dataclass(frozen=True)
class InitOptions:
    """Where a new run starts from, see `training.initial`; None and None: from weights that its seed draws."""

    folder: str | None  # init.from: a run's folder
    best: bool  # its checkpoint with the highest return, not the newest
    actor: str | None  # a .safetensors file of the policy's parameters
    freeze: tuple[str, ...]  # patterns of names of the policy's parameters that stay as they are

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> InitOptions:
        values = options(plain, "init", "", "from")
        given = {"folder" if name == "from" else name: value for name, value in values.items()}
        if given.get("folder") is not None and given.get("actor") is not None:
            raise UserError("init.from and init.actor both give the policy's parameters; leave out one")
        return construct(cls, given, "init")

    @property
    def given(self) -> bool:
        return self.folder is not None or self.actor is not None

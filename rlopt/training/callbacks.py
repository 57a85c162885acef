"""Callbacks: a user's own functions that a run calls, and what they may ask of it.

| callback      | is called                                     | with a RunContext and      |
|---|---|---|
| on_begin      | before the first update, also of a resumed run | the resolved configuration |
| on_rollout    | before an update learns from a rollout         | rollout.buffer.Rollout     |
| on_update     | after an update was recorded                   | its scalars: see loggers.logger |
| on_checkpoint | after a checkpoint was written                 | its path                   |
| on_end        | after the evaluation and summary.json          | the summary                |

They run in the training process, and their time counts as training. An exception from a callback ends the run, with a
checkpoint. A signal waits until on_update has returned.

| a callback can          | by                                                                         |
|---|---|
| end the run             | returning True from on_update: as if total_steps had been reached          |
| record a scalar         | ``moment.record("mine/level", 3)``; not in a group of rlopt's own          |
| save a checkpoint       | ``moment.save()``: after this update                                       |
| change the environments | ``moment.environments.call("method", ...)``, ``.set_attr("name", value)`` |

Changes of the environments need ``env.backend=sync``, which is not the default for MuJoCo's own tasks. They are made in
all of them, in workers too, and are part of checkpoints: `rlopt.resume`, with the same callbacks, goes on to the bit.
They are made before the first step of a rollout. From on_rollout that is the next one. From on_update it is the one
after the next, because workers may have begun the next one while the critic learned; the data do not depend on workers.
What on_begin changes comes before everything else, and is not done again in a resumed run. Arguments are numbers, text,
None, numpy arrays, and lists and dictionaries of these.

A callback that a resumed run is to repeat must follow from what it is called with, such as ``moment.steps``, and not
from what it remembers itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlopt.envs.observations import InvalidOutput
from rlopt.envs.replay import Change, plain_tree
from rlopt.errors import UserError
from rlopt.policy.policy import Policy
from rlopt.rollout.buffer import Rollout

GROUPS = frozenset({  # of rlopt's own scalars, see loggers.logger
    "episode", "rollout", "step", "solver", "damping", "metric", "objective", "estimator", "reuse", "policy", "critic",
    "exploration", "evaluation", "update", "time", "info", "agents", "self_play", "at_a_glance", "final",
})  # fmt: skip
DROPPED = -1  # for Requests.environments: what is asked for was done when the run began


class Requests:
    """What the callbacks of a run have asked of it. ``changes`` are all changes of its environments so far."""

    def __init__(self, steps_by: str):
        self.changes: list[Change] = []
        self.scalars: dict[str, float] = {}  # that are not recorded yet
        self.saves = False
        self._steps_by = steps_by  # the backend of the environments

    def environments(self, rollout: int | None) -> Environments:
        """What changes the environments before this rollout; None: they cannot be changed now."""
        return Environments(lambda change: self._change(rollout, change))

    def due(self, rollout: int) -> list[Change]:
        """The changes to be made before this rollout."""
        return [change for change in self.changes if change["rollout"] == rollout]

    def record(self, name: str, value: float) -> None:
        """Record a scalar at this update's step. Raises UserError where it is no number, or its group is rlopt's."""
        if (group := str(name).partition("/")[0]) in GROUPS:
            raise UserError(f"moment.record({name!r}, ...): names that begin with {group} are rlopt's; try mine/{name}")
        try:
            self.scalars[str(name)] = float(value)
        except (TypeError, ValueError) as error:
            raise UserError(f"moment.record({name!r}, ...) takes a number; got {value!r}") from error

    def take_scalars(self) -> dict[str, float]:
        """The scalars that are not recorded yet, for the last time."""
        taken, self.scalars = self.scalars, {}
        return taken

    def save(self) -> None:
        """Ask for a checkpoint after this update."""
        self.saves = True

    def restore(self, changes: Any) -> None:
        """Take up the changes of a checkpoint. Raises ValueError for what cannot be one: it may be a stranger's."""
        for change in changes:
            _check_name(change["name"])
            if not isinstance(change["rollout"], int) or not isinstance(change["arguments"], list):
                raise ValueError(f"a change of the environments is {change!r}")
        self.changes = list(changes)

    def _change(self, rollout: int | None, change: dict[str, Any]) -> None:
        if rollout is None:
            raise UserError("environments can be changed in on_begin, on_rollout and on_update")
        if self._steps_by == "agents":
            raise UserError("games of several agents cannot be changed by callbacks yet")
        if self._steps_by != "sync":
            raise UserError(
                f"env.backend={self._steps_by} steps all environments as one, which cannot be changed; type "
                "env.backend=sync"
            )
        if rollout != DROPPED:
            self.changes.append({"rollout": rollout, **change})


@dataclass(frozen=True)
class Environments:
    """Changes all environments of a run, see the module; what a method returns is lost."""

    change: Callable[[dict[str, Any]], None]

    def call(self, name: str, *arguments: Any) -> None:
        """Call the method ``name`` of every environment, or of the outermost of its wrappers that has it."""
        self._make(name, list(arguments), is_set=False)

    def set_attr(self, name: str, value: Any) -> None:
        """Set the attribute ``name``, which must be there, of every environment."""
        self._make(name, [value], is_set=True)

    def _make(self, name: str, arguments: list[Any], is_set: bool) -> None:
        try:
            _check_name(name)
            self.change({"name": name, "set": is_set, "arguments": plain_tree(arguments, name)})
        except (InvalidOutput, ValueError) as error:
            raise UserError(f"moment.environments: {error}") from error


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise ValueError(f"{name!r} is not the name of a method or an attribute that others may use")


def _no_environments(change: dict[str, Any]) -> None:
    raise UserError("this run's environments cannot be changed")


@dataclass(frozen=True)
class RunContext:
    """How far a run has come, and what can be asked of it."""

    steps: int  # environment transitions that it has learned from
    updates: int
    run_dir: Path
    policy: Callable[[], Policy]  # a frozen copy of the policy that would be evaluated now
    environments: Environments = Environments(_no_environments)
    record: Callable[[str, float], None] = lambda name, value: None
    save: Callable[[], None] = lambda: None


def _do_nothing(context: RunContext, about: Any) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """The callbacks of one run, as the module describes them."""

    on_begin: Callable[[RunContext, Mapping[str, Any]], object] = _do_nothing
    on_rollout: Callable[[RunContext, Rollout], object] = _do_nothing
    on_update: Callable[[RunContext, Mapping[str, float]], object] = _do_nothing
    on_checkpoint: Callable[[RunContext, Path], object] = _do_nothing
    on_end: Callable[[RunContext, Mapping[str, Any]], object] = _do_nothing

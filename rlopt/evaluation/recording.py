"""Recorded episodes of an evaluation, as the environment gives and takes them: `rlopt eval RUN_DIR --save-episodes F`.

F is a .npz file, or minari:NAMESPACE/NAME-v0, a dataset of Minari's. `rlopt clone` reads both, but no actions of a Dict
or Tuple, and masks that an environment gives in its infos are not recorded. The arrays of a .npz, for N transitions of
all episodes one after another, are:

| array                         | holds                                              |
|---|---|
| observations, actions         | (N, ...) what was seen, and the action taken there |
| next_observations             | (N, ...) what was seen after it                    |
| rewards                       | (N,) raw                                           |
| terminations, truncations     | (N,) true at the end of an episode, one of them    |
| episodes                      | (N,) the number of the episode                     |

A Dict space has an array for each key, observations/KEY, and a Tuple for each place. An episode that is cut off by
evaluation.max_steps counts as truncated.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError, in_one_line, needs_extra

MINARI = "minari:"


@dataclass
class Episode:
    """One episode, with one more observation than actions."""

    seed: int | None
    observations: list[Any]
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False


class Recorder:
    """Collects the episodes of the environments that it is put around."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []  # in the order in which they began

    def around(self, env: gym.Env) -> gym.Env:
        return _Recorded(env, self.episodes)


class _Recorded(gym.Wrapper[Any, Any, Any, Any]):
    def __init__(self, env: gym.Env, episodes: list[Episode]):
        super().__init__(env)
        self._episodes = episodes

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        found = self.env.reset(seed=seed, options=options)
        self._episodes.append(Episode(seed, [deepcopy(found[0])]))
        self._episode = self._episodes[-1]
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        taken = deepcopy(action)
        found = self.env.step(action)
        self._episode.actions.append(taken)
        self._episode.rewards.append(float(found[1]))
        self._episode.observations.append(deepcopy(found[0]))
        self._episode.terminated = bool(found[2])
        return found


def check(target: str | None, spec: EnvSpec) -> None:
    """Raise UserError where episodes of the environment ``spec`` cannot be saved to ``target``; None: nowhere."""
    if target is None:
        return
    if spec.agents:
        raise UserError("--save-episodes is for one agent; this run's environment is a game of several")
    if target.startswith(MINARI):
        _minari()
    elif not target.endswith(".npz"):
        raise UserError(f"--save-episodes takes a file that ends in .npz, or minari:NAMESPACE/NAME-v0; got {target}")
    elif not Path(target).parent.is_dir():
        raise UserError(f"--save-episodes: there is no folder {Path(target).parent}")


def save(target: str, episodes: Sequence[Episode], spec: EnvSpec) -> int:
    """Save episodes of the environment ``spec``; returns how many transitions there are."""
    whole = [episode for episode in episodes if episode.actions]
    if target.startswith(MINARI):
        with closing(spec.make_unchecked()) as env:
            _to_minari(target.removeprefix(MINARI), whole, env)
    else:
        try:
            np.savez_compressed(target, **arrays(whole))  # type: ignore[arg-type]
        except OSError as error:
            raise UserError(f"--save-episodes {target}: {error}") from error
    return sum(len(episode.actions) for episode in whole)


def arrays(episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    """The arrays of a .npz, see the module."""
    found: dict[str, np.ndarray] = {}
    _stack("observations", [o for e in episodes for o in e.observations[:-1]], found)
    _stack("next_observations", [o for e in episodes for o in e.observations[1:]], found)
    _stack("actions", [a for e in episodes for a in e.actions], found)
    lengths = [len(e.actions) for e in episodes]
    ends = np.cumsum(lengths, dtype=np.int64) - 1
    terminated = np.array([e.terminated for e in episodes], bool)
    for name, at in (("terminations", ends[terminated]), ("truncations", ends[~terminated])):
        found[name] = np.zeros(sum(lengths), bool)
        found[name][at] = True
    found["rewards"] = np.array([r for e in episodes for r in e.rewards])
    found["episodes"] = np.repeat(np.arange(len(lengths)), lengths)
    return found


def _stack(name: str, values: list[Any], found: dict[str, np.ndarray]) -> None:
    """Add the values as arrays, one for each part of a Dict or a Tuple."""
    if isinstance(values[0], dict | tuple):
        keys = list(values[0]) if isinstance(values[0], dict) else range(len(values[0]))
        for key in keys:
            _stack(f"{name}/{key}", [value[key] for value in values], found)
    else:
        found[name] = np.asarray(values)


def _minari() -> Any:
    try:
        import minari  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(needs_extra("a dataset of Minari's needs it", "minari")) from error
    return minari


def _to_minari(name: str, episodes: Sequence[Episode], env: gym.Env) -> None:
    minari = _minari()
    buffers = [
        minari.data_collector.EpisodeBuffer(
            id=i,
            seed=episode.seed,
            observations=list(episode.observations),
            actions=list(episode.actions),
            rewards=list(episode.rewards),
            terminations=[False] * (len(episode.actions) - 1) + [episode.terminated],
            truncations=[False] * (len(episode.actions) - 1) + [not episode.terminated],
        )
        for i, episode in enumerate(episodes)
    ]
    try:
        minari.create_dataset_from_buffers(
            name,
            buffers,
            env=env if env.spec is not None else None,
            observation_space=env.observation_space,
            action_space=env.action_space,
            algorithm_name="rlopt",
        )
    except Exception as error:
        raise UserError(f"{MINARI}{name} cannot be made: {in_one_line(error)}") from error

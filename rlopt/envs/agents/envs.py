"""AgentEnvs: copies of a game as a vector environment, with a row for every agent that learns.

Rows are copies times learning agents: those of copy 0, then those of copy 1, and so on. A copy is reset in the step in
which its last agent ends. An agent that ends earlier, or is not there yet, is ``absent``: its row goes on with the
others, and the sampler masks it.

In self-play some agents of each copy do not learn; ``opponents`` acts for them (`rlopt.rollout.self_play`).

A checkpoint holds for each copy how its episode began, and the actions of all agents since: `rlopt.envs.replay` repeats
them in a resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlopt.envs.agents.game import Game
from rlopt.envs.observations import number_of
from rlopt.envs.replay import LONGEST, Origin, Replayed, Script, extend_check, origin_of, replay
from rlopt.envs.vector import StepCounter
from rlopt.errors import EnvironmentFault


class Opponents(Protocol):
    """Acts for the agents that do not learn."""

    def meet(self, policy: Any) -> None:
        """Before every rollout: the policy that will collect it."""

    def act(self, rows: np.ndarray) -> Sequence[Any]:
        """An action for each of these rows (K, ...)."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, for `restore`."""

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass
class _Log:
    """The running episode of a copy, for its replay."""

    origin: Origin | None  # None: it cannot be replayed
    actions: list[np.ndarray] = field(default_factory=list)  # of all agents (N, ...), one for each step
    check: int = 0  # see envs.replay.extend_check

    def add(self, actions: Sequence[Any], rows: np.ndarray, reward: float) -> None:
        if len(self.actions) >= LONGEST:
            self.origin, self.actions = None, []
        if self.origin is not None:
            self.actions.append(np.array(actions))
            self.check = extend_check(self.check, rows.reshape(1, -1), np.array([reward]))

    def saved(self, rows: np.ndarray) -> dict[str, Any]:
        actions = np.stack(self.actions) if self.actions else None
        return {"origin": self.origin, "actions": actions, "check": self.check, "rows": rows.reshape(-1).copy()}


class AgentEnvs(VectorEnv):
    """Copies of a game, from number ``first`` of the run's copies on.

    Copy k has learners[k % len(learners)] as its rows: ``learners`` are sets of indices of agents, of one size. All
    copies must have the observations and actions ``like``, by default those of the first. ``info`` names entries of the
    agents' infos to keep. What `step` and `reset` return is valid until the next call.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], Game]],
        learners: Sequence[Sequence[int]],
        first: int = 0,
        counter: StepCounter | None = None,
        like: tuple[gym.Space, gym.Space] | None = None,
        info: Sequence[str] = (),
    ):
        self.games: list[Game] = []
        self._first, self.counter = first, counter or StepCounter()
        try:
            for k, make in enumerate(makers):
                self.games.append(game := make())
                like = like or (game.row_space, game.action_of_one)
                if (game.row_space, game.action_of_one) != like:
                    raise EnvironmentFault(f"copy {first + k} of the game has other spaces than the first one")
        except BaseException:
            self.close()
            raise
        assert like is not None
        self._learn = [np.array(learners[(first + k) % len(learners)]) for k in range(len(self.games))]
        others = [set(range(len(game.names))) - set(own) for game, own in zip(self.games, self._learn, strict=True)]
        self._play = [np.array(sorted(rest), int) for rest in others]  # agents that opponents act for
        self._size = len(self._learn[0])  # rows of a copy
        self.num_envs = len(self.games) * self._size
        self.single_observation_space, self.single_action_space = like
        self.observation_space, self.action_space = (batch_space(space, self.num_envs) for space in like)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.spec = None
        self.opponents: Opponents | None = None
        self._replays = not isinstance(like[1], spaces.Dict | spaces.Tuple)  # whose actions are no arrays
        self._logs = [_Log(None) for _ in self.games]
        self.absent = np.zeros(self.num_envs, bool)  # (E,) takes no part in the next step
        shape = self.single_observation_space.shape
        assert shape is not None
        self._rows = np.zeros((self.num_envs, *shape), self.single_observation_space.dtype)
        self._rewards = np.zeros(self.num_envs)
        self._terminated, self._truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        self._info = tuple(info)
        self.infos = np.full((self.num_envs, len(info)), np.nan)  # [E, K] those entries of the last step's infos

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset every copy; ``seed`` has one for each row, of which the copy's first counts."""
        for k in range(len(self.games)):
            self._reset(k, None if seed is None else seed[k * self._size])
        return self._rows, {}

    def meet(self, policy: Any) -> None:
        """Before every rollout: the policy that will collect it."""
        if self.opponents is not None:
            self.opponents.meet(policy)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        others = self._act()
        info: dict[str, Any] = {}
        for k, game in enumerate(self.games):
            self.counter.environment = self._first + k
            joint: list[Any] = [None] * len(game.names)
            at = slice(k * self._size, (k + 1) * self._size)
            for j, i in enumerate(self._learn[k].tolist()):
                joint[i] = actions[at.start + j]
            for other in self._play[k].tolist():
                joint[other] = next(others)
            before = game.rows.copy()
            _, reward, over, _, _ = game.step(joint)
            self._logs[k].add(joint, before, reward)
            own = self._learn[k]
            self._rewards[at], self._terminated[at] = game.rewards[own], game.terminated[own]
            self._truncated[at] = game.truncated[own]
            if self._info:
                self.infos[at] = [[number_of(game.infos[i], name) for name in self._info] for i in own]
            ended = np.flatnonzero(self._terminated[at] | self._truncated[at])
            if len(ended):
                last = info.setdefault("final_obs", np.full(self.num_envs, None, object))
                for j in ended.tolist():
                    last[at.start + j] = game.rows[own[j]].copy()
            if over:
                self._reset(k)
            else:
                self._show(k)
        self.counter.environment = -1
        return self._rows, self._rewards, self._terminated, self._truncated, info

    def _act(self) -> Any:
        """The actions of all agents that do not learn, copy after copy."""
        if self.opponents is None:
            return iter(())
        rows = [game.rows[play] for game, play in zip(self.games, self._play, strict=True)]
        return iter(self.opponents.act(np.concatenate(rows)))

    def _reset(self, k: int, seed: int | None = None) -> None:
        """Begin an episode of copy ``k``."""
        self.counter.environment = self._first + k
        game = self.games[k]
        self._logs[k] = _Log(origin_of(game, seed) if self._replays else None)
        game.reset(seed=seed)
        self._show(k)

    def _show(self, k: int) -> None:
        """Put the rows of copy ``k`` among all."""
        at, own = slice(k * self._size, (k + 1) * self._size), self._learn[k]
        self._rows[at], self.absent[at] = self.games[k].rows[own], ~self.games[k].present[own]

    @property
    def origins(self) -> list[Origin | None]:
        """None for every row: an agent's episode is no episode of the game, and `saved_states` has the game's."""
        return [None] * self.num_envs

    def saved_states(self) -> list[dict[str, Any] | None]:
        """What a checkpoint holds of every row: a copy's episode with its first row, opponents with the very first."""
        found: list[dict[str, Any] | None] = [{} for _ in range(self.num_envs)]
        for k, (game, log) in enumerate(zip(self.games, self._logs, strict=True)):
            found[k * self._size] = {"game": log.saved(game.rows)}
        if self.opponents is not None:
            found[0] = {**(found[0] or {}), "opponents": self.opponents.state()}
        return found

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Bring every copy to the state that `saved_states` had, or reset it where that fails."""

        def count() -> None:
            self.counter.replay_calls += 1

        found = []
        for k, game in enumerate(self.games):
            self.counter.environment = self._first + k
            script = scripts[k * self._size]
            exact = self._replay(k, script, (script.saved or {}).get("game"), count)
            found += [Replayed(game.rows[i].copy(), None, exact) for i in self._learn[k]]
        kept = (scripts[0].saved or {}).get("opponents")
        if self.opponents is not None and kept is not None:
            self.opponents.restore(kept)
        return found

    def _replay(self, k: int, script: Script, saved: dict[str, Any] | None, count: Callable[[], object]) -> bool:
        """Whether copy ``k`` is where it was; else it has begun a new episode."""
        if saved is None or saved["origin"] is None:
            self._reset(k, script.seed)
            count()
            return False
        actions = [] if saved["actions"] is None else list(saved["actions"])
        again = Script(saved["origin"], actions, saved["rows"], script.seed, saved["check"])
        replayed = replay(self.games[k], again, count)
        self._logs[k] = _Log(replayed.origin)
        if replayed.exact:
            self._logs[k] = _Log(replayed.origin, actions, saved["check"])
        self._show(k)
        return replayed.exact

    def close(self, **kwargs: Any) -> None:
        for game in self.games:
            game.close()

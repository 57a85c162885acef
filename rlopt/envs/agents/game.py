"""Game: an environment of several agents as one environment of Gymnasium, and what each agent has in it.

Every agent sits on a `Seat`, an environment that hands out what the game gave to this agent. The wrappers that flatten
and check observations, and that put an action mask behind them, go around a seat as around any environment. So an agent
has a row of numbers, like every environment of rlopt.

An agent takes part from the reset, or from the step with which it appears, to the step that terminates or truncates it;
it does not come back before the game is reset. The game is over when no agent is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.envs.observations import InvalidOutput, describe_kind, describe_space, mask_size
from rlopt.errors import UserError

_API = "of PettingZoo's parallel API is wanted"
_PARTS = ("observations", "rewards", "terminations", "truncations", "infos")  # what a step returns, by agent


def is_game(thing: Any) -> bool:
    """Whether a thing is an environment of several agents, of PettingZoo's parallel API or of its API of turns."""
    return hasattr(thing, "possible_agents") and not isinstance(thing, type | gym.Env)


class Seat(gym.Env[Any, Any]):
    """What the game gave to one agent, as an environment: `step` and `reset` return what was put there."""

    def __init__(self, observations: gym.Space, actions: gym.Space):
        self.observation_space, self.action_space = observations, actions
        self.given: Any = None

    def step(self, action: Any) -> Any:
        return self.given

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.given


class Game(gym.Env[Any, Any]):
    """A game of N agents. An action is a sequence of one for each agent; those of absent agents are not looked at.

    Observations are the rows of all agents, (N, ...), rewards their sum; what each agent got is in the attributes.
    ``wrap`` goes around each seat. With ``agent_index`` an agent sees its number too: (observation, number). Every
    reset draws a seed from ``np_random`` for the game, so that the game follows from it. Raises UserError where the
    agents have different spaces.
    """

    def __init__(self, parallel: Any, wrap: Callable[[gym.Env], gym.Env], agent_index: bool = False):
        self.parallel = parallel
        self.names: tuple[str, ...] = _names(parallel)
        self.metadata, self.render_mode = dict(parallel.metadata), getattr(parallel, "render_mode", None)
        observations, actions = _common_spaces(parallel, self.names)
        self._with_mask = isinstance(observations, spaces.Dict) and set(observations) == {"observation", "action_mask"}
        self._agent_index = agent_index
        if agent_index:
            observations = self._space_with_index(observations)
        self.seats = [Seat(observations, actions) for _ in self.names]
        self._wrapped = [wrap(seat) for seat in self.seats]
        count, space = len(self.names), self._wrapped[0].observation_space
        assert isinstance(space, spaces.Box)
        self.row_space, self.action_of_one = space, actions
        self.action_space = spaces.Tuple([actions] * count)
        bounds = [np.broadcast_to(x, (count, *space.shape)) for x in (space.low, space.high)]
        self.observation_space = spaces.Box(*bounds, dtype=space.dtype)  # type: ignore[call-overload]
        self._idle = np.zeros(space.shape, space.dtype)  # the row of an agent that was never there
        if masked := mask_size(space):
            self._idle[-masked:] = 1
        self.rows = np.stack([self._idle] * count)  # (N, ...) of present agents, and the last of those that have ended
        self.rewards = np.zeros(count)  # (N,) of the last step, as are the next two
        self.terminated, self.truncated = np.zeros(count, bool), np.zeros(count, bool)
        self.present = np.zeros(count, bool)  # (N,) takes part in the next step
        self.infos: list[dict[str, Any]] = [{} for _ in self.names]
        self._been = np.zeros(count, bool)  # has taken part since the reset

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        own = int(self.np_random.integers(2**31))
        found = self.parallel.reset(seed=own, options=options)
        if not isinstance(found, tuple) or len(found) != 2:
            raise InvalidOutput(f"{_count(found)} from reset where (observations, infos) {_API}")
        self.rows[:] = self._idle
        self.present[:] = self._been[:] = False
        self.rewards[:] = 0
        self._enter(*found)
        if not self.present.any():
            raise InvalidOutput("no agent after a reset")
        return self.rows, {}

    def step(self, action: Sequence[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        going: list[int] = np.flatnonzero(self.present).tolist()
        found = self.parallel.step({self.names[i]: action[i] for i in going})
        if not isinstance(found, tuple) or len(found) != len(_PARTS):
            raise InvalidOutput(f"{_count(found)} from step where ({', '.join(_PARTS)}) {_API}")
        self.rewards[:], self.terminated[:], self.truncated[:] = 0, False, False
        for i in going:
            self._take(i, found)
        self.present &= ~(self.terminated | self.truncated)
        self._enter(found[0], found[4])
        return self.rows, float(self.rewards.sum()), not self.present.any(), False, {}

    def render(self) -> Any:
        return self.parallel.render()

    def close(self) -> None:
        self.parallel.close()

    def _take(self, i: int, found: tuple[Any, ...]) -> None:
        """Take in what a step gave to agent ``i``, checked and as a row."""
        parts = [_part(part, self.names[i], what) for part, what in zip(found[:4], _PARTS, strict=False)]
        parts[0] = self._with_index(parts[0], i)
        self.seats[i].given = (*parts, _info(found[4], self.names[i]))
        try:
            row, reward, terminated, truncated, info = self._wrapped[i].step(None)
        except InvalidOutput as error:
            raise InvalidOutput(f"{error}, to the agent {self.names[i]}") from error
        self.rows[i], self.rewards[i], self.infos[i] = row, reward, info
        self.terminated[i], self.truncated[i] = terminated, truncated

    def _enter(self, observations: Any, infos: Any) -> None:
        """Let those agents in that have appeared. Raises InvalidOutput where one has gone without an end."""
        agents = list(self.parallel.agents)
        if strange := [name for name in agents if name not in self.names]:
            raise InvalidOutput(f"an agent {strange[0]}, which is not among its possible_agents")
        for i, name in enumerate(self.names):
            if self.present[i] and name not in agents:
                raise InvalidOutput(f"the agent {name} no place among its agents, and no end before")
            if self._been[i] or name not in agents:
                continue
            self.seats[i].given = self._with_index(_part(observations, name, "observations"), i), _info(infos, name)
            try:
                self.rows[i], self.infos[i] = self._wrapped[i].reset()
            except InvalidOutput as error:
                raise InvalidOutput(f"{error}, to the agent {name}") from error
            self.present[i] = self._been[i] = True

    def _space_with_index(self, space: gym.Space) -> gym.Space:
        """The space of an observation and the agent's number; a mask stays beside it."""
        number = spaces.Discrete(len(self.names))
        if not self._with_mask:
            return spaces.Tuple([space, number])
        assert isinstance(space, spaces.Dict)
        both = spaces.Tuple([space["observation"], number])
        return spaces.Dict({"observation": both, "action_mask": space["action_mask"]})

    def _with_index(self, observation: Any, i: int) -> Any:
        if not self._agent_index:
            return observation
        if self._with_mask and isinstance(observation, Mapping) and "observation" in observation:
            return {**observation, "observation": (observation["observation"], i)}
        return observation, i


class FirstAgent(gym.Env[Any, Any]):
    """A game as its first agent sees it: for its spaces, for a look at an info, and to be drawn. It takes no steps."""

    def __init__(self, game: Game):
        self.game, self.agent_names = game, game.names
        self.observation_space, self.action_space = game.seats[0].observation_space, game.seats[0].action_space
        self.metadata, self.render_mode = game.metadata, game.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.game.reset(seed=seed, options=options)
        first = self.game.seats[int(np.flatnonzero(self.game.present)[0])]
        return first.given

    def render(self) -> Any:
        return self.game.render()

    def close(self) -> None:
        self.game.parallel.close()


def seen_by_one(made: Any, wrap: Callable[[gym.Env], gym.Env], agent_index: bool) -> gym.Env:
    """An environment as it is; one of several agents as its first one sees it. Arguments as for `Game`."""
    return made if isinstance(made, gym.Env) else FirstAgent(Game(made, wrap, agent_index))


def game_of(first: Any) -> Game:
    """The game of a `FirstAgent`, whose ``close`` it gets."""
    game: Game = first.game
    game.close = first.close  # type: ignore[method-assign]
    return game


def _names(parallel: Any) -> tuple[str, ...]:
    """The names of a game's agents. Raises UserError where it is no game of the parallel API."""
    if hasattr(parallel, "agent_selection") or hasattr(parallel, "agent_iter"):
        raise UserError(
            f"it makes {describe_kind(parallel)}, whose agents act in turns; wanted is PettingZoo's parallel API, "
            "which parallel_env() of its module or pettingzoo.utils.aec_to_parallel gives"
        )
    names = tuple(parallel.possible_agents)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"its possible_agents are {list(names)!r}, and a list of different names is wanted")
    return names


def _common_spaces(parallel: Any, names: Sequence[str]) -> tuple[gym.Space, gym.Space]:
    """Observations and actions, which all agents share. Raises UserError that names an agent with others."""
    first = parallel.observation_space(names[0]), parallel.action_space(names[0])
    for name in names[1:]:
        found = parallel.observation_space(name), parallel.action_space(name)
        for kind, own, other in zip(("observations", "actions"), first, found, strict=True):
            if own != other:
                shown = f"{names[0]} has {kind} of {describe_space(own)}, {name} of {describe_space(other)}"
                raise UserError(
                    f"its agents share one policy, and so must have the same spaces: {shown}; pad them by a wrapper of "
                    "the game, such as SuperSuit's, or choose a game of equal agents"
                )
    return first


def _part(found: Any, name: str, what: str) -> Any:
    """The entry of one agent in what a step or a reset gave. Raises InvalidOutput where there is none."""
    try:
        return found[name]
    except (KeyError, TypeError, IndexError) as error:
        raise InvalidOutput(f"no {what} of the agent {name}, which takes part") from error


def _info(infos: Any, name: str) -> dict[str, Any]:
    found = infos.get(name) if isinstance(infos, Mapping) else None
    return found if isinstance(found, dict) else {}


def _count(found: Any) -> str:
    return f"{len(found)} values" if isinstance(found, tuple) else type(found).__name__

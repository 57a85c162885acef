"""A game as one environment: who takes part, what each agent got, and what a game may not do."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlopt.envs.agents.game import FirstAgent, Game, game_of, is_game, seen_by_one
from rlopt.envs.masks import with_mask
from rlopt.envs.observations import InvalidOutput
from rlopt.envs.wrappers import CheckedEnv
from rlopt.errors import UserError
from tests.support.games import Fading, Higher, Offered


def game(parallel: Any, index: bool = False) -> Game:
    return Game(parallel, CheckedEnv, index)


def played(made: Game, seed: int, steps: int = 20) -> list[Any]:
    """(rows, rewards, ends, who is there) of the reset and of every step of one episode."""
    found = [(made.reset(seed=seed)[0].copy(), None, None, made.present.copy())]
    for t in range(steps):
        _, _, over, _, _ = made.step([t % 3] * len(made.names))
        ends = made.terminated.copy(), made.truncated.copy()
        found.append((made.rows.copy(), made.rewards.copy(), ends, made.present.copy()))
        if over:
            break
    return found


def test_it_gives_each_agent_what_the_game_gave_it():
    parallel, made = Fading(count=4), game(Fading(count=4))
    rows, *_ = played(made, seed=5)[0]
    own = int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(5))).integers(2**31))
    seen, _ = parallel.reset(seed=own)
    assert np.array_equal(rows, np.stack(list(seen.values())))
    for t, (rows, rewards, ends, present) in enumerate(played(game(Fading(count=4)), seed=5)[1:]):
        going = list(parallel.agents)
        seen, gains, terminated, truncated, _ = parallel.step(dict.fromkeys(going, t % 3))
        for i, name in enumerate(parallel.possible_agents):
            if name in going:
                assert np.array_equal(rows[i], seen[name]) and rewards[i] == gains[name]
                assert (ends[0][i], ends[1][i]) == (terminated[name], truncated[name])
            else:
                assert rewards[i] == 0 and not ends[0][i] and not ends[1][i]
            assert present[i] == (name in parallel.agents)
    assert not parallel.agents


def test_the_last_row_of_an_agent_that_has_ended_stays():
    found = played(game(Fading(count=4)), seed=2)
    for (before, *_, there), (after, *_) in zip(found[1:], found[2:], strict=False):
        assert np.array_equal(before[~there], after[~there])
    assert any(not there.all() for *_, there in found[1:-1])


def test_an_agent_that_comes_later_takes_part_from_then_on():
    made = game(Fading(late=2))
    for seed in range(30):
        found = played(made, seed)
        there = [present[-1] for *_, present in found]
        assert not there[0] and not there[1]
        if there[2]:
            assert found[2][0][-1].any() and not found[1][0][-1].any()
            return
    raise AssertionError("it never came")


def test_the_same_seed_is_the_same_game_and_resets_go_on():
    first, second = played(game(Fading()), 3), played(game(Fading()), 3)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    made = game(Fading())
    made.reset(seed=3)
    one = made.reset()[0].copy()
    assert not np.array_equal(one, made.reset()[0])


def test_an_agent_can_see_its_number():
    made = game(Fading(count=3), index=True)
    rows = made.reset(seed=1)[0]
    assert rows.shape == (3, 7) and np.array_equal(rows[:, 4:], np.eye(3))
    masked = Game(Offered(), lambda seat: with_mask(seat, "none"), agent_index=True)
    rows = masked.reset(seed=1)[0]
    assert rows.shape == (2, 6 + 2 + 6) and np.array_equal(rows[:, 6:8], np.eye(2))
    assert np.array_equal(rows[:, :6], rows[:, 8:])


def test_agents_with_different_spaces_are_refused_by_name():
    class Unequal(Higher):
        def observation_space(self, agent: str) -> spaces.Space:
            return spaces.Box(0, 1, (2 if agent == "left" else 3,), np.float32)

    with pytest.raises(UserError, match=r"left has observations of Box\(2,\).*right of Box\(3,\).*pad them"):
        game(Unequal())


def test_games_of_turns_and_odd_names_are_refused():
    turns = Higher()
    turns.agent_selection = "left"
    with pytest.raises(UserError, match="act in turns; wanted is PettingZoo's parallel API"):
        game(turns)
    unnamed = Higher()
    unnamed.possible_agents = ["left", "left"]
    with pytest.raises(UserError, match="a list of different names is wanted"):
        game(unnamed)


FAULTS = {
    "lost": (lambda found: ({"left": found[0]["left"]}, *found[1:]), "no observations of the agent right"),
    "old": (
        lambda found: found[:4],
        "4 values from step where .observations, rewards, terminations, truncations, infos",
    ),
    "shape": (
        lambda found: ({**found[0], "right": np.zeros(3, np.float32)}, *found[1:]),
        "shape .3,.*to the agent right",
    ),
    "flag": (
        lambda found: (*found[:2], {"left": 0.5, "right": False}, *found[3:]),
        "terminated=0.5.*to the agent left",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_step_may_not_give(fault):
    spoil, message = FAULTS[fault]

    class Spoiled(Higher):
        def step(self, actions: dict[str, Any]) -> Any:
            return spoil(super().step(actions))

    made = game(Spoiled())
    made.reset(seed=0)
    with pytest.raises(InvalidOutput, match=message):
        made.step([0, 0])


def test_an_agent_may_neither_vanish_nor_be_unheard_of():
    class Vanishing(Higher):
        def step(self, actions: dict[str, Any]) -> Any:
            found = super().step(actions)
            self.agents = ["left"]
            return found

    class Strange(Higher):
        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            found = super().reset(seed, options)
            self.agents = ["left", "third"]
            return found

    made = game(Vanishing())
    made.reset(seed=0)
    with pytest.raises(InvalidOutput, match="the agent right no place among its agents, and no end before"):
        made.step([0, 0])
    with pytest.raises(InvalidOutput, match="an agent third, which is not among its possible_agents"):
        game(Strange()).reset(seed=0)


def test_a_reset_without_agents_is_a_fault():
    class Empty(Higher):
        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed, options)
            self.agents = []
            return {}, {}

    with pytest.raises(InvalidOutput, match="no agent after a reset"):
        game(Empty()).reset(seed=0)


def test_one_agent_sees_the_game_for_its_spaces():
    first = seen_by_one(Fading(), CheckedEnv, False)
    assert isinstance(first, FirstAgent) and first.agent_names == ("fader_0", "fader_1", "fader_2")
    observation, info = first.reset(seed=4)
    assert first.observation_space.contains(observation) and info == {"t": 0}
    assert first.render().shape == (8, 8, 3) and game_of(first).render().shape == (8, 8, 3)
    first.close()
    lone = gym.make("CartPole-v1")
    assert seen_by_one(lone, CheckedEnv, False) is lone
    assert is_game(Fading()) and not is_game(Fading) and not is_game(lone)

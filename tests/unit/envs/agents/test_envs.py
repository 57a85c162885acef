"""Copies of a game as a vector environment: rows, resets, self-play's sides, and what is saved and put back."""

from typing import Any

import numpy as np
import pytest

from rlopt.envs.agents.envs import AgentEnvs
from rlopt.envs.agents.game import Game
from rlopt.envs.replay import Script
from rlopt.envs.wrappers import CheckedEnv
from rlopt.errors import EnvironmentFault
from rlopt.rollout.env_state import with_arrays, with_tensors
from tests.support.games import Fading, Higher

EVERYONE = ((0, 1, 2),)


def envs(copies: int = 3, learners: Any = EVERYONE, make: Any = Fading, **more: Any) -> AgentEnvs:
    return AgentEnvs([lambda: Game(make(), CheckedEnv)] * copies, learners, **more)


def play(made: AgentEnvs, steps: int, seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        rows, rewards, ends, cuts, info = made.step(generator.integers(3, size=made.num_envs))
        found.append((rows.copy(), rewards.copy(), ends.copy(), cuts.copy(), info, made.absent.copy()))
    return found


def test_a_copy_is_reset_when_its_last_agent_has_ended():
    made = envs()
    made.reset(seed=list(range(9)))
    absent = made.absent.copy()
    for rows, rewards, ends, cuts, info, now in play(made, 60):
        over = ends | cuts
        assert not rewards[absent].any() and not over[absent].any()
        assert list(np.flatnonzero(over)) == [e for e, last in enumerate(info.get("final_obs", [])) if last is not None]
        for k in range(3):
            own = slice(3 * k, 3 * k + 3)
            if (absent | over)[own].all():
                assert not now[own].any() and (rows[own, 1] == 0).all()  # t of the new game
            else:
                assert np.array_equal(now[own], (absent | over)[own])
        absent = now


def test_the_last_observation_is_that_of_the_game_that_ended():
    made = envs(copies=1)
    made.reset(seed=[3] * 3)
    for rows, _, ends, cuts, info, absent in play(made, 40):
        for j in np.flatnonzero(ends | cuts):
            last = info["final_obs"][j]
            assert last[1] == last[2]  # t is its length
            assert np.array_equal(last, rows[j]) == bool(absent[j])


def test_a_row_is_seeded_by_its_copy_alone():
    whole, part = envs(copies=3), envs(copies=1, first=2)
    seeds = [11, 0, 0, 22, 0, 0, 33, 0, 0]
    rows = whole.reset(seed=seeds)[0].copy()
    assert np.array_equal(rows[6:], part.reset(seed=seeds[6:])[0])


def test_sides_learn_by_turns_and_opponents_act_for_the_others():
    class Says:
        def __init__(self) -> None:
            self.met, self.seen = [], []

        def meet(self, policy: Any) -> None:
            self.met.append(policy)

        def act(self, rows: np.ndarray) -> list[int]:
            self.seen.append(rows.copy())
            return [2] * len(rows)

        def state(self) -> dict[str, Any]:
            return {"said": 2}

        def restore(self, state: dict[str, Any]) -> None:
            self.restored = state

    made = envs(copies=2, learners=((0,), (1,)), make=Higher)
    made.opponents = says = Says()
    made.reset(seed=[0, 1])
    made.meet("policy")
    _, rewards, *_ = made.step(np.array([1, 4]))
    assert says.met == ["policy"] and says.seen[0].shape == (2, 2)
    assert rewards.tolist() == [-1, 1]  # left says 1 against 2, right says 4 against 2
    assert made.saved_states()[0]["opponents"] == {"said": 2}
    made.replay([Script(None, (), np.zeros(2), 1, saved=saved) for saved in made.saved_states()])
    assert says.restored == {"said": 2}


@pytest.mark.parametrize("steps", [0, 1, 7, 30])
def test_what_is_saved_is_put_back(steps):
    made, other = envs(info=("t",)), envs(info=("t",))
    made.reset(seed=list(range(9)))
    play(made, steps)
    saved = [with_arrays(with_tensors(state)) for state in made.saved_states()]
    found = other.replay([Script(None, (), np.zeros(4), 77, saved=state) for state in saved])
    assert all(each.exact for each in found)
    assert np.array_equal(np.stack([each.observation for each in found]), made._rows)
    assert np.array_equal(other.absent, made.absent)
    for mine, theirs in zip(play(made, 40, 1), play(other, 40, 1), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine[:4], theirs[:4], strict=True))
    assert np.array_equal(made.infos, other.infos)


def test_a_copy_whose_past_is_another_begins_anew():
    made, other = envs(), envs()
    made.reset(seed=list(range(9)))
    play(made, 3)
    saved = made.saved_states()
    saved[3]["game"]["rows"] = saved[3]["game"]["rows"] + 1
    found = other.replay([Script(None, (), np.zeros(4), 77, saved=state) for state in saved])
    assert [each.exact for each in found] == [True] * 3 + [False] * 3 + [True] * 3
    assert not other.absent[3:6].any() and (other._rows[3:6, 1] == 0).all()


def test_entries_of_infos_are_kept_for_every_agent():
    made = envs(info=("t", "none"))
    made.reset(seed=list(range(9)))
    made.step(np.zeros(9, int))
    assert (made.infos[:, 0] == 1).all() and np.isnan(made.infos[:, 1]).all()


def test_copies_must_be_alike():
    makers = [lambda: Game(Fading(), CheckedEnv), lambda: Game(Higher(), CheckedEnv)]
    with pytest.raises(EnvironmentFault, match="copy 1 of the game has other spaces"):
        AgentEnvs(makers, ((0,),))

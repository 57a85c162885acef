"""Games of PettingZoo by their modules' names."""

import sys

import pytest

from rlopt.envs.agents import zoo
from rlopt.errors import UserError


def test_only_modules_of_the_two_packages_have_such_names():
    assert zoo.is_zoo("mpe2.simple_spread_v3") and zoo.is_zoo("pettingzoo.sisl.multiwalker_v9")
    assert not any(
        map(zoo.is_zoo, ("os.path", "mpe2", "mpe2.simple_spread_v3:parallel_env", "CartPole-v1", "pettingzoos.x"))
    )


def test_a_game_is_made_with_its_options():
    pytest.importorskip("mpe2")
    game = zoo.make("mpe2.simple_spread_v3", {"N": 4, "max_cycles": 7})
    assert len(game.possible_agents) == 4
    game.close()


def test_an_unknown_game_is_told_with_similar_ones():
    pytest.importorskip("mpe2")
    with pytest.raises(UserError, match="there is no game mpe2.simple_spread_v2; did you mean mpe2.simple_spread_v3"):
        zoo.make("mpe2.simple_spread_v2", {})
    with pytest.raises(UserError, match="pettingzoo.mpe.simple_tag_v3; did you mean mpe2.simple_tag_v3"):
        zoo.make("pettingzoo.mpe.simple_tag_v3", {})
    with pytest.raises(UserError, match="there is no game pettingzoo.nowhere.nothing$"):
        zoo.make("pettingzoo.nowhere.nothing", {})


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpe2", None)
    monkeypatch.delitem(sys.modules, "mpe2.simple_spread_v3", raising=False)
    with pytest.raises(UserError, match=r"needs a package that is not installed.*\[pettingzoo\]"):
        zoo.make("mpe2.simple_spread_v3", {})


def test_a_game_of_turns_is_refused():
    pytest.importorskip("pettingzoo")
    with pytest.raises(UserError, match="has no parallel_env: its agents act in turns"):
        zoo.make("pettingzoo.utils", {})

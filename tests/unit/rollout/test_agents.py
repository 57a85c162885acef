"""The agents' own curves, and those of self-play."""

from types import SimpleNamespace
from typing import Any

from rlopt.config.groups import SelfPlayOptions
from rlopt.rollout.agents import agent_scalars
from rlopt.rollout.episodes import Episodes

NONE = SelfPlayOptions(None, "alternate", ())
HALF = SelfPlayOptions(3, "alternate", ())


def spec(agents: Any, options: SelfPlayOptions = NONE) -> Any:
    return SimpleNamespace(agents=agents, learners=options.learners(agents))


def test_every_agent_has_the_mean_of_its_own_episodes():
    episodes = Episodes([1.0, 2.0, 4.0, 5.0], [3, 3, 3, 3], [0, 0, 1, 1], [0, 4, 1, 3])  # rows of copies 0 and 1
    found = agent_scalars(spec(("a", "b", "c")), NONE, 1, episodes)
    assert found == {"agents/a/return": 3.0, "agents/b/return": 3.0}


def test_a_row_of_self_play_is_that_side_of_its_copy():
    episodes = Episodes([1.0, -1.0, 0.5], [3] * 3, [0] * 3, [0, 1, 3])
    found = agent_scalars(spec(("left", "right"), HALF), HALF, 6, episodes)
    assert found["agents/left/return"] == 1.0 and found["agents/right/return"] == -0.25
    assert found["self_play/return"] == 0.5 / 3 and found["self_play/age"] == 2


def test_where_no_episode_ended_there_is_only_the_age():
    assert agent_scalars(spec(("left", "right"), HALF), HALF, 1, Episodes([], [], [], [])) == {"self_play/age": 0.0}


def test_games_of_many_agents_have_no_curve_for_each():
    names = tuple(f"a{i}" for i in range(17))
    assert agent_scalars(spec(names), NONE, 1, Episodes([1.0], [1], [0], [0])) == {}

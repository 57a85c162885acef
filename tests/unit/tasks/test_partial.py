"""Tasks that hide what matters."""

import gymnasium as gym
import pytest

from rlopt.errors import UserError
from rlopt.tasks.partial import TMaze


@pytest.mark.parametrize("id, whole", [("CartPolePositions", "CartPole-v1"), ("PendulumPosition", "Pendulum-v1")])
def test_velocities_are_hidden_and_the_rest_is_as_it_was(id, whole):
    env, other = gym.make(f"rlopt/{id}-v0"), gym.make(whole)
    kept = [0, 2] if "Cart" in id else [0, 1]
    assert env.spec.max_episode_steps == other.spec.max_episode_steps
    seen, known = env.reset(seed=0)[0], other.reset(seed=0)[0]
    for _ in range(5):
        assert env.observation_space.contains(seen) and seen.tolist() == known[kept].tolist()
        action = other.action_space.sample()
        (seen, *rest), (known, *wanted) = env.step(action), other.step(action)
        assert rest[:3] == wanted[:3]


def test_the_maze_asks_where_the_first_observation_pointed():
    maze = gym.make("rlopt/TMaze-v0")
    for turn, reward in ((2, 1.0), (3, 0.0)):
        sign = maze.reset(seed=4)[0][0]
        steps = [maze.step(0) for _ in range(20)]
        assert [step[0].tolist() for step in steps] == [[0, 0]] * 19 + [[0, 1]] and sum(s[1] for s in steps) == 0
        assert maze.step(turn if sign < 0 else 5 - turn)[1:4] == (reward, True, False)
    assert {float(maze.reset(seed=seed)[0][0]) for seed in range(8)} == {-1.0, 1.0}
    found = [maze.step(1)[1:4] for _ in range(60)]
    assert found[:59] == [(-0.05, False, False)] * 59 and found[59] == (-0.05, False, True)
    with pytest.raises(UserError, match="env.kwargs.length must be a whole number, 1 or above"):
        TMaze(length=0)

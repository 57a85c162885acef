"""MinAtar's games: bytes in the place of booleans, and a game that goes on to the bit from its state."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlopt.checkpoint.format import load, write
from rlopt.envs.minatar import MinAtar
from rlopt.envs.observations import image
from rlopt.envs.replay import as_given, plain_tree
from rlopt.rollout.env_state import with_arrays, with_tensors
from tests.support.probes import make_trainer
from tests.support.resuming import cut
from tests.support.traces import differences

GAMES = ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"]
pytestmark = pytest.mark.usefixtures("elsewhere")
SMALL = ["policy=small_cnn", "critic=small_cnn", "policy.channels=[2]", "critic.channels=[2]", "policy.hidden=[8]",
         "critic.hidden=[8]", "env.num_envs=2", "batch_size=40", "total_steps=120", "evaluation.episodes=0",
         "checkpoint.every_updates=1", "checkpoint.every_seconds=null", "checkpoint.keep=99", "algo=a2c"]  # fmt: skip


class Game:
    """What a game of MinAtar is made of, for the wrapper: a generator that outlives an episode, and lists."""

    class Env:
        def __init__(self):
            self.channels, self.places, self.cells = {"ball": 0}, [None, [3, True]], np.zeros((2, 2))

    def __init__(self):
        self.env, self.last_action, self.random = self.Env(), 0, np.random.RandomState()


class Imitation(gym.Env):
    observation_space, action_space = spaces.Box(0, 1, (10, 10, 2), bool), spaces.Discrete(3)

    def __init__(self):
        self.game = Game()

    def reset(self, *, seed=None, options=None):
        self.game.random = np.random.RandomState(seed) if seed is not None else self.game.random
        self.game.env.places = [None, [0, True]]
        return self._seen(), {}

    def step(self, action):
        self.game.env.places[1][0] += 1
        self.game.env.cells += self.game.random.rand(2, 2)
        return self._seen(), float(self.game.env.cells.sum()), False, False, {}

    def _seen(self):
        return self.game.random.rand(10, 10, 2) < 0.5


def played(env, steps):
    return [env.step(1)[:2] for _ in range(steps)]


def test_booleans_become_bytes_of_an_image():
    env = MinAtar(Imitation())
    seen, _ = env.reset(seed=0)
    assert env.observation_space == spaces.Box(0, 1, (10, 10, 2), np.uint8)
    assert seen.dtype == np.uint8 and env.observation_space.contains(seen) and set(seen.flat) == {0, 1}


def test_a_game_goes_on_from_a_state_in_a_checkpoint(tmp_path):
    first, second = MinAtar(Imitation()), MinAtar(Imitation())
    first.reset(seed=0)
    played(first, 5)
    first.reset()  # with a generator that goes on
    played(first, 3)
    write(
        tmp_path / "step-000000000008.safetensors",
        8,
        with_tensors({"state": plain_tree(first.state(), "state()")}),
        None,
    )
    second.reset(seed=7)
    found = load(tmp_path / "step-000000000008.safetensors")["state"]
    second.restore(as_given(with_arrays(found)))
    for (seen, reward), (other, same) in zip(played(first, 20), played(second, 20), strict=True):
        assert np.array_equal(seen, other) and reward == same


def test_it_wraps_games_of_minatar_alone():
    with pytest.raises(ValueError, match="games of MinAtar"):
        MinAtar(gym.make("CartPole-v1"))


def test_without_the_package_one_line_says_what_to_type(run, monkeypatch):
    for name in [name for name in gym.registry if name.startswith("MinAtar/")]:
        monkeypatch.delitem(gym.registry, name)
    monkeypatch.setitem(sys.modules, "minatar", None)
    code, _, err = run("train", "env=minatar", "env.id=MinAtar/Breakout-v1", *SMALL, "run_dir=here")
    assert code == 2 and "pip install 'rlopt-geometry[minatar]'" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_an_image_and_resumes_to_the_bit(game, run, capsys):
    pytest.importorskip("minatar")
    options = ["env=minatar", f"env.id=MinAtar/{game}-v1", *SMALL]
    trainer = make_trainer(*options)
    trainer.collector.close()
    space = trainer.config.env.make().observation_space
    assert str(image(space)).startswith("10 x 10 pixels") and image(space).high == 1
    assert run("train", *options, "run_dir=whole")[0] == 0
    cut(Path("whole"), Path("cut"), 2)
    code, _, err = run("resume", "cut")
    assert code == 0 and "new" not in err
    assert differences(Path("cut"), Path("whole")) == []

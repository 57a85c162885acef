"""rlopt eval --save-episodes: the arrays are what the environment gave and took, and a policy can be cloned from them."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import rlopt
from rlopt.evaluation.recording import Recorder, arrays

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")
SMALL = ["total_steps=80", "batch_size=80", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2"]


def test_the_arrays_are_the_episodes(run):
    assert run("train", "env=pendulum", *SMALL, "run_dir=here")[0] == 0
    code, out, _ = run("eval", "here", "--episodes=3", "--save-episodes", "data.npz", "--json")
    report = json.loads(out)
    assert code == 0 and report["episodes_saved"] == {"path": "data.npz", "transitions": 600}
    data = np.load("data.npz")
    returns = [data["rewards"][data["episodes"] == i].sum() for i in range(3)]
    assert returns == pytest.approx(report["deterministic"]["returns"])
    assert not data["terminations"].any() and np.flatnonzero(data["truncations"]).tolist() == [199, 399, 599]
    policy, env = rlopt.load("here"), gym.make("Pendulum-v1")
    assert np.allclose(policy(data["observations"]), data["actions"])
    env.reset()
    for t in (0, 1, 2):  # the same observations follow
        assert np.array_equal(data["next_observations"][t], data["observations"][t + 1])
    assert data["observations"].dtype == env.observation_space.dtype and data["actions"].dtype == env.action_space.dtype


def test_recording_changes_nothing(run):
    assert run("train", *SMALL, "run_dir=here")[0] == 0
    plain, saved = (json.loads(run("eval", "here", "--episodes=20", "--json", *more)[1])
                    for more in ([], ["--save-episodes", "data.npz"]))  # fmt: skip
    assert {k: v for k, v in saved.items() if k != "episodes_saved"} == plain
    lengths = np.bincount(np.load("data.npz")["episodes"]).tolist()
    assert lengths == plain["deterministic"]["lengths"]


def test_a_policy_is_cloned_from_its_own_episodes(run):
    assert run("train", *SMALL, "run_dir=here")[0] == 0
    assert run("eval", "here", "--episodes=4", "--save-episodes", "data.npz")[0] == 0
    code, out, err = run("clone", "data.npz", "env=cartpole", *SMALL, "run_dir=cloned", "--updates", "2")
    assert code == 0 and "held-out log-probability" in out, err


def test_parts_of_a_dict_have_arrays_of_their_own():
    env = Recorder()
    around = env.around(gym.Env())
    around.observation_space = gym.spaces.Dict(a=gym.spaces.Discrete(2))
    from rlopt.evaluation.recording import Episode

    episode = Episode(3, [{"a": 0, "b": (1, 2)}, {"a": 1, "b": (3, 4)}], [np.int64(1)], [2.0], True)
    found = arrays([episode])
    assert found["observations/a"].tolist() == [0] and found["next_observations/b/1"].tolist() == [4]
    assert found["terminations"].tolist() == [True] and found["rewards"].tolist() == [2.0]


@pytest.mark.parametrize("target, wanted", [
    ("data.csv", "takes a file that ends in .npz"), ("nowhere/data.npz", "there is no folder nowhere"),
    ("minari:mine/data-v0", "a dataset of Minari's needs it"),
])  # fmt: skip
def test_a_place_that_cannot_be_is_told_first(run, target, wanted, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    assert run("train", *SMALL, "run_dir=here")[0] == 0
    code, out, err = run("eval", "here", "--save-episodes", target)
    assert code == 2 and wanted in err and not out
    assert not Path(target).exists()

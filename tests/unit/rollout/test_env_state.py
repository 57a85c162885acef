"""The state of environments between rollouts, with the actions of running episodes."""

import numpy as np
import torch

from rlopt.checkpoint.format import load, write
from rlopt.envs.replay import extend_check
from rlopt.rollout import env_state
from rlopt.rollout.buffer import Buffer
from rlopt.rollout.env_state import EnvState, EpisodeHistory


def at(time: int, number: int = 0) -> EnvState:
    return EnvState(number, np.zeros(1, np.float32), time, 0, False, 0, {}, {"seed": 0})


def rollout(actions: torch.Tensor) -> Buffer:
    """A rollout with these actions [T, E], whose observations and rewards are their numbers."""
    return {"actions": actions, "observations": actions[..., None].float(), "rewards": actions.float()}


def test_actions_are_kept_only_as_long_as_an_episode_needs_them(monkeypatch):
    monkeypatch.setattr(env_state, "LONGEST", 30)
    history, actions = EpisodeHistory(True), torch.arange(200)
    for i, time in enumerate([10, 20, 7, 17, 27, 37, 47]):
        chunk = actions[10 * i : 10 * i + 10, None].clone()
        history = history.after(rollout(chunk), [at(time)])
        assert sum(map(len, history.actions)) <= max(2 * time, 20)
        (stood,) = history.complete()
        if time <= 30:
            episode = actions[10 * i + 10 - time : 10 * i + 10]
            assert stood.actions.tolist() == episode.tolist()
            assert stood.check == extend_check(0, episode[:, None].float().numpy(), episode.float().numpy())
        else:
            assert stood.actions is None and stood.origin is None
        chunk.zero_()


def test_an_update_does_not_cost_more_the_longer_an_episode_is():
    history = EpisodeHistory(True)
    for i in range(2000):
        history = history.after(rollout(torch.full((5, 1), i)), [at(5 * i + 5)])
        assert len(history.actions) <= 12
    (stood,) = history.complete()
    assert stood.actions.tolist() == [i for i in range(2000) for _ in range(5)]


def test_episodes_that_were_taken_up_go_on():
    stood = [at(3), at(0, 1)]
    full = [EnvState(**{**vars(s), "actions": np.arange(s.time), "check": s.time}) for s in stood]
    history = EpisodeHistory(True).restored([full[0], full[1], None])
    history = history.after(rollout(torch.tensor([[7, 8, 9], [7, 8, 9]])), [at(5), at(2, 1), at(1, 2)])
    found = history.complete()
    assert [s.actions.tolist() for s in found] == [[0, 1, 2, 7, 7], [8, 8], [9]]
    two = np.full((2, 1), 7, np.float32)
    assert found[0].check == extend_check(3, two, two[:, 0]) and found[1].check == extend_check(
        0, two + 1, two[:, 0] + 1
    )


def test_what_an_environment_saved_comes_back_from_a_checkpoint(tmp_path):
    tree = {"a": [np.arange(6).reshape(2, 3), {3: None, "x": "ü"}], "n": np.array(np.float32(0.1)), "big": 2**100}
    state = EnvState(**{**vars(at(3)), "saved": tree})
    write(tmp_path / "step-000000000001.safetensors", 1, {"state": state.plain()}, None)
    saved = EnvState.of(load(tmp_path / "step-000000000001.safetensors")["state"]).saved
    assert np.array_equal(saved["a"][0], tree["a"][0]) and saved["a"][0].dtype == np.int64
    assert saved["a"][1] == {3: None, "x": "ü"} and saved["big"] == 2**100
    assert saved["n"].shape == () and saved["n"] == np.float32(0.1)

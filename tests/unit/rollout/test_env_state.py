"""The state of environments between rollouts, with the actions of running episodes."""

import numpy as np
import torch

from rlopt.rollout import env_state
from rlopt.rollout.env_state import EnvState, EpisodeHistory


def at(time: int, number: int = 0) -> EnvState:
    return EnvState(number, np.zeros(1, np.float32), time, 0, False, 0, {}, {"seed": 0})


def test_actions_are_kept_only_as_long_as_an_episode_needs_them(monkeypatch):
    monkeypatch.setattr(env_state, "LONGEST", 30)
    history, actions = EpisodeHistory(True), torch.arange(200)
    for i, time in enumerate([10, 20, 7, 17, 27, 37, 47]):
        chunk = actions[10 * i : 10 * i + 10, None]
        history = history.after(chunk, [at(time)])
        assert sum(map(len, history.actions)) <= (10 if time > 30 else 2 * time + 10)
        (stood,) = history.complete()
        if time <= 30:
            assert stood.actions.tolist() == actions[10 * i + 10 - time : 10 * i + 10].tolist()
        else:
            assert stood.actions is None and stood.origin is None
        chunk.clone().zero_()


def test_a_long_episode_makes_no_update_slower():
    history, actions = EpisodeHistory(True), torch.arange(5 * 3000)[:, None]
    for i in range(3000):
        history = history.after(actions[5 * i : 5 * i + 5], [at(5 * i + 5)])
        assert len(history.actions) <= 12
    assert history.complete()[0].actions.tolist() == actions[:, 0].tolist()


def test_episodes_that_were_taken_up_go_on():
    stood = [at(3), at(0, 1)]
    full = [EnvState(**{**vars(s), "actions": np.arange(s.time)}) for s in stood]
    history = EpisodeHistory(True).restored([full[0], full[1], None])
    history = history.after(torch.tensor([[7, 8, 9], [7, 8, 9]]), [at(5), at(2, 1), at(1, 2)])
    assert [s.actions.tolist() for s in history.complete()] == [[0, 1, 2, 7, 7], [8, 8], [9]]

"""The state of a run: the entries of a checkpoint that the table names, and a replay that takes long."""

import re

import numpy as np
import torch

from rlopt.checkpoint import run_state
from rlopt.checkpoint.run_state import RunState, announce_slow_replay, env_state, versions
from rlopt.rollout.env_state import EnvState, EpisodeHistory


def env(number: int, time: int) -> EnvState:
    observation = np.arange(3, dtype=np.float32) + number
    return EnvState(number, observation, time, number, False, 40, {"state": number}, {"seed": 5})


def state(history: EpisodeHistory | None) -> RunState:
    returns, lengths = torch.tensor([1.5, -2.0], dtype=torch.float64), torch.tensor([3, 1])
    return RunState(
        {"actor": {}}, 80, 2, 1, 0, 1.0, 2.0, None, 4.0, torch.zeros(2), [3.0], history, returns, lengths, None, ()
    )


def history() -> EpisodeHistory:
    rollout = {
        "actions": torch.arange(8).view(4, 2),
        "observations": torch.zeros(4, 2, 1),
        "rewards": torch.zeros(4, 2),
    }
    return EpisodeHistory(True).after(rollout, [env(0, 3), env(1, 1)])


def test_a_checkpoint_has_the_entries_that_the_table_names():
    table = re.findall(r"^\| ([a-z_]+(?:, [a-z_]+)*) +\|", run_state.__doc__ or "", re.MULTILINE)
    named = {name for row in table[1:] for name in row.split(", ")}
    tree = state(history()).tree({"seed": 0}, all_ranks=True)
    assert tree.keys() == named
    assert tree["config"] == {"seed": 0} and tree["versions"] == versions() and tree["steps"] == 80


def test_environments_come_back_from_their_entries():
    given = history()
    entries = state(given).tree({}, all_ranks=False)["environments"]
    assert [(e["return"], e["length"]) for e in entries] == [(1.5, 3), (-2.0, 1)]
    for entry, expected in zip(entries, given.complete(), strict=True):
        found = env_state(entry)
        assert np.array_equal(found.observation, expected.observation)
        assert found.actions.tolist() == expected.actions.tolist()
        assert (found.number, found.time, found.noise, found.origin) == (
            expected.number, expected.time, expected.noise, expected.origin,
        )  # fmt: skip
    assert env_state(None) is None


def test_before_the_first_rollout_there_are_no_environments():
    assert state(None).tree({}, all_ranks=True)["environments"] is None


def test_only_a_replay_that_is_not_done_soon_is_announced(monkeypatch, capsys):
    states = history().complete()
    started = []

    class Timer:
        daemon = False

        def __init__(self, seconds, call, arguments):
            self.call, self.arguments = call, arguments

        def start(self):
            started.append(self)

        def cancel(self):
            started.append("cancelled")

    monkeypatch.setattr(run_state, "Timer", Timer)
    with announce_slow_replay([None, *states]):
        started[0].call(*started[0].arguments)
    assert capsys.readouterr().err == "rlopt: replays 4 transitions of the episodes that were running\n"
    assert started[1:] == ["cancelled"]
    started.clear()
    with announce_slow_replay([None]):
        pass
    assert started == ["cancelled"]


def test_versions_name_what_bits_depend_on():
    assert {"python", "rlopt", "torch", "numpy", "gymnasium", "processor"} <= versions().keys()

"""record.names=sb3: the table in the module is what is recorded."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlopt
from rlopt.loggers import sb3
from tests.support.traces import rows, scalars

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")
SMALL: dict[str, Any] = {
    "batch_size": 80, "total_steps": 240, "policy": {"hidden": [8]}, "critic": {"hidden": [8]},
    "evaluation": {"episodes": 2, "every_updates": 1}, "record": {"names": "sb3"},
}  # fmt: skip
TABLE = {
    name.strip(): own.strip()
    for name, own in re.findall(r"^\| (\w+/\w+) +\| ([^|]*)\|", sb3.__doc__ or "", re.MULTILINE)
}


def test_the_table_names_what_the_code_copies():
    assert set(TABLE) == {*sb3.SAME, *sb3.NEGATIVE, "rollout/ep_rew_mean", "time/iterations", "time/time_elapsed",
                          "time/total_timesteps"}  # fmt: skip
    assert all(own in TABLE[name] for name, own in {**sb3.SAME, **sb3.NEGATIVE}.items())


def test_a_run_of_ppo_has_every_name(monkeypatch):
    rlopt.train("algo=ppo", "env=pendulum", run_dir="here", **{**SMALL, "total_steps": 4000, "batch_size": 2000})
    recorded = [row for row in rows(Path("here")) if row["train/approx_kl"]]
    assert set(TABLE) - set(recorded[-1]) == {
        "rollout/success_rate",
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
    } - set(recorded[-1])
    row = {name: float(value) for name, value in recorded[-1].items() if value}
    assert row["train/entropy_loss"] == -row["policy/entropy"]
    assert row["train/approx_kl"] == row["step/kl"] and row["train/learning_rate"] == row["step/size"]
    assert 0 <= row["train/clip_fraction"] <= 1
    assert row["train/std"] == pytest.approx(row["policy/std"]) and row["time/iterations"] == 2
    assert set(TABLE) - {"rollout/success_rate", "rollout/ep_rew_mean", "rollout/ep_len_mean"} <= set(
        scalars(Path("here"))
    ) | {"time/fps", "time/iterations", "time/time_elapsed", "time/total_timesteps"}


def test_the_return_is_that_of_the_last_hundred_episodes():
    seen: list[float] = []
    rlopt.train(on_rollout=lambda moment, rollout: None, env={"id": "probe/Counter-v0"}, run_dir="here", **SMALL)
    summary = rlopt.train(env={"id": "probe/Counter-v0"}, run_dir="there", **SMALL).summary
    seen = [float(row["rollout/ep_rew_mean"]) for row in rows(Path("there")) if row["rollout/ep_rew_mean"]]
    assert seen[-1] == pytest.approx(summary["return_mean"])


def test_rlopts_own_names_stay_and_are_the_same():
    rlopt.train(run_dir="a", **SMALL)
    rlopt.train(run_dir="b", **{**SMALL, "record": {"names": "rlopt"}})
    a, b = rows(Path("a")), rows(Path("b"))
    assert not set(TABLE) & (set(b[0]) - {"time/fps"})
    for mine, theirs in zip(a, b, strict=True):
        assert all(mine[name] == value for name, value in theirs.items() if not name.startswith("time/"))


def test_std_and_clip_fraction_are_measured_after_the_update():
    row = {}
    rlopt.train("algo=ppo", "env=pendulum", "policy.initial_sigma=0.25", "optimizer.lr=1e-12", "critic.optimizer.lr=1e-12",
                on_update=lambda moment, scalars: row.update(scalars), **SMALL)  # fmt: skip
    assert row["policy/std"] == pytest.approx(0.25, rel=1e-5) and row["policy/clip_fraction"] == 0
    rlopt.train(
        "algo=ppo", "env=pendulum", "optimizer.lr=0.1", on_update=lambda moment, scalars: row.update(scalars), **SMALL
    )
    assert 0 < row["policy/clip_fraction"] <= 1 and np.isfinite(row["policy/std"])

"""record.info: means over a rollout's transitions and over the ends of its episodes."""

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlopt
from rlopt.errors import EnvironmentFault, UserError
from tests.support.traces import rows

pytestmark = pytest.mark.usefixtures("elsewhere", "nothing_is_left")
SMALL: dict[str, Any] = {
    "batch_size": 40, "total_steps": 120, "policy": {"hidden": [4]}, "critic": {"hidden": [4]},
    "evaluation": {"episodes": 0}, "env.num_envs": 4,
}  # fmt: skip


class Told(gym.Env):
    """Episodes of 3, 4, 5 steps, ...; x is the step, even is there at even steps, done at the end."""

    observation_space, action_space = gym.spaces.Box(0, 9, (1,)), gym.spaces.Discrete(2)

    def __init__(self, wrong: bool = False):
        self._length, self._wrong = 2, wrong

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t, self._length = 0, 3 + (self._length - 2) % 3
        return np.zeros(1, np.float32), {"x": 1000.0}

    def step(self, action):
        self._t += 1
        over = self._t == self._length
        info: dict[str, Any] = {"x": np.float32(self._t), "none": None}
        if self._t % 2 == 0:
            info["even"] = np.array([self._t])
        if over:
            info["done"] = np.bool_(self._length > 3)
        if self._wrong:
            info["x"] = "far"
        return np.zeros(1, np.float32), 0.0, over, False, info


def by_hand() -> list[dict[str, float]]:
    """What the scalars of the three rollouts of one environment are; all environments are alike."""
    t, length, found = 0, 3, []
    for _ in range(3):
        x, even, ends, done = [], [], [], []
        for _ in range(10):
            t += 1
            x.append(t)
            even += [t] if t % 2 == 0 else []
            if t == length:
                ends.append(t)
                done.append(float(length > 3))
                t, length = 0, 3 + (length - 2) % 3
        at_end = [e for e in ends if e % 2 == 0]
        row = {
            "x": np.mean(x),
            "even": np.mean(even),
            "x_at_end": np.mean(ends),
            "done_at_end": np.mean(done),
            "done": np.mean(done),
        }
        found.append(
            {f"info/{k}": float(v) for k, v in (row | ({"even_at_end": np.mean(at_end)} if at_end else {})).items()}
        )
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_entries_are_means_over_steps_and_over_ends(workers, capsys):
    names = ["x", "even", "done", "none", "nowhere"]
    rlopt.train(env=Told, record={"info": names}, run_dir="here", workers=workers, **SMALL)
    recorded = [{k: float(v) for k, v in row.items() if k.startswith("info/") and v} for row in rows(Path("here"))]
    assert len(recorded) == 3
    for found, wanted in zip(recorded, by_hand(), strict=True):
        assert found == pytest.approx(wanted, rel=1e-12)
    assert "no info of the first rollout had none or nowhere" in capsys.readouterr().err


def test_mujocos_tasks_have_infos_and_the_same_bits():
    pytest.importorskip("mujoco")
    options = {**SMALL, "env": "hopper", "env.num_envs": 2}
    with_info = rlopt.train(record={"info": ["x_position"]}, run_dir="a", **options)
    without = rlopt.train(run_dir="b", **options)
    a, b = (rlopt.load(trained.run_dir).frozen.theta for trained in (with_info, without))
    assert a.equal(b)
    assert all(math.isfinite(float(row["info/x_position"])) for row in rows(Path("a")))


def test_what_is_no_number_is_named():
    with pytest.raises(EnvironmentFault, match=r"info\['x'\] of type str where record.info wants a number"):
        rlopt.train(env=lambda: Told(True), record={"info": ["x"]}, **SMALL)


@pytest.mark.parametrize("typed, wanted", [
    ("record.info=x", "record.info must be a list"),
    ("record.info=[x,x]", "record.info must be a list of names, each once"),
])  # fmt: skip
def test_options_are_checked(typed, wanted):
    with pytest.raises(UserError, match=wanted):
        rlopt.train(typed, **SMALL)
    with pytest.raises(UserError, match="for record.info choose sync"):
        rlopt.train("env=hopper", "env.backend=mujoco", "record.info=[x]", total_steps=40, batch_size=40)

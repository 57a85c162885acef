"""Callbacks: when each is called and with what, and what they may do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlopt
from rlopt.training.callbacks import RunContext

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")


SMALL: dict[str, Any] = {
    "batch_size": 80, "total_steps": 240, "policy": {"hidden": [8]}, "critic": {"hidden": [8]},
    "evaluation": {"episodes": 3},
}  # fmt: skip


def test_callbacks_are_called_in_order_with_what_is_documented():
    calls: list[tuple[str, RunContext, Any]] = []
    policies = []

    def on(name: str):
        def call(moment: RunContext, about: Any) -> None:
            calls.append((name, moment, about))
            if name == "update":
                policies.append(moment.policy().outputs(np.ones(4)))

        return call

    trained = rlopt.train(on_begin=on("begin"), on_rollout=on("rollout"), on_update=on("update"),
                          on_checkpoint=on("checkpoint"), on_end=on("end"), run_dir="here", checkpoint={"every_updates": 2}, **SMALL)  # fmt: skip
    names = [(name, moment.steps, moment.updates) for name, moment, _ in calls]
    assert names == [
        ("begin", 0, 0), ("rollout", 0, 0), ("update", 80, 1), ("rollout", 80, 1), ("update", 160, 2),
        ("checkpoint", 160, 2), ("rollout", 160, 2), ("update", 240, 3), ("checkpoint", 240, 3), ("end", 240, 3),
    ]  # fmt: skip
    about = {name: thing for name, _, thing in calls}
    assert about["begin"]["algo"] == "trpo" and about["begin"]["batch_size"] == 80
    assert about["rollout"].steps == 80
    assert about["update"]["update/skipped"] == 0
    assert about["checkpoint"].is_file() and about["checkpoint"].name == "step-000000000240.safetensors"
    assert about["end"] == trained.summary
    assert np.array_equal(policies[-1], rlopt.load("here").outputs(np.ones(4)))
    assert not np.array_equal(policies[0], policies[-1])


def test_a_callback_can_end_the_run_and_only_by_true():
    trained = rlopt.train(on_update=lambda moment, _: np.equal(moment.updates, 2), run_dir="here", **SMALL)
    assert trained.summary["steps"] == 160 and "evaluation_return" in trained.summary
    assert rlopt.train(on_update=lambda moment, _: 1, **SMALL).summary["steps"] == 240


def test_what_a_callback_raises_ends_the_run_with_a_checkpoint():
    def fail(moment: RunContext, _: Any) -> None:
        if moment.updates == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rlopt.train(on_update=fail, run_dir="here", **SMALL)
    assert [p.name for p in Path("here/checkpoints").iterdir()] == ["step-000000000160.safetensors"]

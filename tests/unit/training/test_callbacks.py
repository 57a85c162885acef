"""Callbacks: when each is called and with what, and what they may do."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlopt
from rlopt.errors import EnvironmentFault, UserError
from rlopt.loggers import logger
from rlopt.training import callbacks, diagnostics
from rlopt.training.callbacks import RunContext
from tests.support.traces import rows

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")


SMALL: dict[str, Any] = {
    "batch_size": 80, "total_steps": 240, "policy": {"hidden": [8]}, "critic": {"hidden": [8]},
    "evaluation": {"episodes": 3},
}  # fmt: skip


def test_products_round_as_chosen_while_a_run_updates():
    seen = []
    rlopt.train(
        on_update=lambda *_: seen.append(torch.get_float32_matmul_precision()), matmul_precision="high", **SMALL
    )
    assert seen == ["high"] * 3 and torch.get_float32_matmul_precision() == "highest"


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


def test_a_callback_records_scalars_and_saves(capsys):
    def watch(moment: RunContext, rollout: Any) -> None:
        moment.record("mine/rollout", rollout.steps)

    def update(moment: RunContext, scalars: Any) -> None:
        moment.record("mine/update", np.float32(moment.updates))
        if moment.updates == 2:
            moment.save()

    saved = []
    rlopt.train(on_rollout=watch, on_update=update, on_checkpoint=lambda moment, path: saved.append(moment.updates),
                run_dir="here", **SMALL)  # fmt: skip
    recorded = [{k: v for k, v in row.items() if k.startswith("mine/") and v} for row in rows(Path("here"))]
    assert recorded == [{"mine/rollout": "80.0"}, {"mine/update": "1.0"}, {"mine/rollout": "80.0"}, {"mine/update": "2.0"},
                        {"mine/rollout": "80.0"}, {"mine/update": "3.0"}]  # fmt: skip
    assert saved == [2, 3]


def test_groups_of_rlopts_own_scalars_are_all_taken():
    pages = f"{logger.__doc__}{diagnostics.__doc__}"
    table = re.findall(r"^\| (\w+/.*?)\|", pages, re.MULTILINE)
    named = {name.partition("/")[0] for line in table for name in re.findall(r"\w+/", line)}
    assert named == callbacks.GROUPS


@pytest.mark.parametrize("ask, wanted", [
    (lambda moment: moment.environments.call("_noise", 1), "'_noise' is not the name of a method"),
    (lambda moment: moment.environments.set_attr("gravity", object()), "of type object where a checkpoint holds"),
    (lambda moment: moment.record("mine", "text"), "takes a number; got 'text'"),
    (lambda moment: moment.record("step", 7), "begin with step are rlopt's; try mine/step"),
    (lambda moment: moment.record("episode/return", 7), "begin with episode are rlopt's; try mine/episode/return"),
])  # fmt: skip
def test_what_cannot_be_asked_is_refused_in_one_line(ask, wanted):
    with pytest.raises(UserError, match=wanted):
        rlopt.train(on_update=lambda moment, _: ask(moment), run_dir="here", **SMALL)
    assert [p.name for p in Path("here/checkpoints").iterdir()] == ["step-000000000080.safetensors"]


def test_environments_change_in_few_callbacks_and_one_by_one():
    def change(moment: RunContext, _: Any) -> None:
        moment.environments.set_attr("gravity", 1.0)

    with pytest.raises(UserError, match="can be changed in on_begin, on_rollout and on_update"):
        rlopt.train(on_checkpoint=change, **SMALL)
    with pytest.raises(UserError, match="env.backend=mujoco steps all environments as one.* type env.backend=sync"):
        rlopt.train("env=hopper", on_begin=change, **SMALL)
    with pytest.raises(EnvironmentFault, match="neither CartPoleEnv nor a wrapper of it has mood"):
        rlopt.train(on_begin=lambda moment, _: moment.environments.set_attr("mood", 1.0), **SMALL)


def test_a_change_reaches_every_environment_in_workers_too():
    def change(moment: RunContext, _: Any) -> None:
        moment.environments.set_attr("force_mag", 0.0)

    thetas = []
    for workers in (1, 2):
        trained = rlopt.train("env.num_envs=4", on_begin=change, workers=workers, **SMALL)
        thetas.append(rlopt.load(trained.run_dir).frozen.theta)
    assert thetas[0].equal(thetas[1])
    other = rlopt.train("env.num_envs=4", **SMALL)
    assert not thetas[0].equal(rlopt.load(other.run_dir).frozen.theta)

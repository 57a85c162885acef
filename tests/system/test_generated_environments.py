"""A thousand environments drawn from seeds: each trains, is refused in one line, or its fault is named with its step.

A run in one that trains is resumed from its first checkpoint: it ends with the same bits, or was said beforehand to be
one that may not.
"""

import logging
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path

import gymnasium as gym
import pytest

from rlopt.checkpoint import format as checkpoint
from rlopt.checkpoint.manager import list_checkpoints
from rlopt.errors import EnvironmentFault, Stopped, UserError
from rlopt.parallel import processes
from rlopt.training.trainer import Trainer
from tests.support.building import trainer
from tests.support.generated import FAULTS, LASTING, REFUSALS, WHICH, Generated, Plan
from tests.support.probes import resolved
from tests.support.traces import same, tree_of

BLOCK = 50
BLOCKS = [0, *(pytest.param(i, marks=pytest.mark.fuzz) for i in range(1, 20))]
SMALL = [
    "env.id=generated/Env-v0", "env.num_envs=3", "batch_size=15", "total_steps=60", "policy.hidden=[4]", "critic.hidden=[4]",
    "algo=ppo", "schedule.epochs=1", "critic.schedule.epochs=1", "evaluation.episodes=0", "checkpoint.every_updates=1", "checkpoint.keep=9",
    "checkpoint.every_seconds=null", "record.tensorboard=false", "record.csv=false", "record.histograms_every=null",
    "max_bad_updates=1", "env.timeout=1",
]  # fmt: skip


@pytest.fixture
def generated(monkeypatch) -> None:
    spec = gym.envs.registration.EnvSpec("generated/Env-v0", entry_point=Generated)
    monkeypatch.setitem(gym.registry, "generated/Env-v0", spec)
    monkeypatch.setattr(processes, "_PATIENCE", 0.3)
    monkeypatch.setattr(Generated, "shared", 0)
    logging.getLogger("rlopt").setLevel(logging.ERROR)


def make(plan: Plan, run_dir: Path) -> Trainer:
    """The run in the plan's environment."""
    config = resolved(*SMALL)
    config["env"]["kwargs"] = {"seed": plan.seed}
    config |= {"run_dir": str(run_dir), "workers": 2 if plan.fault == "dies" else 1}
    return trainer(config)


def outcome(plan: Plan, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """How a run in the plan's environment ends, and its error, or what was said before it began."""
    try:
        run = make(plan, run_dir)
    except UserError as error:
        return "refused", str(error)
    warning = capsys.readouterr().err.strip()
    with closing(run.collector):
        try:
            assert run.run()["steps"] == 60
        except EnvironmentFault as error:
            return "fault", str(error)
        except Stopped as error:
            return "stopped", str(error)
    return "trains", warning


def check_resumed(plan: Plan, run_dir: Path, warning: str) -> str:
    """Whether a run that is resumed from the first checkpoint ends with the same bits; else it must have been said."""
    whole = tree_of(run_dir)
    run = make(plan, run_dir.with_name(f"{run_dir.name}-resumed"))
    with closing(run.collector):
        run.restore(checkpoint.load(list_checkpoints(run_dir / "checkpoints")[0]))
        run.run()
    if same(tree_of(run.run_dir), whole):
        return "same bits"
    assert warning, f"{plan} ends with other bits, and nothing was said"
    return "told"


@pytest.mark.parametrize("block", BLOCKS)
def test_generated_environments_end_as_they_must(generated, tmp_path, capsys, block):
    counts: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(block * BLOCK, (block + 1) * BLOCK):
            plan, run_dir = Plan.draw(seed), tmp_path / str(seed)
            capsys.readouterr()
            found, said = outcome(plan, run_dir, capsys)
            counts[found] += 1
            assert "\n" not in said, (plan, said)
            if plan.ends == "fault":
                assert found == "fault", (plan, found, said)
                number = f"environment {WHICH}, at its step {plan.fails_at}, "
                assert said.startswith(number), (plan, said)
            elif plan.ends == "stopped":
                assert found in ("stopped", "trains"), (plan, found, said)
            else:
                assert found == plan.ends, (plan, found, said)
            assert run_dir.exists() == (found != "refused"), plan
            if plan.ends == found == "trains":
                resumed = check_resumed(plan, run_dir, said)
                counts[resumed] += 1
                if plan.lasting in ("nothing", "saved"):
                    assert (said, resumed) == ("", "same bits"), (plan, said)
                else:
                    assert said, plan
    print(f"\n{dict(counts)}")
    assert {"trains", "fault", "refused", "same bits"} <= set(counts)


def test_every_kind_is_among_the_thousand():
    plans = [Plan.draw(seed) for seed in range(1000)]
    faults = Counter(plan.fault for plan in plans)
    assert all(faults[kind] >= 5 for kind in (*FAULTS, *REFUSALS, "not finite", None))
    assert {plan.lasting for plan in plans} == set(LASTING)
    assert len({(plan.observations, plan.actions) for plan in plans}) > 150

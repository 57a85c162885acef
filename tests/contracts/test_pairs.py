"""Every metric with every solver, found through conf/: an allowed pair trains, any other is refused by name."""

import pytest
import torch

from rlopt.config.catalogue import make_part
from rlopt.config.choices import parts
from rlopt.core.parts import COMPATIBLE
from rlopt.errors import UserError
from tests.support.building import resolve, trainer

SMALL = [
    "algo=npg", "env=cartpole", "env.num_envs=4", "batch_size=64", "total_steps=384", "policy.hidden=[8]",
    "critic.hidden=[8]", "critic.schedule.epochs=1", "evaluation.episodes=0", "dtype=float64",
    "checkpoint.every_seconds=null",
]  # fmt: skip
# options without which a part cannot be used at all
NEEDED = {"mahalanobis": ["metric.diagonal=2.0"]}


def part(group, name):
    return make_part(group, name)


PAIRS = [(metric, solver) for metric in parts("metric") for solver in parts("solver")]
FITS = {(m, s): part("solver", s).needs <= part("metric", m).supplies for m, s in PAIRS}


def overrides(metric, solver, folder):
    return [*SMALL, f"metric={metric}", f"solver={solver}", *NEEDED.get(metric, []), f"run_dir={folder}/run"]


def test_every_metric_has_a_solver_and_every_solver_a_metric():
    for metric in parts("metric"):
        assert any(FITS[metric, solver] for solver in parts("solver")), metric
    for solver in parts("solver"):
        if COMPATIBLE in part("solver", solver).needs:
            continue  # its direction comes from a critic; see test_compatible_config
        assert any(FITS[metric, solver] for metric in parts("metric")), solver


@pytest.mark.parametrize(("metric", "solver"), [pair for pair in PAIRS if FITS[pair]])
def test_an_allowed_pair_trains(metric, solver, tmp_path):
    run = trainer(resolve(overrides(metric, solver, tmp_path)))
    before = run.state["actor"]["theta"].clone()
    summary = run.run()
    theta = run.state["actor"]["theta"]
    assert summary["steps"] == 384
    assert run.skipped == 0
    assert theta.isfinite().all()
    assert not torch.equal(theta, before)


@pytest.mark.parametrize(("metric", "solver"), [pair for pair in PAIRS if not FITS[pair]])
def test_any_other_pair_is_refused_with_the_solvers_that_can(metric, solver, tmp_path):
    with pytest.raises(UserError) as refusal:
        trainer(resolve(overrides(metric, solver, tmp_path)))
    message = str(refusal.value)
    assert f"solver={solver} cannot serve metric={metric}" in message
    for name in parts("solver"):
        assert (f"solver={name}" in message.partition("These can:")[2]) == FITS[metric, name]
    assert not (tmp_path / "run").exists()

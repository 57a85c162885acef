"""Sizes that cannot go together are told before anything is made."""

from typing import Any

import pytest

from rlopt.errors import UserError
from tests.support.building import resolve, trainer

SMALL = ["env=cartpole", "env.num_envs=4", "batch_size=80", "policy.hidden=[4]"]


def used(config: dict[str, Any]) -> None:
    """Made, and used once."""
    run = trainer(config)
    try:
        _, lesson = run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
    finally:
        run.collector.close()
    assert lesson.failure is None


@pytest.mark.parametrize("where", ["", "critic."])
def test_a_dense_matrix_beyond_the_memory_is_refused_first(where, tmp_path):
    network = "critic" if where else "policy"
    chosen = [o for o in SMALL if not o.startswith(network)] + [f"{network}.hidden=[3000,3000]"]
    config = resolve([*chosen, *(f"{where}{part}" for part in ("metric=ggn", "solver=dense", "step=trust_region"))])
    with pytest.raises(UserError, match=f"^{where}solver=dense: a matrix of 9,0.* x 9,0.* GB, .*another {where}solver"):
        trainer(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("where", "parameters"), [("", 4 * 4 + 4 + 4 * 2 + 2), ("critic.", 4 * 4 + 4 + 4 + 1)])
def test_a_matrix_that_is_not_of_the_networks_size_is_refused(where, parameters, tmp_path):
    chosen = [f"{where}{part}" for part in ("metric=mahalanobis", "solver=cg", "step=trust_region")]
    chosen.append("critic.hidden=[4]")
    config = resolve([*SMALL, *chosen, f"{where}metric.diagonal=[1,2]"])
    with pytest.raises(UserError) as told:
        trainer(config, tmp_path / "run")
    assert str(told.value) == (
        f"{where}metric=mahalanobis: diagonal must have {parameters} rows, as theta has, and is of shape (2,); "
        f"type {where}metric.diagonal=1"
    )
    assert not (tmp_path / "run").exists()
    (config["critic"] if where else config)["metric"]["diagonal"] = [2.0] * parameters
    used(config)


@pytest.mark.parametrize(
    ("where", "options", "count"),
    [
        ("", ["metric=fisher", "metric.samples=3"], 3 * 80),
        ("", ["metric=empirical_fisher", "step=trust_region", "schedule=minibatch", "schedule.minibatch=30"], 30 + 20),
        ("", ["metric=gauss_newton", "critic=shared"], 3 * 80),
        ("critic.", ["critic.metric=gauss_newton", "critic.step=fixed", "critic.schedule=whole_batch"], 80),
    ],
)
def test_more_products_of_samples_than_gram_may_hold_are_refused(where, options, count):
    config = resolve([*SMALL, f"{where}solver=gram", *options])
    solver = (config["critic"] if where else config)["solver"]
    solver["largest"] = count
    used(config)
    solver["largest"] = count - 1
    with pytest.raises(
        UserError,
        match=rf"^{where}solver=gram: it would hold {count} x {count} products.*; type {where}solver.largest={count}, or ",
    ):
        trainer(config)

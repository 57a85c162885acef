"""critic/explained_variance is of the values before training and their own targets, whatever is done to both later."""

from pathlib import Path

import pytest

from tests.support.probes import make_trainer
from tests.support.traces import scalars

SMALL = [
    "env=cartpole",
    "algo=ppo",
    "batch_size=256",
    "policy.hidden=[8]",
    "critic.hidden=[8]",
    "evaluation.episodes=0",
]


def explained(run_dir: Path, *overrides: str) -> list[tuple[int, float]]:
    make_trainer(*SMALL, *overrides, f"run_dir={run_dir}").run()
    return scalars(run_dir)["critic/explained_variance"]


@pytest.mark.parametrize("rate", [0.001, 0.1])
def test_recomputed_advantages_do_not_change_explained_variance(tmp_path, rate):
    """Over one update; what follows differs, since the policies do."""
    same = ["total_steps=256", f"critic.optimizer.lr={rate}"]
    with_recompute = explained(tmp_path / "a", *same, "advantages.recompute=true")
    assert with_recompute == explained(tmp_path / "b", *same, "advantages.recompute=false")


def test_it_does_not_fall_when_the_critic_learns_fast(tmp_path):
    """Targets made anew from a trained critic are no measure of what the untrained one knew."""
    values = [value for _, value in explained(tmp_path, "total_steps=1536", "critic.optimizer.lr=0.01")]
    assert min(values[1:]) > -1

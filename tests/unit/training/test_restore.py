"""A run from its folder: the newest checkpoint or the best, and one that does not suit its configuration."""

import json

import pytest
import torch

from rlopt.checkpoint.manager import load_newest
from rlopt.config import check_config
from rlopt.config.saved import load_run
from rlopt.errors import UserError
from rlopt.training.restore import fresh_samples, restore_run
from tests.support.probes import make_trainer

SMALL = ["env=cartpole", "batch_size=80", "total_steps=240", "policy.hidden=[4]", "critic.hidden=[4]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("restored") / "run"
    often = ["checkpoint.every_updates=1", "checkpoint.keep=9", "evaluation.every_updates=1", "evaluation.episodes=2"]
    make_trainer(*SMALL, *often, f"run_dir={run_dir}").run()
    return run_dir


def test_the_newest_checkpoint_is_restored(folder):
    run, step = restore_run(check_config(load_run(folder)), folder)
    saved_step, tree = load_newest(folder)
    assert step == saved_step == 240
    assert torch.equal(run.state["actor"]["theta"], tree["agent"]["actor"]["theta"])


def test_the_best_checkpoint_is_restored_when_asked_for(folder):
    run, step = restore_run(check_config(load_run(folder)), folder, best=True)
    assert step in (80, 160, 240)
    newest, _ = restore_run(check_config(load_run(folder)), folder)
    assert step == 240 or not torch.equal(run.state["actor"]["theta"], newest.state["actor"]["theta"])


def test_a_restored_run_has_its_environment_and_acts(folder):
    run, _ = restore_run(check_config(load_run(folder)), folder)
    assert run.config.env.id == "CartPole-v1" and run.config.seed == 0
    z = run.agent.evaluated_policy(run.state).outputs(torch.zeros(1, 4))
    assert z.shape == (1, run.agent.head.network_outputs)


def test_a_checkpoint_of_another_network_is_refused(folder):
    other = make_trainer(*[o for o in SMALL if "policy" not in o], "policy.hidden=[5]")
    other.collector.close()
    with pytest.raises(UserError, match=r"config.yaml has policy.hidden=\[5\], and the checkpoint was made with \[4\]"):
        restore_run(other.config, folder)


def test_fresh_samples_are_whole_steps_and_repeat(folder):
    run, _ = restore_run(check_config(load_run(folder)), folder)
    count = run.config.env.num_envs + 1
    a, b, c = (fresh_samples(run, count, seed) for seed in (0, 0, 1))
    assert len(a) == 2 * run.config.env.num_envs
    assert torch.equal(a.inputs, b.inputs) and not torch.equal(a.inputs, c.inputs)
    assert json.loads((folder / "summary.json").read_text())["steps"] == 240

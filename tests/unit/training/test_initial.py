"""Runs that start from another run's policy, or from a file of parameters."""

import shutil
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from safetensors.torch import save_file

import rlopt
from rlopt.checkpoint.manager import load_newest
from rlopt.config import read_config
from rlopt.errors import UserError
from rlopt.training.factory import build
from rlopt.training.initial import start_from
from tests.support.building import resolve, trainer
from tests.support.masked import Offers

OPTIONS = [
    "env=pendulum",
    "batch_size=80",
    "total_steps=160",
    "policy.hidden=[8]",
    "critic.hidden=[6]",
    "evaluation.episodes=0",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    rlopt.train(*OPTIONS, "averaging.kind=none", f"run_dir={folder}")
    return folder


def started(*overrides: str) -> dict:
    run = build(read_config([*OPTIONS, *overrides]), Path("run"), begin=start_from)
    run.collector.close()
    return run.state


def test_policy_critic_and_normalisers_are_taken_over(trained):
    state, saved = started(f"init.from={trained}", "env.num_envs=4"), load_newest(trained)[1]["agent"]
    for name in ("actor", "critic"):
        assert torch.equal(state[name]["theta"], saved[name]["theta"])
    assert torch.equal(state["observations"]["mean"], saved["observations"]["mean"])
    assert state["rewards"]["count"] == saved["rewards"]["count"]
    assert state["rewards"]["returns"].tolist() == [0] * 4


def test_another_critic_begins_anew(trained):
    state, plain = started(f"init.from={trained}", "critic.hidden=[7]"), started("critic.hidden=[7]")
    assert torch.equal(state["critic"]["theta"], plain["critic"]["theta"])
    assert not torch.equal(state["actor"]["theta"], plain["actor"]["theta"])


def test_frozen_layers_keep_their_values_against_weight_decay(trained, tmp_path):
    typed = ["algo=ppo", "optimizer=adamw", "optimizer.weight_decay=0.1", f"init.from={trained}", "init.freeze=[0.*]"]
    rlopt.train(*OPTIONS, *typed, f"run_dir={tmp_path}/run")
    run = trainer(resolve(OPTIONS))
    run.collector.close()
    layout = run.agent.actor.update.network.layout
    before, after = (layout.views(load_newest(f)[1]["agent"]["actor"]["theta"]) for f in (trained, tmp_path / "run"))
    same = {name: torch.equal(view, after[name]) for name, view in before.items()}
    assert same == {name: name.startswith("0.") for name in before}


def test_resuming_asks_no_more_for_where_it_started(trained, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(trained, source)
    folder = tmp_path / "run"
    rlopt.train(*OPTIONS, f"init.from={source}", f"run_dir={folder}", "seed=1")
    shutil.rmtree(source)
    from rlopt.cli.main import main

    assert main(["resume", str(folder), "total_steps=240"]) == 0
    assert load_newest(folder)[0] == 240
    rlopt.load(folder)


@pytest.mark.parametrize(("overrides", "said"), [
    (["policy.hidden=[9]"], r"0.weight has shape \(8, 3\), and this run's \(9, 3\)"),
    (["policy.hidden=[8,8]"], "shape|parameter"),
    (["policy.activation=relu"], "its layers are not"),
    (["policy.squash=true"], "squash=False, and this run's True"),
    (["policy.head=beta"], "its distribution is a DiagonalGaussian, and this run's a Beta|shape"),
    (["observations.normalise=false"], "add observations.normalise=true"),
    (["env=cartpole"], "its observations are Box"),
    (["init.actor=there.safetensors"], "leave out one"),
    (["init.freeze=[1.*]"], "init.freeze must be of 0.weight, 0.bias"),
])  # fmt: skip
def test_a_policy_that_does_not_fit_is_named(trained, overrides, said):
    with pytest.raises(UserError, match=said):
        started(f"init.from={trained}", *overrides)


def test_a_mask_of_one_of_two_runs_is_named(tmp_path, monkeypatch):
    made = gym.envs.registration.EnvSpec("Offers-v0", entry_point=Offers, kwargs={"count": 9})
    monkeypatch.setitem(gym.registry, "Offers-v0", made)
    options = ["env.id=Offers-v0", "batch_size=80", "total_steps=80", "env.num_envs=2", "evaluation.episodes=0"]
    for mask, other, said in [
        ("none", "auto", "acts without action masks, and this run has them; add env.mask=none"),
        ("auto", "none", "acts with action masks, and this run has none; .* with env.mask=info"),
    ]:
        folder = tmp_path / mask
        rlopt.train(*options, "env.kwargs={lenient: true}", f"env.mask={mask}", f"run_dir={folder}")
        with pytest.raises(UserError, match=said):
            build(read_config([*options, f"env.mask={other}", f"init.from={folder}"]), Path("run"), begin=start_from)


def test_a_file_of_parameters(tmp_path):
    run = trainer(resolve(OPTIONS))
    run.collector.close()
    views = run.agent.actor.update.network.layout.views(torch.randn_like(run.state["actor"]["theta"]))
    path = tmp_path / "actor.safetensors"
    save_file({name: view.contiguous() for name, view in views.items() if name != "constants"}, path)
    state = started(f"init.actor={path}")
    found = run.agent.actor.update.network.layout.views(state["actor"]["theta"])
    assert all(torch.equal(found[name], view) for name, view in views.items() if name != "constants")
    assert torch.equal(found["constants"], run.agent.head.initial_constants())
    for change, said in [({"3.weight": torch.zeros(2)}, "no parameter 3.weight"), ({"0.bias": torch.zeros(2)}, "shape"),
                         ({"0.bias": torch.full((8,), torch.nan)}, "not finite")]:  # fmt: skip
        save_file({**{n: v.contiguous() for n, v in views.items()}, **change}, path)
        with pytest.raises(UserError, match=said):
            started(f"init.actor={path}")

"""The zoo: what is kept of a run acts as the run's policy does, is started from, and cannot go on."""

import json

import numpy as np
import pytest
import torch

import rlopt
from rlopt.checkpoint import zoo
from rlopt.checkpoint.manager import load_newest
from rlopt.cli import main as cli
from rlopt.errors import UserError

OPTIONS = ["env=pendulum", "batch_size=80", "total_steps=160", "policy.hidden=[8]", "critic.hidden=[6]",
           "evaluation.episodes=1", "evaluation.max_steps=20"]  # fmt: skip
ALGOS = {"trpo": ["averaging.kind=ema"], "ppo": [], "acktr": ["recipe=null"], "shared": ["algo=ppo", "critic=shared"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, typed in ALGOS.items():
        algo = [] if name == "shared" else [f"algo={name}"]
        options = [option for option in OPTIONS if name != "shared" or not option.startswith("critic")]
        rlopt.train(*options, *algo, *typed, f"run_dir={folder / name}")
    return folder


@pytest.fixture
def filled(runs, tmp_path, monkeypatch):
    """A zoo with one policy, trpo-pendulum."""
    zoo.keep(runs / "trpo", tmp_path / "zoo/trpo-pendulum")
    monkeypatch.setattr(zoo, "zoo_dir", lambda: tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    return runs / "trpo"


@pytest.mark.parametrize("name", ALGOS)
def test_what_is_kept_acts_as_the_run_does(runs, tmp_path, name):
    path = zoo.keep(runs / name, tmp_path / "kept")
    seen = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(rlopt.load(tmp_path / "kept")(seen), rlopt.load(runs / name)(seen))
    run = next((runs / name / "checkpoints").iterdir())
    assert path.name == run.name and path.stat().st_size < 0.8 * run.stat().st_size
    assert (tmp_path / "kept/summary.json").read_text() == (runs / name / "summary.json").read_text()
    assert str(runs) not in (tmp_path / "kept/config.yaml").read_text() + path.read_bytes().decode("latin-1")


def test_keeping_what_was_kept_changes_nothing(runs, tmp_path):
    for target in ("a", "b", "b"):
        zoo.keep(runs / "trpo" if target == "a" else tmp_path / "a", tmp_path / target)
    a, b = (load_newest(tmp_path / name)[1] for name in "ab")
    assert a.keys() == b.keys() and a["kept"] == b["kept"] == ["actor", "critic"]
    assert a["agent"].keys() == b["agent"].keys()
    assert all(torch.equal(a["agent"][name]["theta"], b["agent"][name]["theta"]) for name in a["kept"])
    assert (tmp_path / "a/config.yaml").read_text() == (tmp_path / "b/config.yaml").read_text()


def test_the_critic_is_left_out_where_it_is_too_large(runs, tmp_path, monkeypatch):
    whole = zoo.keep(runs / "trpo", tmp_path / "whole").stat().st_size
    path = zoo.keep(runs / "trpo", tmp_path / "kept", largest=whole - 1)
    assert path.stat().st_size < whole
    assert "critic" not in load_newest(tmp_path / "kept")[1]["agent"]
    rlopt.load(tmp_path / "kept")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["eval", "kept", "--episodes", "1"]) == 0
    assert cli.main(["inspect", "kept", "--metric", "fisher"]) == 2
    done = rlopt.train(*OPTIONS, "algo=trpo", "init.from=kept", "run_dir=next")
    assert done.summary["steps"] == 160
    with pytest.raises(UserError, match="takes .* bytes, more than 100"):
        zoo.keep(runs / "trpo", tmp_path / "none", largest=100)
    assert not (tmp_path / "none").exists()


def test_a_run_that_is_not_finished_is_not_kept(runs, tmp_path):
    with pytest.raises(UserError, match="is not finished"):
        zoo.keep(runs, tmp_path / "kept")


def test_a_name_stands_for_a_folder_of_the_zoo(filled, tmp_path):
    assert zoo.names() == ["trpo-pendulum"]
    assert zoo.run_folder("zoo:trpo-pendulum") == tmp_path / "zoo/trpo-pendulum"
    assert str(zoo.run_folder("runs/mine")) == "runs/mine"
    for name, said in [("trpo-pendulun", "did you mean trpo-pendulum"), ("../zoo", "no policy"), ("", "no policy")]:
        with pytest.raises(UserError, match=said):
            zoo.run_folder(f"zoo:{name}")


def test_an_empty_zoo_says_where_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo, "zoo_dir", lambda: tmp_path)
    with pytest.raises(UserError, match=f"the zoo is empty, {tmp_path}"):
        zoo.run_folder("zoo:trpo-hopper")
    assert cli.main(["zoo"]) == 0 and str(tmp_path) in capsys.readouterr().out


def test_a_run_starts_from_a_policy_of_the_zoo(filled):
    begun = {}

    def begin(moment, config):
        begun["outputs"] = moment.policy().outputs(np.zeros(3))

    rlopt.train(*OPTIONS, "algo=trpo", "init.from=zoo:trpo-pendulum", "run_dir=next", on_begin=begin)
    assert np.array_equal(begun["outputs"], rlopt.load("zoo:trpo-pendulum").outputs(np.zeros(3)))
    assert np.array_equal(begun["outputs"], rlopt.load(filled).outputs(np.zeros(3)))


def test_commands_take_a_name_and_write_where_one_stands(filled, tmp_path, capsys):
    before = {path: path.read_bytes() for path in (tmp_path / "zoo").rglob("*") if path.is_file()}
    assert cli.main(["eval", "zoo:trpo-pendulum", "--episodes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert cli.main(["eval", str(filled), "--episodes", "2", "--json"]) == 0
    assert found["deterministic"] == json.loads(capsys.readouterr().out)["deterministic"]
    assert cli.main(["export", "zoo:trpo-pendulum", "--out", "policy.pt2"]) == 0
    assert cli.main(["card", "zoo:trpo-pendulum"]) == 0 and (tmp_path / "README.md").exists()
    assert cli.main(["inspect", "zoo:trpo-pendulum", "--metric", "fisher", "--solver", "cg"]) == 0
    assert (tmp_path / "inspect.json").exists()
    assert {path: path.read_bytes() for path in (tmp_path / "zoo").rglob("*") if path.is_file()} == before


def test_a_kept_policys_run_cannot_go_on(filled, tmp_path, capsys):
    assert cli.main(["resume", "zoo/trpo-pendulum", "total_steps=800"]) == 2
    assert "holds a policy alone" in capsys.readouterr().err


def test_a_kept_checkpoint_that_does_not_fit_is_refused(filled, tmp_path):
    step, tree = load_newest(tmp_path / "zoo/trpo-pendulum")
    actor = tree["agent"]["actor"]
    for agent in (None, {"actor": None}, {"actor": {}, "critic": 1}, {"actor": {**actor, "theta": torch.zeros(3)}}):
        path = tmp_path / f"zoo/trpo-pendulum/checkpoints/{zoo.file_name(step)}"
        zoo.write(path, step, {**tree, "agent": agent}, None)
        with pytest.raises(UserError, match="do not belong together"):
            rlopt.load("zoo:trpo-pendulum")


class TestTheZooThatComesWithRlopt:
    def test_it_lies_in_the_clone(self):
        assert (zoo.zoo_dir() / "README.md").exists()

    def test_every_policy_is_small_and_loads(self):
        sizes = {path: path.stat().st_size for path in zoo.zoo_dir().rglob("*") if path.is_file()}
        assert sum(sizes.values()) <= 6_000_000
        for name, summary in zoo.summaries().items():
            folder = zoo.zoo_dir() / name
            assert sum(size for path, size in sizes.items() if folder in path.parents) < zoo.LARGEST + 20_000
            assert f"# {summary['algo']} on {summary['env']}" in (folder / "README.md").read_text()
            policy = rlopt.load(f"zoo:{name}")
            assert policy.action_space.contains(policy(policy.observation_space.sample()))

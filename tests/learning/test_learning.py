import json
from pathlib import Path

import pytest

from rlopt.cli import main as cli
from tests.support.probes import registered

pytestmark = pytest.mark.learning
SOLVED = 475  # CartPole-v1


@pytest.mark.parametrize("seed", range(3))
def test_ppo_solves_cartpole_with_one_network_for_both(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    typed = ["algo=ppo", "critic=shared", "env=cartpole", f"seed={seed}", "total_steps=98304", "run_dir=run"]
    assert cli.main(["train", *typed]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["steps"] <= 100_000
    assert summary["evaluation_return"] >= SOLVED


@pytest.mark.parametrize("seed", range(5))
def test_trpo_solves_cartpole_within_100_000_steps(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "algo=trpo", "env=cartpole", f"seed={seed}", "total_steps=98304", "run_dir=run"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["steps"] <= 100_000
    assert summary["evaluation_return"] >= SOLVED


@pytest.mark.parametrize("collecting", ["workers=2", "env.backend=envpool"])
@pytest.mark.parametrize(("env", "steps", "solved"), [("cartpole", 98304, SOLVED), ("pendulum", 200_000, -200)])
def test_learning_does_not_depend_on_who_steps_the_environments(tmp_path, monkeypatch, env, steps, solved, collecting):
    if collecting.endswith("envpool"):
        pytest.importorskip("envpool")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "algo=trpo", f"env={env}", collecting, f"total_steps={steps}", "run_dir=run"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["evaluation_return"] >= solved


@pytest.mark.parametrize("algo", [["algo=ppo", "schedule.minibatch=128"], ["algo=trpo", "step.radius=0.05"]])
def test_a_dictionary_of_an_image_and_a_vector_is_solved(tmp_path, monkeypatch, algo):
    monkeypatch.chdir(tmp_path)
    sizes = ["channels=[4,8,8]", "features=32", "hidden=[32]", "vector=[16]"]
    networks = [f"{where}.{size}" for where in ("policy", "critic") for size in sizes]
    typed = ["env.id=probe/Seeing-v0", "policy=multi_input", "critic=multi_input", "gamma=0.5", *networks]
    with registered():
        assert cli.main(["train", *typed, *algo, "batch_size=1024", "total_steps=49152", "run_dir=run"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["evaluation_return"] >= 0.9  # of 1; 0.25 by chance

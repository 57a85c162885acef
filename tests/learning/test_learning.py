import json
from pathlib import Path

import pytest

import rlopt
from rlopt.cli import main as cli
from tests.support.masked import Offers
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


@pytest.mark.parametrize("seed", range(5))
def test_trpo_solves_cartpole_by_tensors(tmp_path, monkeypatch, seed):
    """In two seconds of processor time and a half, where this was measured."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "experiment=cartpole_tensors", f"seed={seed}", "run_dir=run"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["evaluation_return"] >= SOLVED


@pytest.mark.parametrize("solver", ["shampoo", "soap", "muon", "kron"])
def test_gradient_statistics_solve_cartpole_within_100_000_steps(tmp_path, monkeypatch, solver):
    monkeypatch.chdir(tmp_path)
    chosen = ["algo=trpo", "metric=gradient_statistics", f"solver={solver}", "env=cartpole", "total_steps=98304"]
    assert cli.main(["train", *chosen, "run_dir=run"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["evaluation_return"] >= SOLVED


@pytest.mark.parametrize("collecting", ["workers=2", "env.backend=envpool"])
@pytest.mark.parametrize(("env", "steps", "solved"), [("cartpole", 98304, SOLVED), ("pendulum", 200_000, -200)])
def test_learning_does_not_depend_on_who_steps_the_environments(tmp_path, monkeypatch, env, steps, solved, collecting):
    if collecting.endswith("envpool"):
        pytest.importorskip("envpool")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "algo=trpo", f"env={env}", collecting, f"total_steps={steps}", "run_dir=run"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["evaluation_return"] >= solved


@pytest.mark.usefixtures("probe_environments")
@pytest.mark.parametrize("algo", ["ppo", "trpo"])
class TestOfTwoHundredActionsFiveAreAllowed:
    """Each pays a worth of its own, and the best policy takes the best that is allowed: 16.7 in 20 steps."""

    STEPS = 49_152

    def test_masks_make_it_easy(self, tmp_path, algo):
        """Two seeds take 10^5 actions together; the environment raises where one is not allowed."""
        for seed in range(2):
            done = rlopt.train(
                "env.id=probe/Offers-v0", f"algo={algo}", f"seed={seed}", f"total_steps={self.STEPS}",
                f"run_dir={tmp_path}/{seed}",
            )  # fmt: skip
            assert done.summary["evaluation_return"] >= 0.97 * 20 * Offers().best

    def test_without_masks_it_is_not_learned(self, tmp_path, algo):
        """The networks see the mask as a part of the observation; an action that is not allowed pays -1."""
        done = rlopt.train(
            "env.id=probe/Offers-v0", "env.kwargs={convention: dict, lenient: true}", "env.mask=none", f"algo={algo}",
            f"total_steps={self.STEPS}", f"run_dir={tmp_path}/run",
        )  # fmt: skip
        assert done.summary["evaluation_return"] < 0 and Offers.illegal > self.STEPS / 2


SEEING = {  # algorithm -> what it is given
    "ppo": ["algo=ppo", "schedule.minibatch=128", "total_steps=49152", "policy.channels=[4,8,8]",
            "critic.channels=[4,8,8]"],
    "trpo": ["algo=trpo", "step.radius=0.05", "critic.schedule.epochs=4", "total_steps=20480",
             "policy.channels=[2,4,4]", "critic.channels=[2,4,4]"],
}  # fmt: skip


def sees(folder: Path, algo: str, *typed: str) -> float:
    """The mode's return, of 1, on the Dict of an image of 64 x 64, a vector and a category; 0.25 by chance."""
    sizes = [
        f"{where}.{size}" for where in ("policy", "critic") for size in ("features=32", "hidden=[32]", "vector=[16]")
    ]
    given = ["env.id=probe/Seeing-v0", "policy=multi_input", "critic=multi_input", "gamma=0.5", "batch_size=1024"]
    with registered():
        done = rlopt.train(*given, *sizes, *SEEING[algo], *typed, "evaluation.episodes=500", f"run_dir={folder}/run")
    return done.summary["evaluation_return"]


@pytest.mark.parametrize("algo", SEEING)
def test_a_dictionary_of_an_image_and_a_vector_is_solved(tmp_path, algo):
    assert sees(tmp_path, algo) >= 0.9


@pytest.mark.parametrize(("keys", "most"), [("speed+task", 0.4), ("camera+task", 0.65)])
def test_without_the_image_or_the_vector_it_is_not(tmp_path, keys, most):
    """The image alone tells two of four actions from the others."""
    assert sees(tmp_path, "trpo", f"env.wrappers=[filter:{keys}]") < most


NEW = {
    "kaczmarz": ["solver=kaczmarz"],
    "spring of kaczmarz": ["solver=spring", "solver.of=kaczmarz"],
    "spring of cg": ["solver=spring"],
    "nystrom": ["solver=nystrom"],
    "cg by nystrom": ["solver=cg", "solver.preconditioner=nystrom"],
    "gram by layer": ["solver=gram", "solver.by=layer", "batch_size=1024"],
    "midpoint": ["step=midpoint"],
}


@pytest.mark.parametrize("parts", NEW.values(), ids=NEW)
def test_sample_space_solvers_and_midpoints_solve_cartpole(tmp_path, monkeypatch, parts):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "algo=trpo", "env=cartpole", "total_steps=98304", "run_dir=run", *parts]) == 0
    assert json.loads(Path("run/summary.json").read_text())["evaluation_return"] >= SOLVED

"""rlopt inspect as a command: what decides its numbers, what it shows, writes and refuses."""

import json
import math
import re
import shutil
import sys

import pytest

from tests.support.inspecting import SAMPLES, SMALL, as_json, command, directions
from tests.support.probes import make_trainer


@pytest.fixture(autouse=True)
def no_progress(monkeypatch):
    """No line of progress, however slow the machine."""
    monkeypatch.setattr("rlopt.loggers.progress._PLAIN_SECONDS", math.inf)


def test_json_alone_is_printed_and_nothing_is_written(capsys, folders, tmp_path):
    before = sorted(folders["cartpole"].rglob("*"))
    data = as_json(capsys, folders["cartpole"], "--metric", "fisher,identity", "--solver", "cg,identity")
    assert sorted(folders["cartpole"].rglob("*")) == before
    assert list(directions(data)) == [("fisher", "cg"), ("identity", "cg"), ("identity", "identity")]
    assert (data["env"], data["algo"], data["step"], data["fresh"], data["seed"]) == (
        "CartPole-v1",
        "trpo",
        240,
        False,
        0,
    )
    assert (data["objective"], data["dtype"]) == ("surrogate", "float64")
    assert (data["damping"], data["radius"]) == (0.1, 0.01)  # the run's own, and the default


def test_the_seed_and_the_policy_decide(capsys, folders, tmp_path):
    only = ["--metric", "fisher", "--solver", "cg"]

    def gain(*more, folder=folders["cartpole"]) -> float:
        (d,) = as_json(capsys, folder, *only, *more)["directions"]
        return d["improvement"]

    untrained = tmp_path / "run"
    untrained.mkdir()
    (untrained / "config.yaml").write_text((folders["cartpole"] / "config.yaml").read_text())
    assert gain() == gain() == gain("--seed", 0)
    assert gain() != gain("--seed", 1)
    assert gain() != gain("--fresh") == gain("--fresh", folder=untrained)


def test_an_adapted_damping_is_taken_as_it_stands(capsys, tmp_path):
    folder = tmp_path / "run"
    run = make_trainer(*SMALL, "env=cartpole", "damping=levenberg_marquardt", f"run_dir={folder}")
    run.run()
    value = run.state["actor"]["parts"]["damping"]["lambda"]
    assert value != 0.1
    capsys.readouterr()
    assert as_json(capsys, folder, "--metric", "fisher", "--solver", "cg")["damping"] == value


def test_pairs_that_fail_are_shown_with_the_reason(capsys, folders):
    args = [
        folders["cartpole"],
        "--samples",
        SAMPLES,
        "--damping",
        0,
        "--metric",
        "fisher,hessian",
        "--solver",
        "gram,dense,cg",
    ]
    code, out, err = command(capsys, *args)
    assert (code, err) == (0, "")
    assert re.search(r"gram \(failed\)( +-){7}\n", out)
    assert "metric=fisher solver=gram: the Gram matrix needs damping above 0" in out
    assert "metric=hessian: " in out and "eigenvalues found are below 0" in out
    found = directions(json.loads((folders["cartpole"] / "inspect.json").read_text()))
    assert "needs damping above 0" in found["fisher", "gram"]["failure"]
    assert found["fisher", "cg"]["failure"] is None
    assert found["hessian", "cg"]["cosine_exact"] is None  # no positive definite matrix to hold it against


@pytest.mark.parametrize("typed", [None, 0.5])
def test_solvers_of_gradients_have_their_own_damping(capsys, folders, typed):
    """Lambda is in units of their own, and nothing is exact that they could be held against."""
    chosen = "--metric", "gradient_statistics,fisher", "--solver", "shampoo,cg"
    data = as_json(capsys, folders["cartpole"], *chosen, *(["--damping", typed] if typed else []))
    found = directions(data)
    shampoo, cg = found["gradient_statistics", "shampoo"], found["fisher", "cg"]
    assert shampoo["damping"] == (typed or 1e-8) and cg["damping"] == (typed or 0.1)
    assert shampoo["cosine_exact"] is None and shampoo["failure"] is None and cg["cosine_exact"] > 0.9
    assert not data["left_out"]


def test_slow_pairs_are_left_out_and_come_back(capsys, folders, monkeypatch):
    monkeypatch.setattr("rlopt.cli.inspect._QUICK", 1e-9)
    metric = "--samples", SAMPLES, "--metric", "fisher"
    code, out, _ = command(capsys, folders["cartpole"], *metric)
    assert code == 0
    assert re.search(r"\nleft out, too slow: solver=block with fisher \(.* s a solve\), solver=dense with .*; "
                     r"--pairs all brings them back\n", out)  # fmt: skip
    found = json.loads((folders["cartpole"] / "inspect.json").read_text())
    assert [pair["solver"] for pair in found["left_out"]] == ["block", "dense", "gram", "kaczmarz", "nystrom"]
    assert ("fisher", "cg") in directions(found) and ("fisher", "dense") not in directions(found)
    for back in (["--pairs", "all"], ["--solver", "dense"]):
        again = as_json(capsys, folders["cartpole"], "--metric", "fisher", *back)
        assert again["left_out"] == [] and directions(again)["fisher", "dense"]["failure"] is None


def test_exact_solutions_by_factorisation_are_the_same(capsys, folders):
    quick, exact = (as_json(capsys, folders["pendulum"], "--metric", "fisher", *more) for more in ([], ["--exact"]))
    assert quick["spectra"] == exact["spectra"]
    for pair, d in directions(exact).items():
        assert directions(quick)[pair]["cosine_exact"] == pytest.approx(d["cosine_exact"], abs=1e-6)


def test_a_step_out_of_the_domain_is_shown_as_such(capsys, folders):
    data = as_json(capsys, folders["pendulum"], "--radius", 1e4, "--metric", "identity", "--solver", "identity")
    (d,) = data["directions"]
    assert "leaves the policy's domain" in d["failure"]
    assert d["kl"] is None and d["improvement"] is None
    assert d["kl_predicted"] == pytest.approx(1e4)


def test_what_is_written_beside_a_run_follows_no_link(capsys, folders, tmp_path):
    run_dir, treasure, away = tmp_path / "run", tmp_path / "treasure", tmp_path / "away"
    shutil.copytree(folders["cartpole"], run_dir, ignore=lambda *_: {"inspect", "inspect.png", "inspect.json"})
    away.mkdir()
    treasure.write_text("mine")
    for name, target in (("inspect.png", treasure), ("inspect.json", treasure), ("inspect", away)):
        (run_dir / name).symlink_to(target)
    short = "--samples", SAMPLES, "--metric", "fisher", "--solver", "cg"
    code, _, err = command(capsys, run_dir, *short)
    assert code == 2 and err == f"rlopt: {run_dir / 'inspect'} is a link; remove it, or put a folder in its place\n"
    (run_dir / "inspect").unlink()
    assert command(capsys, run_dir, *short)[0] == 0
    assert treasure.read_text() == "mine" and list(away.iterdir()) == []
    assert (run_dir / "inspect.png").read_bytes().startswith(b"\x89PNG") and list((run_dir / "inspect").iterdir())


def test_a_missing_matplotlib_is_one_line_beside_the_table(capsys, folders, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = command(capsys, folders["cartpole"], "--samples", SAMPLES, "--metric", "fisher", "--solver", "cg",
                             "--out", tmp_path / "f.png")  # fmt: skip
    assert code == 0
    assert "pip install 'rlopt-geometry[plot]'" in err and len(err.splitlines()) == 1
    assert "fisher" in out and not (tmp_path / "f.png").exists()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["nowhere"], "nowhere is not the folder of a run"),
        (["{}", "--samples", "0"], "--samples must be 1 or above; got 0"),
        (["{}", "--samples", "99999999999999"], "the inspection does not fit into memory; lower --samples"),
        (["{}", "--radius", "nan"], "--radius must be a number above 0; got nan"),
        (["{}", "--damping", "-1"], "--damping must be 0 or above; got -1"),
        (["{}", "--damping", "nan"], "--damping must be 0 or above; got nan"),
        (["{}", "--seed", "-1"], "--seed must be 0 or above; got -1"),
        (["{}", "--metric", "fischer"], "did you mean fisher"),
        (
            ["{}", "--metric", "fisher", "--solver", "identity"],
            "none of the solvers identity works with any of the metrics fisher",
        ),
        (["{}", "--json", "--out", "f.png"], "--json writes no figure"),
        (["{}", "--jsn"], "--jsn"),
        (["{}", "--pairs", "most"], "choose from"),
        (["{}", "--metric", "fisher", "--solver", "cg", "--out", "/nowhere/f.png"], "/nowhere/f.png cannot be written"),
        (["{}", "--metric", "fisher", "--solver", "cg", "--out", "f.xyz"], "f.xyz cannot be written"),
    ],
)
def test_a_mistake_is_one_line(capsys, folders, arguments, wanted):
    code, _, err = command(capsys, *(a.format(folders["cartpole"]) for a in arguments))
    assert code == 2
    assert wanted in err and len(err.splitlines()) == 1 and err.startswith("rlopt: ")


def test_a_run_without_a_checkpoint_is_refused(capsys, folders, tmp_path):
    (tmp_path / "config.yaml").write_text((folders["cartpole"] / "config.yaml").read_text())
    code, _, err = command(capsys, tmp_path)
    assert code == 2
    assert "holds no checkpoint" in err

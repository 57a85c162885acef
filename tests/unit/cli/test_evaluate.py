"""rlopt eval: the evaluation of the summary again, and what is no run or no option."""

import json
from pathlib import Path

import pytest

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from tests.support.command_line import SHORT, chosen, created, one_line

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def trained(run):
    assert run("train", "run_dir=here", *chosen(*SHORT, "evaluation.episodes=7", "seed=5"))[0] == 0
    return json.loads(Path("here/summary.json").read_text())


def test_eval_reproduces_the_evaluation_of_the_summary(run, trained):
    before = {path: Path(path).read_bytes() for path in created() if Path(path).is_file()}
    code, out, err = run("eval", "here", "--episodes", "7", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["deterministic"]["mean"] == trained["evaluation_return"]
    assert report["deterministic"]["std"] == trained["evaluation_std"]
    assert report["sampled"]["mean"] == trained["sampled_evaluation_return"]
    assert report["sampled"]["std"] == trained["sampled_evaluation_std"]
    assert len(report["sampled"]["returns"]) == len(report["sampled"]["lengths"]) == 7
    assert (report["step"], report["episodes"], report["seed"], report["env"]) == (40, 7, 5, "CartPole-v1")
    assert before == {path: Path(path).read_bytes() for path in created() if Path(path).is_file()}


def test_eval_tells_both_policies_and_takes_another_seed(run, trained):
    code, out, err = run("eval", "here", "--episodes", "3", "--seed", "9")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2
    assert all(f"CartPole-v1, {name}: return " in out for name in ("deterministic", "sampled"))
    (_, a, _), (_, b, _) = (run("eval", "here", "--episodes", "5", "--json", "--seed", s) for s in ("9", "10"))
    assert json.loads(a)["sampled"] != json.loads(b)["sampled"]


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["nowhere"], "nowhere is not the folder of a run"),
        (["."], "is not the folder of a run"),
        ([], "run_dir"),
        (["here", "there"], "there"),
        (["here", "--episodes", "abc"], "--episodes"),
        (["here", "--episodes", "0"], "--episodes must be 1 or above, at most 1,000,000; got 0"),
        (["here", "--episodes", "99999999999999"], "--episodes must be 1 or above, at most 1,000,000"),
        (["here", "--seed", "-1"], "--seed"),
        (["here", "--jsn"], "--jsn"),
    ],
)
def test_eval_refuses_what_is_no_run_or_no_option(run, trained, arguments, wanted):
    before = created()
    code, out, err = run("eval", *arguments)
    assert (code, out) == (2, "")
    assert wanted in one_line(err)
    assert created() == before


@pytest.mark.parametrize(
    "spoil", ["no checkpoint", "cut checkpoint", "other network", "empty config", "config is no yaml"]
)
def test_eval_of_a_spoilt_run_is_one_line(run, trained, spoil):
    newest, config = checkpoint.list_checkpoints(Path("here/checkpoints"))[-1], Path("here/config.yaml")
    if spoil == "no checkpoint":
        newest.rename("gone")
    elif spoil == "cut checkpoint":
        newest.write_bytes(newest.read_bytes()[:-8])
    elif spoil == "other network":
        config.write_text(config.read_text().replace("- 4\n", "- 6\n"))
    else:
        config.write_text("" if spoil == "empty config" else "a: [1\nb: 2")
    code, out, err = run("eval", "here")
    assert (code, out) == (2, "")
    assert "here" in one_line(err)


def test_eval_help_is_shown(run, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["eval", "--help"])
    assert ended.value.code == 0
    assert "--episodes" in capsys.readouterr().out

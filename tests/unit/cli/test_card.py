"""rlopt card: metadata that hubs read, results, and nothing that a stranger's folder can make of them."""

import json
from pathlib import Path

import pytest
import yaml

from tests.support.command_line import SHORT, one_line

pytestmark = pytest.mark.usefixtures("elsewhere")


def metadata(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_a_card_has_the_runs_results(run):
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    code, out, _ = run("card", "here")
    assert code == 0 and "here/README.md" in out
    text, summary = Path("here/README.md").read_text(), json.loads(Path("here/summary.json").read_text())
    [model] = metadata(text)["model-index"]
    [result] = model["results"]
    mean, std = summary["evaluation_return"], summary["evaluation_std"]
    assert result["metrics"][0]["value"] == f"{mean:.2f} +/- {std:.2f}" and result["dataset"]["name"] == "CartPole-v1"
    assert metadata(text)["library_name"] == "rlopt" and "trpo" in metadata(text)["tags"]
    assert f"| most probable actions | {mean:.2f} | {std:.2f} |" in text and "algo: trpo" in text
    assert run("card", "here")[0] == 0  # its own card is written anew


def test_another_readme_is_left_alone(run):
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    Path("here/README.md").write_text("mine")
    code, _, err = run("card", "here")
    assert code == 2 and "is no card of rlopt's; give another place, --out F" in one_line(err)
    assert Path("here/README.md").read_text() == "mine"
    assert run("card", "here", "--out", "card.md")[0] == 0 and Path("card.md").exists()


def test_a_run_that_is_not_finished_has_no_card(run):
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    Path("here/summary.json").unlink()
    code, _, err = run("card", "here")
    assert code == 2 and "is not finished" in one_line(err)


def test_names_from_a_strangers_folder_are_words(run):
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    summary = json.loads(Path("here/summary.json").read_text())
    summary |= {"algo": "<script>x</script>", "env": "[a](http://b)\n---\n# c"}
    Path("here/summary.json").write_text(json.dumps(summary))
    assert run("card", "here")[0] == 0
    text = Path("here/README.md").read_text()
    assert "<script>" not in text and "](" not in text and len(metadata(text)["model-index"]) == 1

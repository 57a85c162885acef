"""experiments/*/README.md: every command can be typed as it stands, and every link leads somewhere."""

import argparse
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from rlopt.cli import main as cli
from tests.support.building import resolve, trainer

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PAGES = sorted(path for path in EXPERIMENTS.rglob("README.md") if path.parent.parent.name != "policies")  # cards


def commands(page: Path) -> list[str]:
    """Every indented line but formulas; without the remark behind it, with what is in brackets."""
    lines = re.findall(r"^    (\S.*)$", page.read_text(), re.MULTILINE)
    return [re.split(r"\s{2,}", line)[0].replace("[", "").replace("]", "") for line in lines if " = " not in line]


class Accepted(BaseException):
    """The options are known; nothing was run."""


@pytest.fixture
def accepts(monkeypatch):
    """A function that checks that a module of experiments/ takes the options: it is run until it has read them."""
    parse_args = argparse.ArgumentParser.parse_args

    def parsed(*given, **named):
        parse_args(*given, **named)
        raise Accepted

    def check(module: str, arguments: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(Accepted):
            importlib.import_module(f"experiments.{module}").main()

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which they would set for good
    return check


def test_every_result_is_small():
    files = [path for path in EXPERIMENTS.glob("*/results/*") if path.is_file()]
    assert len(files) > 40
    assert [path.name for path in files if path.stat().st_size > 200_000] == []


def test_every_experiment_has_a_page_and_every_page_a_command():
    assert {path.parent for path in EXPERIMENTS.glob("*/__main__.py")} < {page.parent for page in PAGES}
    assert [page.parent.name for page in PAGES if not commands(page)] == ["experiments"]
    assert sum(len(commands(page)) for page in PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_command_can_be_typed(page, accepts, capsys):
    for command in commands(page):
        program, *arguments = shlex.split(command)
        if program == "scripts/reproduce":
            accepts(f"{arguments[0]}.__main__", arguments[1:])
        elif program == "scripts/bench":
            name, rest = (arguments[1], arguments[2:]) if arguments[:1] == ["--only"] else ("__main__", arguments)
            accepts(f"speed.{name}", rest)
        elif arguments[:2] == ["train", "-m"]:
            single = [a.partition(",")[0] for a in arguments[2:] if not a.startswith("sweep_dir=")]
            assert cli.main(["train", "--cfg", *single]) == 0, command
        elif arguments[0] == "train":
            assert cli.main([*arguments, "--cfg"]) == 0, command
        elif program == "rlopt":
            with pytest.raises(Accepted):
                cli.main(arguments)
        else:
            assert program == "tensorboard" and importlib.util.find_spec(program), command


def test_a_command_that_cannot_be_typed_is_seen(accepts, capsys):
    with pytest.raises(SystemExit):
        accepts("lqr.__main__", ["--fast"])
    assert "unrecognized arguments: --fast" in capsys.readouterr().err
    assert cli.main(["train", "--cfg", "record.spectrum=4"]) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page):
    for path, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


METHODS = re.findall(r"^\|.*\| `rlopt train ([^`]*)` \|$", (EXPERIMENTS / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("typed", METHODS)
def test_each_methods_command_trains_a_policy(typed):
    """Few updates at a small size move theta; estimator=svrpg lets the policy stay for its first four."""
    small = ["total_steps=160"] if "enac" in typed else ["batch_size=80", "total_steps=160"]
    networks = [f"{name}.hidden=[8]" for name in ("policy", "critic") if f"{name}.hidden" not in typed]
    run = trainer(resolve([*typed.split(), *small, *networks]))
    try:
        before = run.state["actor"]["theta"].clone()
        for _ in range(5 if "algo=svrpg" in typed else 1):
            rollout = run.collector.collect(run.agent.policy(run.state))
            run.state, result = run.agent.learn(run.state, rollout, run.minibatches)
            assert result.failure is None
    finally:
        run.collector.close()
    assert not torch.equal(run.state["actor"]["theta"], before)


def test_the_table_of_methods_is_read():
    assert len(METHODS) > 30

"""Every code block of the README and the guide does what it says: run here in their order, but for less long."""

import importlib
import re
import shlex
import sys
import threading
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlopt
from rlopt import api
from rlopt.cli import main as cli
from rlopt.config.choices import groups
from rlopt.core import heads
from rlopt.guide import (
    asymmetric,
    choices,
    ecosystem,
    exploring,
    extending,
    options,
    python,
    running,
    serving,
    tutorial_own,
    tutorial_research,
    tutorial_train,
)
from tests.support.building import resolve
from tests.system.test_sweep import test_joblib_trains_in_processes_what_one_process_trains as with_joblib
from tests.unit.loggers.test_trackers import stand_in

pytestmark = pytest.mark.usefixtures("elsewhere")
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SHORT = {"total_steps": 80, "batch_size": 80, "evaluation": {"episodes": 2}, "critic": {"hidden": [4]}}
SMALL = [
    "batch_size=40",
    "env.num_envs=8",
    "evaluation.episodes=2",
    "policy.hidden=[4]",
    "critic.hidden=[4]",
    "record.tensorboard=true",
]
LESS = {  # of what is typed -> what takes less long
    r" total_steps=150000": " total_steps=160", r" total_steps=\d{5}": " total_steps=240",
    r" seed=0,1,2,3,4": " seed=0,1", r" algo=trpo,ppo seed=0,1,2": " algo=trpo,ppo seed=0", r" env=cartpole,acrobot": " env=cartpole",
    r" hydra/launcher=.*": "",
}  # fmt: skip
FURTHER = {
    "eval": ["--episodes", "2"],
    "inspect": ["--samples", "40", "--metric", "fisher", "--solver", "cg"],
    "train": [*SMALL],
}


@pytest.fixture
def briefly(monkeypatch):
    """rlopt.train, for less long."""
    train = api.train
    monkeypatch.setattr(api, "train", lambda *typed, **given: train(*typed, **{**given, **SHORT}))


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, text) of every block, in order; of indented ones the language is ""."""
    found = re.findall(r"^```(\w+)\n(.*?)^```|((?:^    [^\n]*\n|^\n(?=    ))+)", text, re.DOTALL | re.MULTILINE)
    return [(language, code or indented) for language, code, indented in found]


def lines(code: str) -> list[str]:
    """Commands, without the remarks behind them."""
    joined = code.replace("\\\n", " ")
    return [line.partition("  #")[0].strip() for line in joined.splitlines() if line.strip()]


def carry_out(line: str) -> None:
    typed = shlex.split(line)
    for pattern, less in LESS.items():
        line = re.sub(pattern, less, line)
    program, *arguments = shlex.split(line)
    for id in ("Walk-v0", "Drift-v0"):  # each command registers them anew, and would warn that they are there
        gym.registry.pop(id, None)
    if program == "scripts/train":
        assert 'rlopt" train "$@"' in (ROOT / program).read_text()
        program, arguments = "rlopt", ["train", *arguments]
    if "env.backend=warp" in arguments:  # tests/unit/envs/warp runs the guide's class in it, for minutes
        return
    if program == "rlopt":
        command = arguments[0]
        long = [] if any(a.startswith("total_steps=") for a in arguments) or command != "train" else ["total_steps=80"]
        given = {argument.partition("=")[0] for argument in arguments if "=" in argument}
        more = [option for option in [*FURTHER.get(command, []), *long] if option.partition("=")[0] not in given]
        more = [] if {"--help", "--cfg"} & set(arguments) else more
        assert cli.main([*arguments, *more]) == 0, line
    elif program == "tensorboard":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own
            assert importlib.util.find_spec("tensorboard.main")
            assert list(Path(arguments[1]).rglob("events.out.tfevents.*"))
    elif program == "torchrun":
        resolve([a for a in typed[typed.index("train") + 1 :]])  # tests/system/test_ranks.py runs them
    elif program == "scripts/bootstrap":
        assert arguments and set(arguments) <= set(EXTRAS), line
    else:
        assert program in (".", "scripts/test") and "$root/.venv" in (ROOT / "scripts/bootstrap").read_text(), line


def run(text: str, names: dict[str, Any]) -> int:
    """Carry out every block of a page; how many there were."""
    found = blocks(text)
    for language, code in found:
        if place := re.match(r"# ((?:\w+/)*\w+\.(?:py|yaml))\n", code):
            Path(place[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(place[1]).write_text(code[place.end() :])
        elif language == "python":
            exec(code, names)
        else:
            assert language in ("", "shell")
            for line in lines(code):
                assert line.startswith("theta") or carry_out(line) is None
    return len(found)


def test_every_block_of_the_readme(briefly, capsys):
    names: dict[str, Any] = {}
    assert run(README, names) == 7
    assert names["action"].shape == () and names["x"].shape == (names["M"].shape[0],)
    for made in ("runs/first/video.mp4", "runs/four/report.html", "curves.png"):
        assert Path(made).stat().st_size > 0


@pytest.mark.parametrize("page", [tutorial_train, tutorial_research, running, choices], ids=lambda page: page.__name__)
def test_every_block_of_a_page_of_commands(page, capsys):
    assert run(page.__doc__ or "", {}) >= 1


def test_every_block_of_the_page_on_python(briefly, capsys):
    names: dict[str, Any] = {}
    assert run(python.__doc__ or "", names) == 1
    assert names["action"].shape == () and names["draws"].shape == (5,) and Path("policy.pt2").stat().st_size > 0


def test_every_block_of_the_tutorial_on_ones_own(briefly, capsys, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    try:
        names: dict[str, Any] = {}
        assert run(tutorial_own.__doc__ or "", names) == 7
        assert names["policy"]([1.0, -5.0]).shape == (1,) and names["x"].shape == (names["M"].shape[0],)
    finally:
        sys.modules.pop("room", None)


def test_what_the_guide_says_of_launchers_is_tested():
    assert "hydra/launcher=joblib hydra.launcher.n_jobs=2" in (running.__doc__ or "")
    source = Path(with_joblib.__code__.co_filename).read_text()
    assert '"hydra/launcher=joblib", "hydra.launcher.n_jobs=2"' in source and "submitit_slurm" in source


def test_every_block_of_the_guide(capsys):
    assert run(extending.__doc__ or "", {}) == 18


def test_every_block_of_the_page_on_other_trainers(capsys, monkeypatch):
    kept = stand_in("wandb")
    try:
        assert run(ecosystem.__doc__ or "", {}) == 7
        assert kept.rows("end") and kept.scalars()["train/approx_kl"]
        for made in ("success.png", "policy.onnx", "runs/grid/README.md", "episodes.npz", "runs/harder/summary.json"):
            assert Path(made).stat().st_size > 0
    finally:
        del sys.modules["wandb"]


def test_every_block_of_the_page_on_what_the_critic_sees(capsys):
    names: dict[str, Any] = {}
    assert run(asymmetric.__doc__ or "", names) == 3
    assert list(names["policy"].observation_space) == ["position"] and Path("hold.pt2").stat().st_size > 0


def test_every_block_of_the_page_on_exploring(capsys):
    assert run(exploring.__doc__ or "", {}) == 1


def test_a_policy_is_served_as_the_page_on_it_does(capsys, monkeypatch):
    """On a port of this machine, asked as a client asks: one observation, several, and what is none."""
    uvicorn, httpx = (pytest.importorskip(name, reason="serving a policy needs it") for name in ("uvicorn", "httpx"))
    pytest.importorskip("fastapi", reason="serving a policy needs it")
    page = serving.__doc__ or ""
    for language, code in blocks(page):
        if language == "shell":
            carry_out(code.strip())
        elif language == "python":
            Path("serve.py").write_text(code.partition("\n")[2])
    assert len(Path("serve.py").read_text().splitlines()) <= 25
    monkeypatch.syspath_prepend(".")
    server = uvicorn.Server(uvicorn.Config("serve:app", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        policy, serve = rlopt.load("runs/served"), sys.modules["serve"]
        for seen in ([1.0, 0.0, 0.5], [[1.0, 0.0, 0.5], [0.0, 1.0, -2.0]]):
            answer = httpx.post(f"http://127.0.0.1:{port}/act", json={"observation": seen}, trust_env=False)
            assert answer.json() == {"action": policy(np.array(seen, np.float32)).tolist()}
        for wrong, said in (([1.0], "an observation has shape (3,)"), ([None, 0, 0], "NaN"), ([{}], "float()")):
            refused = httpx.post(f"http://127.0.0.1:{port}/act", json={"observation": wrong}, trust_env=False)
            assert refused.status_code == 422 and said in refused.json()["detail"]
        rlopt.train("batch_size=80", "total_steps=80", "evaluation.episodes=0", run_dir="runs/discrete")
        serve.policy = rlopt.load("runs/discrete")
        answer = httpx.post(f"http://127.0.0.1:{port}/act", json={"observation": [0, 0, 0, 0]}, trust_env=False)
        assert answer.json()["action"] in (0, 1)
    finally:
        server.should_exit = True
        thread.join(30)
        sys.modules.pop("serve", None)
    assert not thread.is_alive()


def test_the_first_lines_of_the_library_run(briefly, capsys):
    names = {"rlopt": rlopt, "observation": np.zeros(4), "module": torch.nn.Linear(4, 3), "heads": heads}
    names |= {"inputs": torch.ones(5, 4), "g": torch.ones(15)}
    block = re.sub("^    ", "", blocks(api.__doc__ or "")[0][1], flags=re.MULTILINE)
    assert run(f"```python\n{block}\n```\n", names) == 1
    assert names["s"].x.shape == (15,)


def test_every_option_has_its_row():
    page = options.__doc__ or ""
    for row in ("| `step.radius` | `0.01` |", "| `seed` | `0` |", "| `policy.hidden` | `[64, 64]` |", "| `env.id` | `CartPole-v1` |",
                "| `updates` | `null` | total_steps / batch_size, rounded up;", "| `scheduler.total_iters` | by updates |", "| `dtype` | `float64` |", "| `optimizer.betas` | `[0.9, 0.999]` |"):  # fmt: skip
        assert row in page, row
    choices = {f"`{group}={name}`:" for group, names in groups().items() for name in names}
    assert all(choice in page for choice in choices)
    assert "`_target_`" not in page and "._target_" not in page and "`experiment." not in page

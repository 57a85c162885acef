"""Runs on games of several agents, from the command line and from Python; what is killed and resumed ends the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlopt
from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.guide import agents
from tests.support.command_line import one_line
from tests.support.games import Fading, Higher, Offered, name_of
from tests.support.launching import environment
from tests.support.resuming import SMALL, cut
from tests.support.traces import differences, rows, same, tree_of
from tests.system.test_readme import blocks, carry_out

pytestmark = pytest.mark.usefixtures("elsewhere")
SIZES = ("env.num_envs=4", "batch_size=120", "total_steps=600", "critic.hidden=[8]")
RUNS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "ppo": (Fading, ("algo=ppo", *SIZES)),
    "trpo, late, numbered, two workers": (
        Fading, ("algo=trpo", "env.kwargs={late: 2}", "env.agent_index=true", "workers=2", *SIZES)),
    "masks": (Offered, ("algo=acktr", *SIZES)),
    "masks in infos": (Offered, ("algo=ppo", "env.kwargs={in_info: true}", *SIZES)),
    "self-play": (Higher, ("algo=ppo", "self_play.every=2", *SIZES)),
    "memory": (Fading, ("algo=ppo", "policy=gru", "critic=gru", "policy.size=4", "critic.size=4", "env.num_envs=4",
                        "batch_size=120", "total_steps=600", "schedule.minibatch=60", "critic.schedule.minibatch=60")),
}  # fmt: skip
DYING = """
import os, signal, sys
import rlopt
from tests.support.games import Higher
from tests.system.test_agents import RUNS, SMALL

def die(moment, scalars):
    if moment.updates == 3:
        os.kill(os.getpid(), signal.SIGKILL)

rlopt.train(*SMALL, *RUNS["self-play"][1], env=Higher, run_dir=sys.argv[1], on_update=die)
"""


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_run_that_was_never_stopped(name, capsys):
    game, typed = RUNS[name]
    rlopt.train(*SMALL, *typed, env=game, run_dir="whole")
    assert len(checkpoint.list_checkpoints(Path("whole/checkpoints"))) == 5
    cut(Path("whole"), Path("part"), 2)
    rlopt.resume("part", env=game)
    assert "begin new ones" not in capsys.readouterr().err
    assert differences(Path("part"), Path("whole")) == []


def test_a_run_of_self_play_that_is_killed_ends_the_same():
    """By SIGKILL, after the frozen copy was replaced and before it is again."""
    rlopt.train(*SMALL, *RUNS["self-play"][1], env=Higher, run_dir="whole")
    Path("dying.py").write_text(DYING)
    done = subprocess.run([sys.executable, "dying.py", "part"], env=environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    rlopt.resume("part", env=Higher)
    assert differences(Path("part"), Path("whole")) == []


def test_workers_do_not_change_the_data():
    for workers in (1, 3):
        rlopt.train(*SMALL, *RUNS["ppo"][1], f"workers={workers}", env=Fading, run_dir=f"by{workers}")
    a, b = (tree_of(Path(f"by{workers}")) for workers in (1, 3))
    assert same(a["agent"], b["agent"]) and same(a["environments"], b["environments"])


def test_the_command_line_trains_evaluates_and_resumes(capsys):
    name, small = name_of(Fading), [*SMALL, "policy.hidden=[4]"]
    assert cli.main(["train", f"env.id={name}", "run_dir=run", "algo=trpo", *small[1:], *SIZES]) == 0
    assert "3 agents; 4 copies x 3 that learn = 12 rows" in capsys.readouterr().err
    recorded = rows(Path("run"))
    assert {"agents/fader_0/return", "agents/fader_2/return", "episode/return"} <= set(recorded[-1])
    assert cli.main(["eval", "run", "--import", name.partition(":")[0], "--episodes", "3"]) == 0
    assert "over 3 episodes" in capsys.readouterr().out
    assert cli.main(["eval", "run", "--import", name.partition(":")[0], "--save-episodes", "x.npz"]) == 2
    assert "--save-episodes is for one agent" in one_line(capsys.readouterr().err)
    assert cli.main(["resume", "run", "--import", name.partition(":")[0], "total_steps=720"]) == 0


def test_a_policy_is_loaded_without_its_game():
    rlopt.train(*SMALL, *RUNS["masks"][1], env=Offered, run_dir="masks")
    policy = rlopt.load("masks")
    for allowed in range(6):
        mask = np.eye(6, dtype=np.int8)[allowed]
        assert policy({"observation": np.ones(6), "action_mask": mask}, action_mask=mask) == allowed
    rlopt.train(*SMALL, *RUNS["self-play"][1], "env.agent_index=true", env=Higher, run_dir="duel")
    assert rlopt.load("duel")((np.zeros(2), 1)) in range(5)


REFUSED = {
    "one agent": (["env=cartpole", "self_play.every=2"], "self_play.every=2 is for games of several agents; CartPole-v1"),
    "its number": (["env=cartpole", "env.agent_index=true"], "env.agent_index=True is for games of several agents"),
    "unequal agents": (["env=pettingzoo", "env.id=mpe2.simple_push_v3"], "env.id=mpe2.simple_push_v3: its agents share one"),
    "unknown game": (["env=pettingzoo", "env.id=mpe2.simple_spred_v3"], "did you mean mpe2.simple_spread_v3"),
    "unknown option": (["env=pettingzoo", "env.id=mpe2.simple_spread_v3", "env.kwargs.n=3"], "env.kwargs={'n': 3} do not suit"),
    "turns": (["env=pettingzoo", "env.id=pettingzoo.classic.tictactoe_v3"], "its agents act in turns"),
    "batch": (["env=pettingzoo", "env.id=mpe2.simple_spread_v3", "batch_size=2048"], "= 24 rows; got 2048; try batch_size=2064"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_told_in_one_line(name, capsys):
    typed, message = REFUSED[name]
    if "pettingzoo" in typed[0]:
        pytest.importorskip("mpe2")
    assert cli.main(["train", *typed]) == 2
    assert message in one_line(capsys.readouterr().err)
    assert os.listdir() == []


def test_every_block_of_the_guide(monkeypatch, capsys):
    """The games of PettingZoo for less long, the page's own game in Python and as a file."""
    pytest.importorskip("mpe2")
    found = blocks(agents.__doc__ or "")
    assert [language for language, _ in found] == ["shell", "python", "shell"]
    program = found[1][1]
    Path("duel.py").write_text(program.partition("\n\ntrained")[0].replace("class Meet", "class Duel"))
    for line in [*found[0][1].splitlines(), found[2][1].strip()]:
        sizes = ["env.num_envs=2", "batch_size=12", "evaluation.episodes=1"]
        monkeypatch.setattr("tests.system.test_readme.FURTHER", {"train": sizes})
        carry_out(f"{line} total_steps=24")
    train = rlopt.train
    shorter = {"total_steps": 160, "batch_size": 80, "evaluation": {"episodes": 2}}
    monkeypatch.setattr(rlopt.api, "train", lambda *typed, **given: train(*typed, **{**given, **shorter}))
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["action"] in range(3)

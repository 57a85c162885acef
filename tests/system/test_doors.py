"""The ways to name an environment of one's own, each by the command or the line that people type first."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces

import rlopt
from rlopt.errors import UserError
from tests.support.command_line import one_line

pytestmark = pytest.mark.usefixtures("elsewhere")
SMALL = ["total_steps=40", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2", "env.num_envs=2"]  # fmt: skip
OPTIONS: dict[str, Any] = {
    "total_steps": 40, "batch_size": 40, "policy": {"hidden": [4]}, "critic": {"hidden": [4]},
    "evaluation": {"episodes": 2}, "env.num_envs": 2,
}  # fmt: skip
CODE = '''
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from subprocess import run as run


class Grid(gym.Env):
    """A walk over ``size`` fields; the right end pays 1."""

    observation_space = spaces.Box(0, 1, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, size=4):
        self.size = size

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.t = 0
        return self._seen(), {}

    def step(self, action):
        self.t, self.x = self.t + 1, max(0, self.x + (1 if action else -1))
        over = self.x >= self.size
        return self._seen(), float(over), over, self.t >= 9, {"place": self.x}

    def _seen(self):
        return np.array([self.x / self.size, self.t / 9]).clip(0, 1)


def make(size=3):
    return Grid(size)


def nothing():
    return 3


number = 3
if "Grid-v0" not in gym.registry:
    gym.register("Grid-v0", Grid)
'''
exec(CODE, names := {"__name__": __name__})
Grid: Any = names["Grid"]
Grid.__module__ = __name__


@pytest.fixture(autouse=True)
def mine(elsewhere):
    """The code as mine.py and in my_parts/env, and afterwards not imported."""
    Path("mine.py").write_text(CODE)
    Path("my_parts/env").mkdir(parents=True)
    Path("my_parts/env/grid.py").write_text(CODE)
    yield
    sys.modules.pop("mine", None)
    gym.registry.pop("Grid-v0", None)


TYPED = {
    "a choice": ["env=cartpole"],
    "a registered id": ["env.id=CartPole-v1"],
    "a module and its id": ["env.id=mine:Grid-v0"],
    "--import of a module": ["--import", "mine", "env.id=Grid-v0"],
    "--import of a file": ["--import", "./mine.py", "env.id=Grid-v0"],
    "--extensions with a .py alone": ["--extensions", "my_parts", "env.id=Grid-v0"],
    "a file and its id": ["env.id=./mine.py:Grid-v0"],
    "a module and a class": ["env.id=mine:Grid"],
    "a file and a class": ["env.id=./mine.py:Grid"],
    "a file and a function": ["env.id=mine.py:make", "env.kwargs.size=5"],
}


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)
def test_every_way_to_type_an_environment(run, typed):
    """And what the run prints evaluates it, as it is printed."""
    code, out, err = run("train", *typed, *SMALL, "run_dir=here")
    assert code == 0, err
    command = next(line for line in out.splitlines() if "evaluate:" in line).split("eval ", 1)[1].split()
    assert run("eval", *command, "--episodes=1")[0] == 0


def test_a_class_a_function_and_an_environment_from_python():
    for env in (Grid, lambda: gym.wrappers.TimeLimit(Grid(5), 7), Grid(size=2), names["make"]):
        trained = rlopt.train(env=env, **OPTIONS)
        assert trained.summary["steps"] == 40
    assert rlopt.train("env.id=mine.py:Grid", **OPTIONS).summary["env"] == "mine.py:Grid"


@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
def test_environments_side_by_side_from_python(mode):
    envs = gym.make_vec("CartPole-v1", 4, mode, sutton_barto_reward=True)
    others = {k: v for k, v in OPTIONS.items() if k != "env.num_envs"}
    rlopt.train(env=envs, run_dir="here", **others)
    envs.close()
    rlopt.train("env.num_envs=2", env=gym.make_vec("CartPole-v1", 4), run_dir="there", **others)
    here, there = (yaml.safe_load(Path(name, "config.yaml").read_text())["env"] for name in ("here", "there"))
    assert (here["id"], here["num_envs"], here["kwargs"]) == ("CartPole-v1", 4, {"sutton_barto_reward": True})
    assert (there["num_envs"], there["kwargs"]) == (2, {})


def test_what_python_names_the_command_line_finds(run):
    sys.path.insert(0, str(Path.cwd()))
    try:
        import mine  # type: ignore[import-not-found]

        rlopt.train(env=mine.Grid, run_dir="here", **OPTIONS)
    finally:
        sys.path.remove(str(Path.cwd()))
        del sys.modules["mine"]
    code, _, err = run("eval", "here", "--episodes=1")
    assert code == 2 and "add --import mine" in err.splitlines()[-1]
    code, out, _ = run("eval", "here", "--episodes=1", "--json", "--import", "mine")
    assert code == 0 and json.loads(out)["env"] == "mine:Grid"


def test_a_policy_is_loaded_where_its_environment_is_not(run):
    assert run("train", "env.id=./mine.py:Grid", *SMALL, "run_dir=here", "env.wrappers=[frame_stack:3]")[0] == 0
    sys.modules.pop("mine", None)
    Path("mine.py").unlink()
    policy = rlopt.load("here")
    assert policy.observation_space.shape == (3, 2) and policy(np.zeros((3, 2))) in (0, 1)
    assert run("export", "here", "--out", "here.pt2")[0] == 0 and Path("here.pt2").stat().st_size > 0
    code, _, err = run("eval", "here", "--import", "./mine.py")
    assert code == 2 and "mine.py: there is no such file" in one_line(err)


def test_a_notebooks_environment_is_told_from_an_unknown_one(run):
    rlopt.train(env=Grid(size=2), run_dir="here", **OPTIONS)
    assert rlopt.load("here")(np.zeros(2)) in (0, 1)
    code, _, err = run("eval", "here")
    assert code == 2 and "was given to rlopt.train as Grid" in err.splitlines()[-1]


REFUSED = {
    "env.id=mine.py:Grit": "there is no such",
    "env.id=mine.py:run": "neither a gymnasium.Env nor a function of its own",
    "env.id=mine.py:number": "neither a gymnasium.Env nor a function of its own",
    "env.id=mine.py:nothing": "it makes a builtins.int, and a gymnasium.Env is wanted",
    "env.id=none.py:Grid": "none.py: there is no such file",
    "env.id=none:Grid": "none cannot be imported: ModuleNotFoundError",
    "env.id=mine.py:make env.kwargs.sizes=3": "do not suit env.id=mine.py:make",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_is_no_environment_is_refused_in_one_line(run, typed):
    code, _, err = run("train", *typed.split(), *SMALL)
    wanted = "mean Grid?" if "Grit" in typed else REFUSED[typed]
    assert code == 2 and wanted in one_line(err)


def test_a_strangers_configuration_names_no_callable(run):
    """os.system is imported, and a config.yaml that names it is refused all the same."""
    assert run("train", "env.id=./mine.py:Grid", *SMALL, "run_dir=here")[0] == 0
    config = Path("here/config.yaml")
    for name in ("os:system", "mine.py:run", "subprocess:run"):
        text = config.read_text()
        config.write_text(text.replace("id: ./mine.py:Grid", f"id: {name}"))
        for flags in ([], ["--import", "mine.py"]):
            code, _, err = run("eval", "here", *flags)
            assert code == 2 and "Traceback" not in err
        config.write_text(text)


class Open(gym.Env):
    """Holds what cannot be copied."""

    observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.Discrete(2)

    def __init__(self):
        self.file = open("mine.py")


@pytest.mark.parametrize("env, wanted", [
    (lambda: Open(), "cannot be copied, and a run needs several"),
    (lambda: gym.vector.SyncVectorEnv([Grid, Grid]), "not those of a registered id alone; give what makes one"),
    (lambda: gym.make_vec("CartPole-v1", 2, "sync", wrappers=[gym.wrappers.FlattenObservation]), "not those of a registered"),
    (lambda: gym.make_vec("CartPole-v1", 2, "sync", max_episode_steps=9), "not those of a registered id alone"),
    (lambda: 3, "env must be a name, a class, a function"),
])  # fmt: skip
def test_what_cannot_be_given_from_python_is_told(env, wanted):
    made = env()
    with pytest.raises(UserError, match=wanted):
        rlopt.train(env=made, **OPTIONS)
    for close in (getattr(made, "file", None), made):
        getattr(close, "close", lambda: None)()


def test_a_class_of_environments_side_by_side_is_told():
    with pytest.raises(UserError, match="env must make one environment, not several side by side; give what makes one"):
        rlopt.train(env=gym.vector.SyncVectorEnv, **OPTIONS)


def test_a_notebook_shows_names_and_one_line_errors():
    assert {"train", "resume", "load", "export", "curvature", "solve"} <= set(dir(rlopt))
    assert not {"Any", "TYPE_CHECKING", "import_module"} & set(dir(rlopt))
    with pytest.raises(UserError) as caught:
        rlopt.train("stpe=fixed")
    lines = caught.value._render_traceback_()
    assert len(lines) == 1 and lines[0].startswith("UserError: there is no option stpe")

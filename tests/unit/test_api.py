"""The trainer from Python: train, callbacks, load, and what is exported."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from safetensors.torch import load_file

import rlopt
from rlopt.cli import main as cli
from rlopt.config.overrides import take_env_kwargs, to_overrides
from rlopt.errors import UserError
from rlopt.rollout.seeding import Purpose, integer, sequence
from tests.support.traces import differences

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")
SMALL: dict[str, Any] = {
    "batch_size": 80, "total_steps": 240, "policy": {"hidden": [8]}, "critic": {"hidden": [8]},
    "evaluation": {"episodes": 3},
}  # fmt: skip


# --- training


def test_import_is_light():
    code = "import rlopt, sys; assert not {'torch', 'numpy', 'hydra', 'gymnasium'} & set(sys.modules); rlopt.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "AttributeError: module 'rlopt' has no attribute 'nothing'"


def test_a_run_is_that_of_the_command_line():
    trained = rlopt.train("algo=ppo", seed=3, run_dir="a", **SMALL)
    assert trained.run_dir == Path("a").absolute()
    typed = ["algo=ppo", "seed=3", "run_dir=b", "batch_size=80", "total_steps=240", "policy.hidden=[8]",
             "critic.hidden=[8]", "evaluation.episodes=3"]  # fmt: skip
    assert cli.main(["train", *typed]) == 0
    a, b = (load_file(next(Path(run).glob("checkpoints/*240.safetensors"))) for run in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


VALUES: list[Any] = [
    1, -2, 0.5, 1e-7, float("inf"), True, False, None, "adam", "a/b-c.d", "two words", "it's", "", "true", "1e-3", "a,b",
    "back\\slash", "end\\", "[x]", "a=b", "ü", [64, 64], [], (1, 2.5), ["a", "b c"], Path("x y"), np.float64(0.25), {},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_reach_hydra_as_they_are(value):
    (text,) = to_overrides({"key": value})
    got = OverridesParser.create().parse_override(text).value()
    plain = [getattr(v, "text", v) for v in got] if isinstance(got, list) else getattr(got, "text", got)
    wanted = {type(Path()): str, tuple: list, np.float64: float}.get(type(value), lambda same: same)(value)
    assert plain == wanted and type(plain) is type(wanted)


def test_options_within_options_are_spelled_with_dots():
    options = {"seed": 1, "critic": {"step": {"radius": 0.1}, "hidden": [4]}, "step": "kl_clip"}
    assert to_overrides(options) == ["seed=1", "critic.step.radius=0.1", "critic.hidden=[4]", "step=kl_clip"]


def test_dictionaries_within_lists_are_spelled_whole():
    (text,) = to_overrides({"key": [{"a": 1, "b_c": [2, {"d": None}]}]})
    assert OverridesParser.create().parse_override(text).value() == [{"a": 1, "b_c": [2, {"d": None}]}]
    with pytest.raises(UserError, match="keys of an option within a list must be names"):
        to_overrides({"key": [{"b c": 1}]})


KWARGS: dict[str, Any] = {
    "layout": [{"x": 1, "y": [2.5, {"z": None}]}], "levels": {1: "one", -2: {"a.b": True}}, "text": "${seed}", "no": "null",
    "big": 2**63 - 1, "inf": float("inf"), "empty": {}, "none": [], "a.b": "c=d,{e}", "missing": "???", "n": np.int64(3),
}  # fmt: skip


class Told(gym.Env):
    """Remembers the options that it was made with."""

    given: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **given: Any):
        self.given.append(given)
        self.observation_space = self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return 0, {}

    def step(self, action: Any) -> Any:
        return 0, 0.0, True, False, {}


@pytest.fixture
def told(monkeypatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(Told, "given", [])
    monkeypatch.setitem(gym.registry, "Told-v0", gym.envs.registration.EnvSpec("Told-v0", entry_point=Told))
    return Told.given


def test_options_of_the_environment_arrive_as_they_are(told):
    """In the run, and in the run that is resumed from its folder."""
    rlopt.train(env={"id": "Told-v0", "kwargs": KWARGS}, run_dir="a", **{**SMALL, "evaluation": {"episodes": 0}})
    assert told and all(given == KWARGS and type(given["n"]) is int for given in told)
    del told[:]
    assert cli.main(["resume", "a", "total_steps=320"]) == 0
    assert told and all(given == KWARGS for given in told)


@pytest.mark.parametrize("typed", [["env.kwargs={n: 1, m: {k: [2]}}"], ["env.kwargs.n=1", "env.kwargs.m={k: [2]}"]])
def test_options_of_the_environment_may_be_typed_as_one(told, typed):
    small = ["batch_size=8", "total_steps=8", "evaluation.episodes=0", "policy.hidden=[2]", "critic.hidden=[2]"]
    assert cli.main(["train", "env.id=Told-v0", *typed, *small]) == 0
    assert told and all(given == {"n": 1, "m": {"k": [2]}} for given in told)


@pytest.mark.parametrize("options", [{"env.kwargs": {"n": [1]}}, {"env.kwargs.n": [1]}, {"env": {"kwargs.n": [1]}}])
def test_every_spelling_of_the_environments_options_is_read(options):
    assert take_env_kwargs({"seed": 1, **options}) == ({"n": [1]}, {"seed": 1})
    assert take_env_kwargs({"env": "cartpole"}) == ({}, {"env": "cartpole"})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros(3), "env.kwargs.key is ndarray, which a configuration cannot hold"), (torch.zeros(1), "is Tensor"),
        ((1, 2), "is tuple"), ({1, 2}, "is set"), (Path("x"), "is PosixPath"), (b"x", "is bytes"), (len, "is builtin_f"),
        (float("nan"), "is nan"), (2**63, r"is a whole number beyond 2\^63"), ("a${b", "is the text"), ([1, {"x": np.ones(2)}], r"env.kwargs.key\[1\].x is ndarray"),
        ({(1, 2): 3}, r"env.kwargs.key has the key \(1, 2\)"), ({None: 3}, "has the key None"), ({True: 3}, "the key True"),
    ],
)  # fmt: skip
def test_options_that_no_checkpoint_can_hold_are_refused(told, value, says):
    with pytest.raises(UserError, match=says):
        rlopt.train(env={"id": "Told-v0", "kwargs": {"key": value}}, **SMALL)
    assert not told and list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("depth", [20, 21, 120, 5000])
def test_lists_may_be_nested_twenty_deep(told, depth):
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    given = {"env": {"id": "Told-v0", "kwargs": {"key": value}}}
    small: dict[str, Any] = {**SMALL, "evaluation": {"episodes": 0}}
    if depth == 20:
        rlopt.train(run_dir="a", **given, **small)
        assert cli.main(["train", "env.id=Told-v0", f"env.kwargs.key={'[' * depth}{']' * depth}", "total_steps=8",
                         "batch_size=8", "evaluation.episodes=0"]) == 0  # fmt: skip
        return
    with pytest.raises(UserError, match="nested 20 deep, and no deeper"):
        rlopt.train(**given, **small)
    with pytest.raises(UserError, match="^env.kwargs.key: it is nested more than 20 deep"):
        rlopt.train(f"env.kwargs.key={'[' * depth}{']' * depth}", env="cartpole")


def test_no_id_is_told_by_its_name():
    with pytest.raises(UserError, match="^env.id=null: name an environment"):
        rlopt.train("env.id=null")


def test_arrays_are_refused_as_options():
    with pytest.raises(UserError, match="an option must be a number, text, or a list or dict of them; got array"):
        rlopt.train(policy={"hidden": np.array([8, 8])})


def test_mistakes_are_user_errors_and_write_nothing():
    with pytest.raises(UserError, match="did you mean trpo"):
        rlopt.train(algo="tpro")
    with pytest.raises(UserError, match="policy.squash has no effect"):
        rlopt.train(policy={"squash": True})
    with pytest.raises(UserError, match="nowhere is not the folder of a run"):
        rlopt.load("nowhere")
    with pytest.raises(UserError, match="on_update must be a function; got 3"):
        rlopt.train(on_update=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"nowhere: there is no such folder"):
        rlopt.train(extensions="nowhere")  # one folder, and no letters
    assert list(Path.cwd().iterdir()) == []


# --- acting


@pytest.mark.parametrize("env", ["env=cartpole", "env=pendulum"])
def test_a_loaded_policy_plays_the_episodes_of_the_summary(env):
    trained = rlopt.train(env, run_dir="here", seed=2, **SMALL)
    policy = rlopt.load("here")
    mode, sampled = [], []
    for episode in range(3):
        generator = np.random.default_rng(sequence(2, Purpose.EVALUATION_ACTION, episode))
        for returns, act in ((mode, policy), (sampled, lambda o, g=generator: policy.sample(o, g))):
            game = gym.make(trained.summary["env"])
            observation, _ = game.reset(seed=integer(2, Purpose.EVALUATION_ENVIRONMENT, episode))
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = game.step(act(observation))
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
    assert np.mean(mode) == trained.summary["evaluation_return"]
    assert np.mean(sampled) == trained.summary["sampled_evaluation_return"]


def test_a_policy_saved_by_itself_acts_as_before():
    trained = rlopt.train("policy=gru", run_dir="here", **{**SMALL, "policy": {"size": 8}})
    policy = rlopt.load("here")
    assert isinstance(policy, rlopt.Policy)
    again = rlopt.load(policy.save("alone"))
    for _ in range(3):  # it remembers
        observation = np.random.default_rng(0).normal(size=4).astype(np.float32)
        assert (policy.outputs(observation) == again.outputs(observation)).all()
    policy.reset(), again.reset()
    assert policy.act(observation) == again(observation)
    with pytest.raises(UserError, match="alone is there; a policy is saved in a folder of its own"):
        policy.save("alone")
    with pytest.raises(UserError, match="alone holds a policy alone, whose run cannot go on"):
        rlopt.resume("alone", f"total_steps={2 * trained.summary['steps']}")


def test_callbacks_are_given_policies_that_are_not_saved():
    with pytest.raises(UserError, match=r"in a callback use moment.save\(\)"):
        rlopt.train(on_update=lambda moment, scalars: moment.policy().save("alone"), run_dir="here", **SMALL)


# --- export


def test_two_threads_train_at_once(tmp_path):
    """Each gets the run that it would have had alone."""
    typed = {**SMALL, "algo": "ppo"}
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(rlopt.train, seed=seed, run_dir=tmp_path / str(seed), **typed) for seed in (1, 2)]
        found = [call.result() for call in calls]
    for seed, run in zip((1, 2), found, strict=True):
        alone = rlopt.train(seed=seed, run_dir=tmp_path / f"alone{seed}", **typed)
        assert differences(run.run_dir, alone.run_dir) == []


# --- in a notebook


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    options: dict[str, Any] = {**SMALL, "evaluation": {"episodes": 0}}
    return rlopt.train(run_dir=tmp_path_factory.mktemp("api") / "run", **options)


def test_scalars_are_those_of_the_table(small_run):
    found = small_run.scalars("policy/entropy", "step/kl")
    assert list(found) == ["policy/entropy", "step/kl"]
    assert found["step/kl"].steps.tolist() == [80, 160, 240] and (found["step/kl"].values > 0).all()
    every = small_run.scalars()
    assert {"critic/loss", "time/collect"} < set(every) and "step" not in every
    with pytest.raises(UserError, match=r"has recorded no step/kll \(did you mean step/kl\?\)"):
        small_run.scalars("step/kll")


def test_a_run_draws_its_curves(small_run):
    figure = small_run.plot("policy/entropy", "step/kl")
    drawn = [axes.lines[0].get_xydata() for axes in figure.axes if axes.lines]
    assert np.allclose(drawn[1][:, 1], small_run.scalars("step/kl")["step/kl"].values)
    assert [axes.get_ylabel() for axes in figure.axes][:2] == ["policy/entropy", "step/kl"]
    assert small_run.plot().axes[0].get_ylabel() == "return of training episodes"


def test_without_matplotlib_one_line_says_what_to_install(small_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "rlopt.report.figures", None)
    with pytest.raises(UserError, match=r"needs matplotlib and scipy: pip install 'rlopt-geometry\[plot\]'"):
        small_run.plot()


def _interrupt(moment, scalars):
    if moment.updates == 2:
        raise KeyboardInterrupt


def test_an_interrupt_in_a_notebook_keeps_the_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    options: dict[str, Any] = {**SMALL, "env": "cartpole"}
    trained = rlopt.train("algo=ppo", run_dir="cut", on_update=_interrupt, **options)
    assert trained.summary["steps"] == 160 and trained.summary["algo"] == "ppo"
    said = capsys.readouterr().err
    assert "stopped at step 160" in said and "To go on: rlopt.resume('cut')" in said
    rlopt.resume("cut")
    rlopt.train("algo=ppo", run_dir="whole", **options)
    assert differences(Path("cut"), Path("whole")) == []


def test_an_interrupt_in_a_script_ends_it(monkeypatch, capsys):
    monkeypatch.delattr(sys, "ps1", raising=False)
    with pytest.raises(KeyboardInterrupt):
        rlopt.train(run_dir="cut", on_update=_interrupt, **SMALL)
    assert "rlopt.resume('cut')" in capsys.readouterr().err


def test_a_mistake_is_shown_in_one_line():
    with pytest.raises(UserError) as error:
        rlopt.train("stpe.radius=1")
    assert len(error.value._render_traceback_()) == 1 and "\n" not in error.value._render_traceback_()[0]


@pytest.mark.parametrize(("name", "typed"), [("train", "train"), ("resume", "resume RUN_DIR")])
def test_under_torchrun_each_function_names_its_command(monkeypatch, name, typed):
    monkeypatch.setattr("rlopt.parallel.ranks.is_distributed", lambda: True)
    call = rlopt.train if name == "train" else (lambda: rlopt.resume("runs/x"))
    with pytest.raises(UserError, match=f"^rlopt.{name} is for one process; under torchrun start `-m rlopt {typed}`$"):
        call()

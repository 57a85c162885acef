import json
import re
import signal
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch
import yaml
from gymnasium.error import DependencyNotInstalled

from rlopt import __version__, catalogue, cli
from rlopt.run import checkpoint
from rlopt.run.trainer import Trainer

SHORT = ["total_steps=40", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2"]
ABSENT = "cuda:0" if not torch.cuda.is_available() else f"cuda:{torch.cuda.device_count()}"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """An empty working directory, and the signal handlers as they were."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(capsys):
    """A function that runs one command and returns (exit code, stdout, stderr)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def created() -> list[str]:
    return sorted(str(path.relative_to(Path.cwd())) for path in Path.cwd().rglob("*"))


REFUSED = {
    # what is typed -> what the line must contain: what was wanted, what came, what to type instead
    "unknown preset": ("algo=tpro", "no such algo", "did you mean trpo", "npg, ppo, trpo, vpg"),
    "unknown environment": ("env=cartpol", "no such env", "did you mean cartpole", "halfcheetah"),
    "unknown metric": ("metric=fischer", "no such metric", "did you mean fisher", "identity"),
    "unknown critic metric": ("critic.metric=fischer", "critic.metric=fischer", "did you mean fisher"),
    "unknown network": ("policy=xyz", "no such policy", "linear, mlp"),
    "unknown recipe": ("recipe=xyz", "no such recipe"),
    "nothing chosen": ("algo=null", "no such algo", "npg, ppo, trpo, vpg"),
    "unknown group": ("alg=trpo", "there is no option alg", "did you mean algo"),
    "unknown option": ("total_step=5", "there is no option total_step", "did you mean total_steps"),
    "unknown nested option": ("policy.hiden=[8]", "there is no option policy.hiden", "policy.hidden"),
    "unknown option, added": ("+total_step=5", "total_step"),
    "unknown option, forced": ("++total_step=5", "total_step"),
    "no number": ("total_steps=abc", "total_steps must be a whole number", "'abc'"),
    "no number, gamma": ("gamma=abc", "gamma must be a number", "'abc'"),
    "no whole number": ("env.num_envs=3.5", "env.num_envs must be a whole number", "3.5"),
    "a flag for a number": ("seed=true", "seed must be a whole number", "True"),
    "a list for a number": ("batch_size=[1]", "batch_size must be a whole number", "[1]"),
    "no list": ("policy.hidden=64", "policy.hidden must be a list such as [64,64]", "64"),
    "no whole numbers in a list": ("policy.hidden=[a]", "policy.hidden[0] must be a whole number", "'a'"),
    "no flag": ("observations.normalise=abc", "observations.normalise must be true or false", "'abc'"),
    "nothing for a number": ("gamma=null", "gamma must be a number", "None"),
    "a number for a group of options": ("observations=3", "observations", "observations.normalise"),
    "nothing for a group of options": ("checkpoint=null", "checkpoint is a group of options", "checkpoint.", "None"),
    "a number for a group of the critic": ("critic.schedule=3", "critic.schedule", "minibatch"),
    "gamma": ("gamma=2", "gamma must be between 0 and 1", "2"),
    "num_envs": ("env.num_envs=0", "env.num_envs must be a whole number, 1 or above", "0"),
    "damping": ("damping.value=nan", "damping.value must be a finite number, 0 or above", "nan"),
    "radius": ("step.radius=-1", "step.radius must be a finite number above 0", "-1"),
    "seed": ("seed=-1", "seed must be a whole number, 0 or above", "-1"),
    "episodes": ("evaluation.episodes=-1", "evaluation.episodes must be 0 or above", "-1"),
    "total_steps": ("total_steps=0", "total_steps must be a whole number, 1 or above", "0"),
    "batch_size": ("batch_size=0", "batch_size must be a whole number, 1 or above", "0"),
    "keep": ("checkpoint.keep=0", "checkpoint.keep must be", "0"),
    "max_bad_updates": ("max_bad_updates=0", "max_bad_updates must be", "0"),
    "clip": ("rewards.clip=-1", "rewards.clip must be a finite number above 0", "-1"),
    "width": ("policy.hidden=[0]", "policy.hidden must be a whole number, 1 or above", "0"),
    "variance": ("critic.variance=0", "critic.variance must be a finite number above 0", "0"),
    "critic radius": ("critic.step=trust_region critic.step.radius=0", "critic.step.radius must be", "0"),
    "dtype": ("dtype=float16", "dtype must be float32 or float64", "'float16'"),
    "weighting": ("state_weighting=none", "state_weighting must be uniform or discounted", "'none'"),
    "activation": ("policy.activation=tahn", "policy.activation must be one of tanh, relu", "'tahn'"),
    "scale": ("env=pendulum policy.scale=tau", "policy.scale must be log_sigma or sigma", "'tau'"),
    "backend": ("env.backend=thread", "env.backend must be sync", "'thread'"),
    "batch and environments": ("batch_size=2049", "multiple of env.num_envs=8", "2049", "batch_size=2048"),
    "small batch": ("batch_size=4", "multiple of env.num_envs=8", "4", "batch_size=8"),
    "environment id": ("env.id=Cartpol-v1", "env.id=Cartpol-v1", "did you mean CartPole-v1"),
    "environment version": ("env.id=CartPole-v9", "env.id=CartPole-v9", "CartPole-v1"),
    "environment module": ("env.id=no_such_module:Foo-v0", "no_such_module"),
    "environment id missing": ("env=any", "env.id must be given"),
    "environment options": ("env.kwargs.gravitas=3", "env.kwargs", "gravitas", "CartPole-v1"),
    "environment option's value": ("env=halfcheetah env.kwargs.xml_file=nowhere.xml", "env.kwargs", "nowhere.xml"),
    "environment of another kind": ("env.id=GymV21Environment-v0", "env.id=GymV21Environment-v0 needs a package", "shimmy"),
    "image network without images": ("policy=nature_cnn", "policy=nature_cnn sees images", "Box(4,) of float32", "policy=mlp"),
    "image network of the critic alone": ("critic=nature_cnn", "critic=nature_cnn sees images", "critic=mlp"),
    "network": ("policy.network=mlp", "policy.network"),
    "kernels": ("policy=nature_cnn policy.kernels=[3]", "policy.kernels must be a list of 3, one for each of channels", "[3]"),
    "option of the other network": ("policy.kernels=[3]", "policy.kernels has no effect here", "policy=nature_cnn"),
    "squashed without bounds": ("env=lqr policy.squash=true", "policy.squash=true needs finite bounds", "policy.squash=false"),
    "device": (f"device={ABSENT}", f"device={ABSENT} is not available here; there is cpu"),
    "no device": ("device=abacus", "device=abacus is not available here; there is cpu"),
    "device without numbers": ("device=meta", "device=meta is not available here; there is cpu"),
    "taken actions, several steps": (
        "algo=ppo metric=fisher metric.samples=taken solver=kfac step=kl_clip", "first step", "metric.samples=1",
    ),
    "taken actions of a critic": (
        "critic.metric=fisher critic.metric.samples=taken critic.solver=kfac critic.step=kl_clip", "takes no actions",
    ),
    "minibatches with line search": ("schedule=minibatch", "step=kl_line_search", "schedule=whole_batch", "trust_region"),
    "adaptive optimizer with metric": (
        "algo=ppo metric=fisher solver=cg", "metric=fisher", "adaptive optimizer", "step=kl_line_search", "optimizer=sgd",
    ),
    "solver and metric": ("solver=identity", "solver=identity cannot serve metric=fisher", "solver=cg", "solver=dense"),
    "critic solver and metric": ("critic.metric=fisher", "critic.solver=identity cannot serve critic.metric=fisher",
                                 "critic.solver=cg"),
    "objective": ("objective=value", "objective=value", "critic"),
    "shared critic's metric": ("critic=shared critic.metric=fisher", "critic.metric has no effect with critic=shared",
                               "type metric, or choose critic=mlp"),
    "shared critic's learning rate": ("algo=ppo critic=shared critic.optimizer.lr=1", "critic.optimizer.lr has no effect",
                                      "type optimizer.lr, or choose critic=mlp"),
    "shared critic's schedule": ("critic=shared critic.schedule.epochs=2", "critic.schedule.epochs has no effect"),
    "shared critic's network": ("critic=shared critic.hidden=[8]", "critic.hidden has no effect", "critic=mlp"),
    "shared critic of its own": ("critic=shared critic.shared=false", "critic.shared must be true", "critic=mlp"),
    "shared critic's weight": ("critic=shared critic.value_weight=0", "critic.value_weight must be a finite number above 0"),
    "shared critic's variance": ("critic=shared critic.variance=-1", "critic.variance must be a finite number above 0"),
    "separate critic's weight": ("critic.value_weight=2", "critic.value_weight has no effect here", "critic=shared"),
    "taken actions of a shared critic": (
        "critic=shared metric=fisher metric.samples=taken solver=kfac step=kl_clip", "takes no actions", "metric.samples=1",
    ),
    "compatible and shared critic": ("algo=nac critic=shared", "solver=compatible cannot serve", "critic=lstd"),
    "critic objective": ("critic.objective=clipped", "critic.objective=clipped", "critic.objective=value"),
    "without effect": ("optimizer.lr=3", "optimizer.lr has no effect without step=optimizer"),
    "without effect here": ("step.rate=3", "step.rate has no effect", "step=fixed"),
    "without effect any more": ("algo=ppo step=fixed step.max_norm=1", "step.max_norm has no effect", "rate"),
    "optimizer name": ("algo=ppo optimizer.name=Adamm", "optimizer.name must be one of", "Adam,", "'Adamm'"),
    "optimizer option": ("algo=ppo optimizer.momentun=1", "Adam with arguments out of lr", "momentun"),
    "optimizer value": ("algo=ppo optimizer.lr=abc", "optimizer", "abc"),
    "optimizer range": ("algo=ppo optimizer.lr=-1", "optimizer", "-1"),
    "scheduler value": ("algo=ppo scheduler.total_iters=abc", "scheduler", "abc"),
    "scheduler name": ("algo=ppo scheduler.name=Linear", "scheduler.name must be one of", "LinearLR"),
    "updates": ("algo=ppo updates=abc", "updates"),
    "code": ("metric._target_=os.system", "_target_", "metric=..."),
    "other code": ("metric._target_=rlopt.core.solvers.cg.CG", "_target_", "metric=..."),
    "removal": ("~gamma", "~gamma", "cannot be removed"),
    "no override": ("gamma", "cannot read 'gamma'", "name=value"),
    "no name": ("=3", "cannot read '=3'", "name=value"),
    "unreadable": ("gamma=[1", "cannot read 'gamma=[1'", "name=value"),
    "unknown reference": ("gamma=${nothing}", "gamma", "nothing"),
    "circular reference": ("gamma=${gamma}", "gamma"),
    "several values": ("seed=0,1", "seed=0,1", "-m"),
    "several choices": ("env=cartpole,acrobot", "env=cartpole,acrobot", "-m"),
    "pattern": ("metric=glob(*)", "metric=glob(*)", "values themselves"),
    "a range": ("gamma=interval(0,1)", "gamma=interval(0,1)", "write the value itself"),
    "another environment's id": ("env=cartpole env.id=Pendulum-v1", "env.id=Pendulum-v1 is not env=cartpole",
                                 "leave out env=cartpole"),
    "damping without effect": ("algo=ppo damping.value=1", "damping.value has no effect: solver=identity"),
    "critic damping without effect": ("critic.damping.value=1", "critic.damping.value has no effect: critic.solver=identity"),
    "scale of discrete actions": ("policy.scale=sigma", "policy.scale has no effect", "CartPole-v1"),
    "sigma of discrete actions": ("policy.initial_sigma=1", "policy.initial_sigma has no effect", "CartPole-v1"),
    "squashed discrete actions": ("policy.squash=true", "policy.squash has no effect", "CartPole-v1"),
    "unknown preconditioner": ("solver.preconditioner=kfak", "solver.preconditioner=kfak: no such solver", "diagonal, "),
    "preconditioner of another solver": ("solver=dense solver.preconditioner=kfac", "solver.preconditioner has no effect"),
    "no preconditioner": ("solver.preconditioner.method=exact", "has no effect without solver.preconditioner=..."),
    "preconditioner's option": ("solver.preconditioner=kfac solver.preconditioner.method=exact",
                                "solver.preconditioner.method"),
    "preconditioner's value": ("solver.preconditioner=diagonal solver.preconditioner.draws=0",
                               "solver.preconditioner.draws must be", "0"),
    "preconditioner that is not linear": ("solver.preconditioner=cg", "solver.preconditioner must be", "linear"),
    "optimizer's type": ("algo=ppo optimizer.lr=abc", "optimizer.lr must be a number; got 'abc'"),
    "optimizer's list": ("algo=ppo optimizer.betas=[0.9]", "optimizer.betas must be a list of 2; got [0.9]"),
    "optimizer's flag": ("algo=ppo optimizer.amsgrad=1", "optimizer.amsgrad must be true or false; got 1"),
    "too much memory": ("batch_size=8000000000000000", "does not fit into memory", "batch_size"),
    "configuration of several runs": ("-m --cfg seed=0,1", "--cfg", "-m"),
    "pattern for several runs": ("-m seed=glob(*)", "seed=glob(*)", "seed=0,1"),
    "flag": ("--sed=1", "there is no flag --sed=1", "seed=1"),
    "run_dir": ("run_dir=3", "run_dir must be text", "3"),
}  # fmt: skip


def one_line(err: str) -> str:
    """The message, which is one line, for users and not for programmers."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("rlopt: ")
    assert not re.search(r"Traceback|omegaconf|hydra|<class", lines[0], re.IGNORECASE), lines[0]
    return lines[0]


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_on_disk(run, case):
    typed, *wanted = case
    code, out, err = run("train", *typed.split())
    assert (code, out) == (2, "")
    line = one_line(err)
    assert [part for part in wanted if part not in line] == [], line
    assert created() == []


@pytest.mark.parametrize(
    "typed", ["gamma=2", "gamme=1,2", "seed=0,1 gamma=abc", "algo=ppo,tpro", "seed=0,1 step.rate=3"]
)
def test_a_mistake_with_several_runs_is_told_before_any_begins(run, typed):
    code, out, err = run("train", "-m", *typed.split())
    assert code == 2
    assert all(line.startswith("rlopt: ") for line in err.splitlines()) and err
    assert not any(path.endswith(("config.yaml", "checkpoints")) for path in created())


@pytest.mark.parametrize("typed, wanted", [
    ("hydra=null", "hydra=null: hydra is a group of options, such as hydra/launcher=joblib"),
    ("hydra.sweeper=null", "hydra.sweeper=null cannot be begun"),
    ("hydra.launcher=3", "hydra.launcher=3 cannot be begun"),
    ("hydra/launcher=nowhere", "hydra/launcher/nowhere"),
    ("gamma=interval(0,1)", "gamma=interval(0,1): only a sweeper that draws (hydra/sweeper=...) takes a range"),
])  # fmt: skip
def test_what_hydra_cannot_do_with_several_runs_is_one_line(run, typed, wanted):
    code, out, err = run("train", "-m", "seed=0,1", *typed.split())
    assert (code, out) == (2, "")
    assert err.startswith("rlopt: ") and wanted in err and len(err.splitlines()) == 1
    assert created() == []


@pytest.mark.parametrize("typed", ["gamme=0.5", "gamme=0.5,0.6"])
def test_a_mistake_that_all_runs_share_leaves_nothing(run, typed):
    code, out, err = run("train", "-m", "seed=0,1", typed)
    assert (code, out) == (2, "")
    assert "did you mean gamma" in one_line(err)
    assert created() == []


def test_a_mistake_of_a_later_run_is_told_before_the_first_begins(run):
    code, out, err = run("train", "-m", "step=trust_region,fixed", "step.radius=0.1", *SHORT)
    assert (code, out) == (2, "")
    assert "step.radius has no effect" in one_line(err)
    assert not any("trpo" in path for path in created())


@pytest.mark.parametrize("error", [DependencyNotInstalled("no"), ModuleNotFoundError("No module named 'mujoco'")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(run, monkeypatch, error):
    def missing(*_: object, **__: object) -> gym.Env:
        raise error

    monkeypatch.setattr(gym, "make", missing)
    for env, extra in (("halfcheetah", "mujoco"), ("lunar_lander", "box2d"), ("cartpole", "classic")):
        code, _, err = run("train", f"env={env}")
        assert code == 2
        assert f"pip install 'rlopt[{extra}]'" in one_line(err)
    assert created() == []


def test_a_run_directory_in_use_is_left_alone(run):
    Path("here").mkdir()
    Path("here/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    for name in ("here", "file"):
        code, _, err = run("train", f"run_dir={name}", *SHORT)
        assert code == 2
        assert f"run_dir={name} is in use; give another" in one_line(err)
    assert created() == ["file", "here", "here/notes.txt"]


def test_an_empty_run_directory_is_taken(run):
    Path("here").mkdir()
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    assert {"here/config.yaml", "here/summary.json", "here/checkpoints"} <= set(created())


def test_a_run_directory_that_cannot_be_made_is_refused(run):
    Path("file").write_text("")
    code, _, err = run("train", "run_dir=file/run", *SHORT)
    assert code == 2
    assert "run_dir=file/run" in one_line(err)


def test_a_run_tells_its_result_and_what_to_type_next(run):
    code, out, err = run("train", "run_dir=here", "seed=3", *SHORT)
    assert code == 0
    assert out.startswith("trpo on CartPole-v1, seed 3: evaluation return ")
    assert "--logdir here" in out and "eval here" in out
    assert "40 / 40 steps" in err


def test_an_old_version_of_an_environment_is_warned_of_once(run, monkeypatch):
    monkeypatch.setattr("rlopt.rollout.environments._warned", set())
    with pytest.warns(DeprecationWarning, match="CartPole-v0") as warned:
        assert run("train", "env.id=CartPole-v0", "env.num_envs=4", *SHORT)[0] == 0
    assert len(warned) == 1


def test_an_environment_with_its_own_id_is_itself(run):
    assert run("train", "--cfg", "env=cartpole", "env.id=CartPole-v1")[1] == run("train", "--cfg")[1]


def test_several_runs_take_preconditioners_by_name(run):
    assert run("train", "-m", "solver.preconditioner=none,diagonal", *SHORT)[0] == 0
    configs = [yaml.safe_load(path.read_text()) for path in Path("runs").glob("sweep-*/*/config.yaml")]
    assert sorted((config["solver"]["preconditioner"] or {}).get("method", "") for config in configs) == ["", "exact"]


def test_runs_go_to_folders_of_their_own(run):
    for _ in range(2):
        assert run("train", *SHORT)[0] == 0
    folders = [path.name for path in Path("runs").iterdir()]
    assert len(folders) == 2
    assert all(name.startswith("trpo-cartpole-s0-") for name in folders)


def test_multirun_runs_once_for_every_choice_of_the_critics_parts(run):
    code, out, _ = run(
        "train", "-m", "critic.metric=identity,fisher", "critic.solver=cg", "critic.step=trust_region", *SHORT
    )
    assert code == 0
    configs = [yaml.safe_load(path.read_text()) for path in Path("runs").glob("sweep-*/*/config.yaml")]
    assert sorted(config["critic"]["metric"]["_target_"].split(".")[-1] for config in configs) == ["Fisher", "Identity"]
    assert len(list(Path("runs").glob("sweep-*/*/summary.json"))) == 2
    assert "--- critic.metric=identity critic.solver=cg" in out and "--- critic.metric=fisher critic.solver=cg" in out


def test_multirun_is_the_same_as_its_runs_one_by_one(run):
    assert run("train", "--multirun", "seed=1,2", *SHORT)[0] == 0
    summaries = [json.loads(path.read_text()) for path in Path("runs").glob("sweep-*/*/summary.json")]
    assert sorted(summary["seed"] for summary in summaries) == [1, 2]
    assert run("train", "seed=2", "run_dir=alone", *SHORT)[0] == 0
    together = next(Path("runs").glob("sweep-*/seed=2"))
    (_, a), (_, b) = checkpoint.load_newest(Path("alone")), checkpoint.load_newest(together)
    assert torch.equal(a["agent"]["actor"]["theta"], b["agent"]["actor"]["theta"])


def test_multirun_goes_on_after_a_mistake_and_returns_its_code(run):
    code, _, err = run("train", "-m", "gamma=2,0.9", *SHORT)
    assert code == 2
    assert "gamma must be between 0 and 1" in err
    assert len(list(Path("runs").glob("sweep-*/*/summary.json"))) == 1


def test_multirun_ends_when_it_is_interrupted(run, monkeypatch):
    def interrupted(self: Trainer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    code, out, _ = run("train", "-m", "seed=1,2,3", *SHORT)
    assert code == 128 + signal.SIGINT
    assert out.count("---") == 1


def test_an_interrupted_run_exits_with_the_signals_code(run, monkeypatch):
    from rlopt.rollout.collector import Collector

    def terminated(self: Collector) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Collector, "finish", terminated)
    code, out, err = run("train", "run_dir=here", *SHORT)
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert "Stopped at step 0; the policy so far is saved" in err
    assert "Traceback" not in err
    assert "here/checkpoints/step-000000000000" in created()


def test_an_environment_that_raises_is_one_line_with_the_traceback_in_a_file(run, monkeypatch):
    from gymnasium.envs.classic_control import CartPoleEnv

    step, count = CartPoleEnv.step, []

    def breaking(self: CartPoleEnv, action: object) -> object:
        count.append(1)
        if len(count) > 75:  # 25 of them in the trial of replay, before the run
            raise RuntimeError("the simulator broke\nbadly")
        return step(self, action)

    monkeypatch.setattr(CartPoleEnv, "step", breaking)
    code, _, err = run("train", "run_dir=here", *SHORT, "total_steps=400")
    line = err.splitlines()[-1]
    assert code == 2
    assert line.startswith("rlopt: environment 2, at its step 7, raised RuntimeError: the simulator broke")  # the 51st
    assert "after step 40" in line and "error.txt" in line
    assert "Traceback" not in err
    assert "in breaking" in Path("here/error.txt").read_text()
    assert checkpoint.load_newest(Path("here"))[0] == 40


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []])
def test_help_tells_the_commands(run, arguments):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert all(f"rlopt {command}" in out for command in ("train", "eval", "--version"))


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_train_help_lists_every_choice_of_every_group(run, flag):
    code, out, err = run("train", flag)
    assert (code, err) == (0, "")
    sections = dict(re.findall(r"^(\w+)=.*\n((?:  .*\n)*)", out, re.MULTILINE))
    for group, names in catalogue.groups().items():
        if names:
            listed = [line.split()[0] for line in sections[group].splitlines()]
            assert listed == names, group
    assert created() == []


def test_version_is_told(run):
    assert run("--version") == (0, f"rlopt {__version__}\n", "")


@pytest.mark.parametrize(
    "command, hint", [("trian", "did you mean train"), ("evl", "did you mean eval"), ("zzz", "--help")]
)
def test_an_unknown_command_is_refused(run, command, hint):
    code, out, err = run(command)
    assert (code, out) == (2, "")
    assert f"no command '{command}'" in one_line(err) and hint in err


def test_cfg_prints_the_whole_configuration_and_nothing_else(run):
    code, out, err = run("train", "--cfg", "seed=7", "algo=ppo")
    assert (code, err) == (0, "")
    assert "seed: 7" in out and "algo: ppo" in out and "${" not in out
    assert created() == []


@pytest.fixture
def trained(run):
    assert run("train", "run_dir=here", *SHORT, "evaluation.episodes=7", "seed=5")[0] == 0
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
        (["here", "--episodes", "0"], "--episodes must be 1 or above; got 0"),
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
        (newest / "tensors.safetensors").write_bytes(b"\x08")
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


def test_the_module_can_be_run(run, monkeypatch):
    import runpy

    monkeypatch.setattr(sys, "argv", ["rlopt", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("rlopt", run_name="__main__")
    assert ended.value.code == 0

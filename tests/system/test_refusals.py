"""A mistake on the command line is told in one line, which says what was wanted, what came and what to type instead."""

import errno
import os

import gymnasium as gym
import pytest
import torch
from gymnasium.error import DependencyNotInstalled

from tests.support.command_line import created, one_line

pytestmark = pytest.mark.usefixtures("elsewhere")

ABSENT = "cuda:0" if not torch.cuda.is_available() else f"cuda:{torch.cuda.device_count()}"

REFUSED = {
    # what is typed -> what the line must contain: what was wanted, what came, what to type instead
    "an option twice": ("seed=1 seed=2", "seed is given twice: seed=1 and seed=2", "leave one out"),
    "an empty folder": ("run_dir=", "run_dir= is empty", "run_dir=runs/NAME", "leave it out"),
    "no environment": ("env.id=null", "env.id=null: name an environment", "env.id=CartPole-v1"),
    "a deep list": (f"policy.hidden={'[' * 120}4{']' * 120}", "policy.hidden: it is nested more than 20 deep"),
    "a deeper one": (f"env.kwargs.a={'[' * 3000}4{']' * 3000}", "env.kwargs.a: it is nested more than 20 deep"),
    "a number of many digits": ("env.kwargs.n=[{a:9223372036854775808}]", "env.kwargs.n: a whole number is beyond 2^63"),
    "unknown preset": ("algo=tpro", "no such algo", "did you mean trpo", "npg, ppo, storm_pg, svrpg, trpo, vpg"),
    "unknown environment": ("env=cartpol", "no such env", "did you mean cartpole", "halfcheetah"),
    "unknown metric": ("metric=fischer", "no such metric", "did you mean fisher", "identity"),
    "unknown critic metric": ("critic.metric=fischer", "critic.metric=fischer", "did you mean fisher"),
    "unknown network": ("policy=xyz", "no such policy", "linear, lstm, mlp"),
    "unknown recipe": ("recipe=xyz", "no such recipe"),
    "nothing chosen": ("algo=null", "no such algo", "npg, ppo, storm_pg, svrpg, trpo, vpg"),
    "unknown group": ("alg=trpo", "there is no option alg", "here it is algo="),
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
    "dtype": ("dtype=float16", "dtype must be one of float32, float64", "'float16'"),
    "weighting": ("state_weighting=none", "state_weighting must be one of uniform, discounted", "'none'"),
    "activation": ("policy.activation=tahn", "policy.activation must be one of tanh, relu", "'tahn'"),
    "scale": ("env=pendulum policy.scale=tau", "policy.scale must be one of log_sigma, sigma, network", "'tau'"),
    "head": ("env=pendulum policy.head=gausian", "policy.head must be one of gaussian, beta", "'gausian'"),
    "scale of a beta": ("env=pendulum policy.head=beta policy.scale=network", "policy.scale has no effect with policy.head=beta"),
    "squashed beta": ("env=pendulum policy.head=beta policy.squash=true", "policy.squash"),
    "wide beta": ("env=pendulum policy.head=beta policy.initial_sigma=1", "policy.initial_sigma must be above 0 and below 0.577", "1.0"),
    "beta without bounds": ("env=lqr policy.head=beta", "policy.head=beta needs finite bounds", "policy.head=gaussian"),
    "backend": ("env.backend=thread", "env.backend must be auto or sync", "'thread'"),
    "backend of another environment": ("env=lunar_lander env.backend=tensor", "env.backend=tensor steps Acrobot-v1, ",
                                       "LunarLander-v3 is none of them; type env.backend=sync"),
    "warp in float64": ("env.id=Hopper-v5 env.backend=warp dtype=float64", "env.backend=warp computes in float32; type dtype=float32"),
    "warp of another environment": ("env.backend=warp", "env.backend=warp steps Ant-v5, ", "CartPole-v1 is none of them; type env.backend=sync"),
    "warp and workers": ("env.id=Hopper-v5 env.backend=warp workers=2", "env.backend=warp steps all environments of Hopper-v5 as one; leave out workers"),
    "room for contacts without warp": ("env.id=Hopper-v5 env.nconmax=30", "env.nconmax has no effect: it is for env.backend=warp"),
    "no room for constraints": ("env.id=Hopper-v5 env.backend=warp env.njmax=0", "env.njmax must be", "got 0"),
    "tensors and workers": ("env.backend=tensor workers=2", "env.backend=tensor steps all environments of CartPole-v1 as one; leave out workers"),
    "tensors and wrappers": ("env.backend=tensor env.wrappers=[time_limit:30]", "env.wrappers are not for backend=tensor", "choose sync"),
    "tensors and masks": ("env.backend=tensor env.mask=info", "env.mask must be auto or none with this env.backend"),
    "tensors and correlated noise": ("env=pendulum env.backend=tensor noise.color=1", "noise.color=1 is drawn on the host",
                                     "noise.color=0, or type env.backend=sync"),
    "tensors and memory": ("env.backend=tensor policy=lstm", "policy has a memory, and env.backend=tensor serves none; type policy=mlp"),
    "tensors and memory of the critic": ("env.backend=tensor critic=gru", "critic has a memory", "type critic=mlp, or env.backend=sync"),
    "batch and environments": ("batch_size=2049", "multiple of env.num_envs=8", "2049", "batch_size=2048"),
    "small batch": ("batch_size=4", "multiple of env.num_envs=8", "4", "batch_size=8"),
    "environment id": ("env.id=Cartpol-v1", "env.id=Cartpol-v1", "did you mean CartPole-v1"),
    "environment version": ("env.id=CartPole-v9", "env.id=CartPole-v9", "CartPole-v1"),
    "environment module": ("env.id=no_such_module:Foo-v0", "no_such_module"),
    "environment id missing": ("env=any", "env.id must be given"),
    "environment options": ("env.kwargs.gravitas=3", "env.kwargs", "gravitas", "CartPole-v1"),
    "environment option's value": ("env=halfcheetah env.kwargs.xml_file=nowhere.xml", "env.kwargs", "nowhere.xml"),
    "environment of another kind": ("env.id=GymV21Environment-v0", "env.id=GymV21Environment-v0 needs a package", "shimmy"),
    "image network without images": ("policy=nature_cnn", "policy=nature_cnn: a convolutional network sees images", "Box(4,) of float32", "policy=mlp"),
    "image network of the critic alone": ("critic=nature_cnn", "critic=nature_cnn: a convolutional network sees images", "critic=mlp"),
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
        "algo=ppo metric=fisher solver=cg", "metric=fisher", "adaptive optimizer", "step=kl_clip", "optimizer=sgd",
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
    "shared critic of its own": ("critic=shared critic._target_=rlopt.policy.mlp.MLP", "type critic=..."),
    "shared critic's weight": ("critic=shared critic.value_weight=0", "critic.value_weight must be a finite number above 0"),
    "shared critic's variance": ("critic=shared critic.variance=-1", "critic.variance must be a finite number above 0"),
    "separate critic's weight": ("critic.value_weight=2", "critic.value_weight has no effect here", "critic=shared"),
    "taken actions of a shared critic": (
        "critic=shared metric=fisher metric.samples=taken solver=kfac step=kl_clip", "takes no actions", "metric.samples=1",
    ),
    "compatible and shared critic": ("algo=nac critic=shared", "solver=compatible cannot serve", "critic=lstd"),
    "critic objective": ("critic.objective=clipped", "critic.objective=clipped", "critic.objective=value"),
    "without effect": ("optimizer.lr=3", "optimizer.lr has no effect here", "step=optimizer"),
    "without effect here": ("step.rate=3", "step.rate has no effect", "step=fixed"),
    "without effect any more": ("algo=ppo step=fixed step.max_norm=1", "step.max_norm has no effect", "rate"),
    "optimizer name": ("algo=ppo optimizer.name=Adamm", "optimizer.name=Adamm", "type optimizer=..."),
    "optimizer option": ("algo=ppo optimizer.momentun=1", "Adam with arguments out of lr", "momentun"),
    "optimizer value": ("algo=ppo optimizer.lr=abc", "optimizer", "abc"),
    "optimizer range": ("algo=ppo optimizer.lr=-1", "optimizer", "-1"),
    "scheduler value": ("algo=ppo scheduler.total_iters=abc", "scheduler", "abc"),
    "scheduler name": ("algo=ppo critic.scheduler.name=Linear", "type critic.scheduler=..."),
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
    "head of discrete actions": ("policy.head=beta", "policy.head has no effect", "CartPole-v1"),
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
    "too much memory": ("algo=vpg critic.schedule=whole_batch batch_size=800000000000000", "does not fit into memory", "batch_size"),
    "configuration of several runs": ("-m --cfg seed=0,1", "--cfg", "-m"),
    "pattern for several runs": ("-m seed=glob(*)", "seed=glob(*)", "seed=0,1"),
    "flag": ("--sed=1", "there is no flag --sed=1", "seed=1"),
    "run_dir": ("run_dir=3", "run_dir must be text", "3"),
    "run_dir of letters that need quotes": ("run_dir=a=b", "cannot read", "takes quotes: \"run_dir='a=b'\""),
    "run_dir of nobody": ("run_dir='~nobody-x/run'", "run_dir=~nobody-x/run cannot be used", "home"),
    "run_dir with a long name": (f"run_dir={'x' * 300}", "run_dir=xxx", "cannot be used: File name too long"),
    "more than float32 holds": ("rewards.clip=1e308", "rewards.clip must be at most 3.4e+38", "1e+308"),
    "more than float32 holds, critic": ("algo=acktr critic.step.rate=1e308", "critic.step.rate must be at most", "1e+308"),
    "more than can be counted": ("batch_size=1" + 29 * "0", "batch_size must be at most 1e+15"),
    "more draws than can be counted": ("metric.samples=1" + 29 * "0", "metric.samples must be at most 1e+15"),
    "more episodes than there is time for": ("evaluation.episodes=99999999999999", "must be 0 or above, at most 1,000,000"),
    "timeout": ("env.timeout=1e-5", "env.timeout must be between 0.01 and 1e+06", "1e-05"),
    "timeout too long for a timer": ("env.timeout=1e7", "env.timeout must be between 0.01 and 1e+06"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_on_disk(run, case):
    typed, *wanted = case
    code, out, err = run("train", *typed.split())
    assert (code, out) == (2, "")
    line = one_line(err)
    assert [part for part in wanted if part not in line] == [], line
    assert created() == []


@pytest.mark.parametrize("error", [DependencyNotInstalled("no"), ModuleNotFoundError("No module named 'mujoco'")])
def test_a_missing_package_is_named_with_the_extra_to_install(run, monkeypatch, error):
    def missing(*_: object, **__: object) -> gym.Env:
        raise error

    monkeypatch.setattr(gym, "make", missing)
    for env, extra in (("halfcheetah", "mujoco"), ("lunar_lander", "box2d"), ("cartpole", "classic")):
        code, _, err = run("train", f"env={env}")
        assert code == 2
        assert f"pip install 'rlopt-geometry[{extra}]'" in one_line(err)
    assert created() == []


@pytest.mark.parametrize(("number", "said"), [
    (errno.EMFILE, "ulimit -n"), (errno.EAGAIN, "lower workers"), (errno.ENOMEM, "lower workers, batch_size"),
])  # fmt: skip
def test_a_limit_of_the_system_is_one_line(run, monkeypatch, number, said):
    """As ``ulimit`` sets them: of open files, of processes, of memory."""

    def limited(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("rlopt.training.factory.Workers", limited)
    code, _, err = run("train", "workers=2", "run_dir=here")
    line = one_line(err)
    assert code == 2 and os.strerror(number) in line and said in line
    assert created() == []


def test_a_defect_is_still_raised(run, monkeypatch):
    monkeypatch.setattr("rlopt.training.factory.Workers", lambda *_: (_ for _ in ()).throw(OSError(errno.EBADF, "bad")))
    with pytest.raises(OSError, match="bad"):
        run("train", "workers=2", "run_dir=here")

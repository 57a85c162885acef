"""Who wins where several say what an option is: presets and recipes, choices that are typed, options that are typed."""

from typing import Any

import pytest
import yaml

from rlopt.config import choices as catalogue
from rlopt.config.compose import load
from rlopt.errors import UserError
from tests.support.building import resolve, trainer
from tests.support.configurations import ALGOS

CONF = catalogue.conf_dir()


def at(config: dict[str, Any], place: str) -> Any:
    found: Any = config
    for name in place.split("."):
        found = found[name]
    return found


def in_file(group: str, choice: str) -> dict[str, Any]:
    return load(CONF / group / f"{choice}.yaml")


@pytest.mark.parametrize("where", ["", "critic."])
def test_a_schedule_that_is_typed_has_its_own_values(where):
    config, usual = resolve(["algo=ppo", f"{where}schedule=whole_batch"]), resolve(["algo=ppo"])
    assert at(config, f"{where}schedule") == in_file("schedule", "whole_batch")
    other = "schedule" if where else "critic.schedule"
    assert at(config, other) == at(usual, other)
    assert at(usual, other)["minibatch"] == 64


@pytest.mark.parametrize("choice", ["adadelta", "nesterov", "sgd"])
def test_an_optimizer_that_is_typed_has_its_own_values(choice):
    config = resolve(["algo=vpg", f"optimizer={choice}", "optimizer.weight_decay=0.5"])
    assert config["step"]["optimizer"] == in_file("optimizer", choice) | {"weight_decay": 0.5}


@pytest.mark.parametrize(
    "typed, place, values",
    [
        ("algo=trpo env=hopper step=trust_region", "step", {"radius": 0.01, "largest": 100.0}),  # of the recipe's .04
        ("algo=trpo env=hopper step=trust_region step.largest=3", "step", {"radius": 0.01, "largest": 3}),
        ("algo=trpo env=hopper step.largest=3 step=trust_region", "step", {"radius": 0.01, "largest": 3}),
        ("algo=acktr damping=levenberg_marquardt", "damping", {"value": 0.1}),
        ("algo=acktr critic.step=fixed", "critic.step", {"rate": 0.01}),
        ("algo=acktr critic.step=fixed", "step", {"rate": 1.0, "radius": 0.02}),
        (
            "algo=ppo scheduler=inverse",
            "step.scheduler",
            {"_target_": "rlopt.core.steps.optimizer.InverseLR", "decay": 0.1},
        ),
        ("algo=vpg scheduler=linear", "step.scheduler", {"total_iters": 293}),  # of 300,000 / 1,024 updates
        ("algo=nac env=lqr critic=episodic", "critic.compatible", {"degrees": [0], "ridge": 1e-3}),
        ("algo=nac env=lqr critic=mlp", "critic", {"compatible": None}),
        ("env=halfcheetah policy=linear", "policy", {"initial_sigma": 1.0}),
        ("algo=acktr solver=cg solver.preconditioner=kfac", "solver.preconditioner", {"measure": 1}),
        ("experiment=bench_trpo solver=dense damping.value=2", "damping", {"value": 2}),
        ("experiment=bench_npg critic.schedule=minibatch", "critic.schedule", {"epochs": 10, "minibatch": 128}),
    ],
)
def test_a_choice_other_than_the_presets_has_its_own_values(typed, place, values):
    found = at(resolve(typed.split()), place)
    assert {name: found[name] for name in values} == values


@pytest.mark.parametrize("algo", ALGOS)
def test_a_choice_that_is_the_presets_own_changes_nothing(algo):
    """All of them at once, with a recipe where there is one."""
    own: dict[str, str] = {}
    for entry in defaults("config") + defaults(f"algo/{algo}"):
        for name, choice in entry.items():
            group, _, place = name.removeprefix("override ").removeprefix("/").partition("@")
            own[place or group] = choice
    typed = [f"{place}={choice}" for place, choice in own.items() if place not in ("env", "algo")]
    typed = [text for text in typed if not text.startswith("optional")]
    recipes = sorted((CONF / "recipe").glob(f"{algo}-*.yaml"))
    chosen = [f"algo={algo}", f"env={recipes[0].stem.partition('-')[2] if recipes else 'cartpole'}"]
    usual = resolve(chosen)
    for_steps = [t for t in typed if t.removeprefix("critic.").startswith(("optimizer=", "scheduler="))]
    without_effect = [t for t in for_steps if "optimizer" not in at(usual, "critic.step" if "critic." in t else "step")]
    typed = [t for t in typed if t not in without_effect]
    assert len(typed) >= 16 - len(without_effect)
    assert resolve([*chosen, *typed]) == usual


def defaults(name: str) -> list[dict[str, str]]:
    entries = yaml.safe_load((CONF / f"{name}.yaml").read_text())["defaults"]
    return [entry for entry in entries if isinstance(entry, dict)]


ADVISED = {  # what is refused -> what its message advises, each of which must then go through
    "algo=ppo metric=fisher solver=cg": ["step=kl_clip", "step=trust_region", "optimizer=sgd"],
    "algo=ppo metric=fisher solver=cg step=kl_line_search": ["schedule=whole_batch", "step=trust_region"],
    "schedule=minibatch": ["schedule=whole_batch", "step=trust_region"],
    "critic.metric=fisher critic.solver=cg": [
        "critic.step=kl_clip", "critic.step=trust_region", "critic.optimizer=sgd",
    ],
    "critic.metric=fisher critic.solver=cg critic.step=kl_line_search": [
        "critic.schedule=whole_batch", "critic.step=trust_region",
    ],
    "algo=ppo metric=episode_fisher solver=cg step=kl_clip": ["schedule=whole_batch"],
    "algo=ppo metric=fisher metric.samples=taken solver=kfac step=kl_clip": [
        "schedule=whole_batch schedule.epochs=1", "metric.samples=1",
    ],
    "algo=nac schedule=minibatch": ["schedule=whole_batch schedule.epochs=1"],
    "algo=nac schedule=whole_batch step=optimizer": ["step=kl_clip", "step=trust_region"],
    "algo=nac advantages.normalise=true": ["advantages.normalise=false"],
    "solver=gram damping.value=0": ["damping.value=1e-3"],
    "algo=ppo schedule.minibatch=5000": ["schedule.minibatch=null"],
    "batch_size=2049": ["batch_size=2048"],
    "env=CartPole-v1": ["env.id=CartPole-v1"],
    "metric=hessian solver=kfac": ["solver=lbfgs"],
    "metric=hessian solver=identity": ["metric=identity"],
}  # fmt: skip


@pytest.mark.parametrize("typed", ADVISED)
def test_what_a_refusal_advises_goes_through(typed):
    with pytest.raises(UserError) as refused:
        trainer(resolve(typed.split()))
    for advice in ADVISED[typed]:
        assert advice in str(refused.value)
        replaced = {text.partition("=")[0].partition(".id")[0] for text in advice.split()}
        kept = [text for text in typed.split() if text.partition("=")[0] not in replaced]
        trainer(resolve([*kept, *advice.split()])).collector.close()


@pytest.mark.parametrize(
    "typed, whole",
    [
        ("total_steps=8.192e3 batch_size=1.024e3", {"total_steps": 8192, "batch_size": 1024, "updates": 8}),
        ("seed=1e2 env.num_envs=1.6e1", {"seed": 100, "env.num_envs": 16}),
        ("critic.schedule.epochs=2e0 gamma=1e0", {"critic.schedule.epochs": 2, "gamma": 1.0}),
        ("algo=ppo scheduler.total_iters=7e0 optimizer.lr=1e0", {"step.scheduler.total_iters": 7, "step.optimizer.lr": 1.0}),
    ],
)  # fmt: skip
def test_a_whole_number_may_be_typed_as_1e5(typed, whole):
    config = resolve(typed.split())
    found = {place: at(config, place) for place in whole}
    assert repr(found) == repr(whole)  # 1 is not 1.0


NO_EFFECT = {
    "updates=5": "updates follows from total_steps and batch_size",
    "observations.normalise=false observations.clip=3": "observations.clip has no effect with observations.normalise=false",
    "rewards.scale=false rewards.clip=3": "rewards.clip has no effect with rewards.scale=false",
    "averaging.decay=0.5": "averaging.decay has no effect with averaging.kind=none",
    "averaging.kind=uniform averaging.decay=0.5": "averaging.decay has no effect with averaging.kind=uniform",
    "metric.seed=3": "metric.seed has no effect with metric.samples=null",
    "critic.metric=fisher critic.solver=cg critic.metric.seed=3": "critic.metric.seed has no effect with critic.metric.samples=",
    "solver.decay=0.5": "solver.decay has no effect with solver.start=cold",
    "solver=diagonal solver.draws=3": "solver.draws has no effect with solver.method=exact",
    "solver=diagonal solver.seed=3": "solver.seed has no effect with solver.method=exact",
    "algo=ppo critic.schedule.minibatch=4096": "critic.schedule.minibatch=4096 is more than batch_size=2048",
}  # fmt: skip


@pytest.mark.parametrize("typed", NO_EFFECT)
def test_what_has_no_effect_beside_another_value_is_refused(typed):
    with pytest.raises(UserError, match=NO_EFFECT[typed]):
        resolve(typed.split())


def test_what_has_an_effect_beside_another_value_goes_through():
    for typed in (
        "averaging.kind=ema averaging.decay=0.5", "metric.samples=2 metric.seed=3", "solver.start=warm solver.decay=0.5",
        "solver=diagonal solver.method=hutchinson solver.draws=3 solver.seed=1", "solver=low_rank solver.seed=3",
        "algo=ppo batch_size=40", "observations.clip=3 rewards.clip=3", "algo=ppo schedule.minibatch=2048",
    ):  # fmt: skip
        config = resolve(typed.split())
        for option, _, value in (text.partition("=") for text in typed.split() if "." in text):
            group, name = option.split(".")
            assert str(config[group][name]) == value


@pytest.mark.parametrize(
    "typed, said",
    [
        ("lr=3", "there is no option lr; did you mean optimizer.lr or critic.optimizer.lr?"),
        ("env=CartPole-v1", "no such env (did you mean cartpole?); env is one of"),
        ("env=cartpol", "lunar_lander, mountain_car_continuous, pendulum, reacher, swimmer, walker2d\n"),
        ("critic.damping=levenberg_marquardt", "so critic.metric must be fisher, ggn or hessian, or critic.damping "),
        ("solver=power", "it needs metric=gradient_history. "),
        ("critic.metric=fisher critic.solver=identity", "it needs critic.metric=identity. "),
        ("env.id=FrozenLake-v1 observations.normalise=true", "observations.normalise=true has no effect: FrozenLake-v1"),
        ("critic.compatible.ridge=1", "it is an option of critic=episodic and critic=lstd"),
        *((f"--cfg {name}", "such as --cfg algo=ppo") for name in ("job", "all")),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("elsewhere")
def test_a_message_says_what_to_type(run, typed, said):
    code, out, err = run("train", *typed.split())
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1

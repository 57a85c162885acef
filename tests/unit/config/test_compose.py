"""Who wins where several say what an option is: presets and recipes, choices that are typed, options that are typed."""

from typing import Any

import pytest
import yaml

from rlopt.config import choices as catalogue
from rlopt.config.compose import _with_usual_dampings, compose
from rlopt.config.saved import load
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
    config, usual = compose(["algo=ppo", f"{where}schedule=whole_batch"]), compose(["algo=ppo"])
    assert at(config, f"{where}schedule") == in_file("schedule", "whole_batch")
    other = "schedule" if where else "critic.schedule"
    assert at(config, other) == at(usual, other)
    assert at(usual, other)["minibatch"] == 64


@pytest.mark.parametrize("choice", ["adadelta", "nesterov", "sgd"])
def test_an_optimizer_that_is_typed_has_its_own_values(choice):
    config = compose(["algo=vpg", f"optimizer={choice}", "optimizer.weight_decay=0.5"])
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
        ("algo=nac env=lqr critic=episodic", "critic.compatible", {"degrees": [0], "ridge": 0.1}),
        ("algo=nac env=lqr critic=mlp", "critic", {"compatible": None}),
        ("env=halfcheetah policy=linear", "policy", {"initial_sigma": 1.0}),
        ("algo=acktr solver=cg solver.preconditioner=kfac", "solver.preconditioner", {"measure": 1}),
        ("experiment=bench_trpo solver=dense damping.value=2", "damping", {"value": 2}),
        ("experiment=bench_npg critic.schedule=minibatch", "critic.schedule", {"epochs": 10, "minibatch": 128}),
    ],
)
def test_a_choice_other_than_the_presets_has_its_own_values(typed, place, values):
    found = at(compose(typed.split()), place)
    assert {name: found[name] for name in values} == values


ADAGRAD = "metric=gradient_history solver=power"


@pytest.mark.parametrize(
    "typed, value, critics",
    [
        (ADAGRAD, 1e-8, 0.1),
        (f"algo=acktr {ADAGRAD} step=fixed", 1e-8, 0.1),  # a solver that is typed is stronger than the preset's damping
        (f"{ADAGRAD} damping.value=3", 3, 0.1),
        (f"{ADAGRAD} damping=constant", 0.1, 0.1),
        (f"{ADAGRAD} damping=acktr", 0.01, 0.1),
        ("critic.metric=gradient_history critic.solver=power critic.step=fixed", 0.1, 1e-8),
        ("experiment=bench_trpo", 0.1, 0.1),
    ],
)
def test_a_solver_brings_its_usual_damping_unless_one_is_typed(typed, value, critics):
    config = compose(typed.split())
    assert (config["damping"]["value"], config["critic"]["damping"]["value"]) == (value, critics)
    assert "usual_damping" not in {**config["solver"], **config["critic"]["solver"]}


def test_a_usual_damping_goes_with_the_solver_that_is_left():
    power, cg = {"solver": "power"}, {"solver": "cg"}
    assert _with_usual_dampings([power, cg]) == [power, cg]
    assert _with_usual_dampings([cg, power]) == [cg, {"solver": "power", "damping": "adagrad"}]
    assert _with_usual_dampings([power, {"damping": "constant"}]) == [power, {"damping": "constant"}]
    assert _with_usual_dampings([{"damping": "constant"}, power])[1]["damping"] == "adagrad"


@pytest.mark.parametrize("algo", ALGOS)
def test_a_choice_that_is_the_presets_own_changes_nothing(algo):
    """All of them at once, with a recipe where there is one."""
    chosen = with_recipe(algo)
    own = own_choices(*chosen)
    assert len(own) >= 14
    assert compose([*chosen, *typed_as(own)]) == compose(chosen)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_choice_that_the_presets_variant_begins_from_is_idle(algo):
    chosen = with_recipe(algo)
    bases = {name: base for name, choice in own_choices(*chosen).items() if (base := begins_from(name, choice))}
    assert bases.keys() >= {"ppo": {"step", "critic.step", "schedule", "critic.schedule", "optimizer"}}.get(algo, set())
    usual = compose(chosen)
    assert compose([*chosen, *typed_as(bases)]) == usual
    for name, base in bases.items():
        assert compose([f"{name}={base}", *chosen]) == usual


def with_recipe(algo: str) -> tuple[str, str]:
    """The preset, on an environment with a recipe if there is one."""
    recipes = sorted((CONF / "recipe").glob(f"{algo}-*.yaml"))
    return f"algo={algo}", f"env={recipes[0].stem.partition('-')[2] if recipes else 'cartpole'}"


def own_choices(algo: str, env: str) -> dict[str, str]:
    """Name -> choice, of everything that the files of a preset and of an environment choose."""
    own = {}
    for file in ("config", env.replace("=", "/"), algo.replace("=", "/")):
        own |= {name: choice for name, choice in defaults(file).items() if name not in ("algo", "env")}
    for network in ("", "critic."):
        own |= {f"{network}{name}": choice for name, choice in defaults(f"step/{own[f'{network}step']}").items()}
    return own


def begins_from(name: str, choice: str) -> str | None:
    """The choice from which a variant begins; a critic's begin from one that is another critic."""
    text = (CONF / name.rpartition(".")[2] / f"{choice}.yaml").read_text()
    entries = yaml.safe_load(text).get("defaults", [])
    return None if name == "critic" else next((e for e in entries if isinstance(e, str) and e[0] != "_"), None)


def defaults(name: str) -> dict[str, str]:
    """Name -> choice, as a file of conf/ and those of its folder from which it begins choose."""
    chosen: dict[str, str] = {}
    for entry in yaml.safe_load((CONF / f"{name}.yaml").read_text()).get("defaults", []):
        if isinstance(entry, dict):
            ((place, choice),) = entry.items()
            group, _, key = place.removeprefix("override ").removeprefix("/").partition("@")
            chosen |= {key or group: choice} if choice else {}
        elif entry != "_self_":
            chosen |= defaults(f"{name.rpartition('/')[0]}/{entry}")
    return chosen


def typed_as(choices: dict[str, str]) -> list[str]:
    return [f"{name}={choice}" for name, choice in choices.items()]


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
    config = compose(typed.split())
    found = {place: at(config, place) for place in whole}
    assert repr(found) == repr(whole)  # 1 is not 1.0

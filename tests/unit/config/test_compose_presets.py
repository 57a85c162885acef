"""Every preset on every environment is what the files say that it is, put together here without Hydra."""

from functools import cache
from typing import Any

import pytest

from rlopt.config import read_config
from rlopt.config.choices import conf_dir, environment_with_id, own_choices
from rlopt.config.compatibility import check
from rlopt.config.compose import compose
from rlopt.config.options import OwnCritic, RunConfig
from rlopt.config.saved import load
from rlopt.envs.spec import EnvSpec
from tests.support.configurations import ALGOS, ENVS

CONF = conf_dir()
RECIPES = own_choices("recipe")
Values = dict[str, Any]
SOME_ALGOS, SOME_ENVS = ("trpo", "a2c"), ("cartpole", "pendulum", "halfcheetah", "mountain_car_continuous")


def pairs() -> list[Any]:
    """All presets on all environments; those that are alike but for the names are left to the long run."""
    found = [(algo, env) for algo in ALGOS for env in ENVS]
    few = {(a, e) for a, e in found if a in SOME_ALGOS or e in SOME_ENVS or f"{a}-{e}" in RECIPES}
    return [pytest.param(*pair, marks=() if pair in few else pytest.mark.fuzz) for pair in found]


@pytest.mark.parametrize(("algo", "env"), pairs())
def test_every_preset_on_every_environment_is_as_written(algo, env):
    config = compose([f"algo={algo}", f"env={env}"])
    assert config == written(algo, env)
    parsed = RunConfig.parse(config)
    assert (parsed.algo, parsed.recipe, parsed.env.name) == (algo, config["recipe"], env)
    assert isinstance(parsed.env, EnvSpec) and isinstance(parsed.critic, OwnCritic)
    assert parsed.plain == config
    check(parsed)
    assert config["env"]["name"] == env and config["batch_size"] % config["env"]["num_envs"] == 0


def written(algo: str, env: str) -> Values:
    """The files of config.yaml's choices, of the environment's and of the preset's; then the recipe, if there is one."""
    config, chosen = {}, {}
    for name in ("config", f"env/{env}", f"algo/{algo}"):
        chosen.update(choices_in(name))
    merge(config, values_in("config"))
    for name, choice in chosen.items():
        if name not in ("env", "algo"):
            merge(config, nested(name, part(name.rpartition(".")[2], choice)))
    merge(config, values_in(f"env/{env}"))
    merge(config, values_in(f"algo/{algo}"))
    recipe = f"{algo}-{env}" if f"{algo}-{env}" in RECIPES else None
    for name, value in recipe_values(recipe).items():
        network = "critic." if name.startswith("critic.") else ""
        rest = name.removeprefix(network)
        merge(config, nested(f"{network}step.{rest}" if rest.startswith("optimizer.") else name, value))
    config |= {"recipe": recipe, "updates": -(-config["total_steps"] // config["batch_size"])}
    return with_references(config, config)


def part(group: str, choice: str) -> Values:
    """The values of a choice, on those of the choice that it begins from and those of what it chooses itself."""
    values: Values = {}
    for entry in entries_of(f"{group}/{choice}"):
        if isinstance(entry, str) and entry != "_self_":
            merge(values, part(group, entry))
    for name, inner in choices_in(f"{group}/{choice}").items():
        values[name] = part(name, inner)
    return merge(values, values_in(f"{group}/{choice}"))


def choices_in(name: str) -> dict[str, str]:
    """What a file chooses: name -> choice."""
    chosen = {}
    for entry in entries_of(name):
        if isinstance(entry, dict):
            ((place, choice),) = entry.items()
            group, _, key = place.removeprefix("override ").removeprefix("/").partition("@")
            chosen |= {key or group: choice} if choice else {}
    return chosen


def entries_of(name: str) -> list[Any]:
    return list(raw(name).get("defaults", []))


def values_in(name: str) -> Values:
    return {key: value for key, value in raw(name).items() if key != "defaults"}


@cache
def raw(name: str) -> Values:
    return load(CONF / f"{name}.yaml")


def recipe_values(name: str | None) -> Values:
    """Option -> value of a recipe, and of the one that it adds to."""
    if name is None:
        return {}
    values = values_in(f"recipe/{name}")
    return {**recipe_values(values.pop("recipe", None)), **values}


def nested(name: str, value: Any) -> Values:
    for key in reversed(name.split(".")):
        value = {key: value}
    return value


def merge(into: Values, values: Values) -> Values:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = merge({}, value) if isinstance(value, dict) else value
    return into


def with_references(value: Any, config: Values) -> Any:
    """${updates} and ${gamma} as the values of those options."""
    if isinstance(value, dict):
        return {key: with_references(inner, config) for key, inner in value.items()}
    return config[value[2:-1]] if isinstance(value, str) and value.startswith("${") else value


# --- recipes, environments and experiments by their names


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_and_may_be_left_out(name):
    algo, _, env = name.partition("-")
    chosen = [f"algo={algo}", f"env={env}"]
    usual, without = compose(chosen), compose([*chosen, "recipe=null"])
    assert (usual["recipe"], without["recipe"]) == (name, None)
    assert usual != compose([*chosen, "recipe=none"]) == without
    assert compose([*chosen, f"recipe={name}"]) == compose([*chosen, "recipe=auto"]) == usual


def test_a_recipe_of_another_pair_may_be_named():
    config = compose(["algo=npg", "env=pendulum", "recipe=trpo-hopper"])
    assert (config["recipe"], config["step"]["radius"], config["gamma"]) == ("trpo-hopper", 0.04, 0.99)


@pytest.mark.parametrize("env", ENVS)
def test_an_environments_id_gives_the_same_as_its_name(env):
    by_name = compose([f"env={env}", "algo=trpo"])
    assert compose(["algo=trpo", f"env.id={by_name['env']['id']}"]) == by_name
    assert environment_with_id(by_name["env"]["id"]) == env


def test_an_id_without_a_file_has_no_recipe():
    config = compose(["env.id=Walker2d-v4", "algo=trpo"])
    assert config["env"]["name"] == config["env"]["id"] == "Walker2d-v4"
    assert config["recipe"] is None and config["step"]["radius"] == 0.01


@pytest.mark.parametrize("name", own_choices("experiment"))
def test_an_experiment_is_of_its_preset_and_environment(name):
    config, values = compose([f"experiment={name}"]), values_in(f"experiment/{name}")
    assert config["experiment"] == name
    assert config["algo"] == values.get("algo", "trpo") == (name.removeprefix("bench_") if "bench" in name else "trpo")
    assert config["env"]["name"] == values["env"]
    for option in values.keys() & config.keys() - {"env", "algo", "policy", "recipe"}:
        assert config[option] == values[option]


def test_what_is_typed_wins_over_an_experiment_and_a_recipe():
    config = compose(["step.radius=0.5", "experiment=bench_trpo", "batch_size=512", "env=hopper"])
    assert (config["step"]["radius"], config["batch_size"], config["env"]["name"]) == (0.5, 512, "hopper")
    assert config["solver"]["iterations"] == 15 and config["recipe"] == "trpo-hopper"
    assert compose(["experiment=bench_trpo"])["step"]["radius"] == 0.01  # of the recipe's .04


def test_a_run_keeps_the_names_of_its_recipe_and_what_was_typed():
    config = read_config(["env=halfcheetah", "optimizer.lr=0.1", "algo=a2c"])
    assert config.recipe == "a2c-halfcheetah"
    assert config.typed == {"env", "step.optimizer.lr", "algo"}
    assert config.plain["step"]["optimizer"]["lr"] == 0.1

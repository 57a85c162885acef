"""What is typed stands above presets and recipes, in one's own spelling or Hydra's; what has no effect is an error."""

from typing import Any

import pytest

from rlopt.config.overrides import (
    MOST_CHECKED,
    check_once,
    check_several,
    from_sweeper,
    parse,
    read_overrides,
    runs_to_check,
    to_sweeper,
)
from rlopt.core.heads import Value
from rlopt.errors import UserError
from tests.support.building import resolve, trainer
from tests.support.configurations import SMALL


@pytest.mark.parametrize(
    "where, value, overrides",
    [
        ("optimizer.lr", 0.123, ["algo=ppo", "*"]),
        ("optimizer.lr", 0.123, ["*", "algo=ppo"]),
        ("batch_size", 4096, ["algo=vpg", "*"]),
        ("critic.schedule.epochs", 3, ["algo=ppo", "*"]),
        ("env.num_envs", 32, ["*", "algo=ppo", "env=halfcheetah"]),
        ("policy.initial_sigma", 0.9, ["env=halfcheetah", "*"]),
        ("step.radius", 0.5, ["algo=trpo", "*", "env=halfcheetah"]),
    ],
)
def test_the_command_line_wins_over_presets_and_recipes(where, value, overrides):
    config = resolve([f"{where}={value}" if override == "*" else override for override in overrides])
    place = f"step.{where}" if where.startswith("optimizer.") else where
    found: Any = config
    for key in place.split("."):
        found = found[key]
    assert found == value


def test_a_recipe_applies_only_to_its_preset_and_environment():
    assert resolve(["algo=trpo", "env=halfcheetah"])["step"]["radius"] == 0.04
    assert resolve(["algo=npg", "env=hopper"])["step"]["radius"] == 0.01
    assert resolve(["algo=trpo", "env=cartpole"])["step"]["radius"] == 0.01


@pytest.mark.parametrize(
    "typed, found",
    [
        ("metric=fisher", {"metric": "fisher"}),
        ("critic.metric=fisher", {"critic.metric": "fisher"}),
        ("metric@critic.metric=fisher", {"critic.metric": "fisher"}),
        ("optimizer=sgd", {"step.optimizer": "sgd"}),
        ("step.optimizer=sgd", {"step.optimizer": "sgd"}),
        ("critic.optimizer=sgd", {"critic.step.optimizer": "sgd"}),
        ("critic.optimizer.weight_decay=0.1", {"critic.step.optimizer.weight_decay": 0.1}),
        ("optimizer.lr=0.1", {"step.optimizer.lr": 0.1}),
        ("critic.scheduler=linear", {"critic.step.scheduler": "linear"}),
        ("critic.step.max_norm=0.5", {"critic.step.max_norm": 0.5}),
        ("critic.hidden=[8]", {"critic.hidden": [8]}),
        ("env.id=MountainCar-v0", {"env": "any", "env.id": "MountainCar-v0"}),
        ("env.id=CartPole-v1", {"env": "cartpole", "env.id": "CartPole-v1"}),
        ("env.kwargs.gravity=5", {"env.kwargs.gravity": 5}),
        ("solver.preconditioner=kfac", {"solver.preconditioner": "kfac"}),
        ("critic.solver.preconditioner=none", {"critic.solver.preconditioner": None}),
        ("recipe=null", {"recipe": None}),
        ("run_dir='1e3'", {"run_dir": "1e3"}),
    ],
)  # fmt: skip
def test_what_is_typed_has_a_full_name(typed, found):
    assert read_overrides([typed]) == found


@pytest.mark.parametrize(
    "typed",
    ["critic.metric=fisher,identity", "critic.optimizer.weight_decay=0.1,0.2", "solver.preconditioner=none,kfac", "seed=1",
     "env=cartpole", "step.radius=range(1,3)", "critic.hidden=[8]", "run_dir='a b'"],
)  # fmt: skip
def test_a_sweeper_is_given_plain_entries_and_gives_them_back(typed):
    given = to_sweeper(parse(typed))
    assert given.startswith("+") and "." not in given.partition("=")[0] and "@" not in given
    assert from_sweeper(given.removeprefix("+")) == typed
    assert from_sweeper(to_sweeper(parse("metric@critic.metric=fisher"))) == "critic.metric=fisher"


@pytest.mark.parametrize(
    "typed, runs",
    [
        ("seed=0,1 metric=fisher,ggn", ["seed=0 metric=fisher", "seed=0 metric=ggn"]),
        ("env.id=A-v0,B-v0 gamma=1,0.9", ["env.id=A-v0 gamma=1", "env.id=B-v0 gamma=1"]),
        ("critic.step=fixed,armijo optimizer=sgd,adam hydra/launcher=joblib",
         ["critic.step=fixed optimizer=sgd", "critic.step=fixed optimizer=adam", "critic.step=armijo optimizer=sgd",
          "critic.step=armijo optimizer=adam"]),
        ("seed=range(3,5) batch_size=8", ["seed=3 batch_size=8"]),
        ("hydra/sweeper=optuna gamma=interval(0.9,1) metric=fisher,ggn", ["gamma=0.9 metric=fisher"]),
    ],
)  # fmt: skip
def test_a_run_for_each_combination_of_choices(typed, runs):
    assert [" ".join(run) for run in runs_to_check(typed.split())[0]] == runs


def test_runs_that_differ_in_values_are_checked_too():
    _, others = runs_to_check(["seed=0,1", "metric=fisher,ggn", "gamma=0.9"])
    assert [" ".join(run) for run in others] == ["seed=1 metric=fisher gamma=0.9", "seed=1 metric=ggn gamma=0.9"]
    by_choice, others = runs_to_check(
        ["seed=range(20)", "gamma=0.9,0.99,1", "batch_size=range(8,80,8)", "algo=ppo,trpo"]
    )
    assert len(by_choice) == 2 and len(others) == 19 + 2 + 8
    assert ["seed=0", "gamma=1", "batch_size=8", "algo=ppo"] in others
    assert len(runs_to_check(["seed=range(100000)"])[1]) == MOST_CHECKED


@pytest.mark.parametrize("typed", ["seed=range(0)", "seed=range(5,1)", "seed=choice()"])
def test_several_values_that_are_none_are_refused(typed):
    with pytest.raises(UserError, match="holds no value|cannot read"):
        check_several([typed])


@pytest.mark.parametrize("twice", [["seed=1", "seed=1"], ["optimizer.lr=0.1", "step.optimizer.lr=0.2"],
                                   ["critic.metric=fisher", "metric@critic.metric=ggn"], ["seed=1", "+seed=2"]])  # fmt: skip
def test_an_option_that_is_given_twice_is_refused(twice):
    with pytest.raises(UserError, match="is given twice: .* and .*; leave one out"):
        check_once(twice)
    check_once([twice[0], "critic.optimizer.lr=0.1", "hydra/launcher=joblib"])


def test_options_of_hydra_reach_a_sweeper_as_they_are():
    for typed in ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"):
        assert to_sweeper(parse(typed)) == typed


def test_the_critics_parts_are_chosen_like_the_actors():
    config = resolve(
        ["critic.metric=fisher", "critic.solver=dense", "critic.step=trust_region", "critic.damping.value=2"]
    )
    assert config["critic"]["metric"]["_target_"].endswith("fisher.Fisher")
    assert config["critic"]["solver"]["_target_"].endswith("dense.Dense")
    assert config["critic"]["damping"]["value"] == 2
    assert config["metric"] == config["critic"]["metric"]  # trpo's own
    assert config["solver"]["_target_"].endswith("cg.CG")


def test_an_environment_id_alone_chooses_any_environment():
    config = resolve(["env.id=MountainCar-v0"])
    assert (config["env"]["name"], config["env"]["id"]) == ("MountainCar-v0", "MountainCar-v0")


def test_an_optimizer_may_have_any_option_of_torch():
    config = resolve(
        ["algo=ppo", "optimizer.weight_decay=0.1", "critic.optimizer=sgd", "critic.optimizer.dampening=0.5"]
    )
    assert config["step"]["optimizer"]["weight_decay"] == 0.1
    assert config["critic"]["step"]["optimizer"]["dampening"] == 0.5
    trainer(config).collector.close()


def test_preset_values_for_parts_not_chosen_are_dropped():
    config = resolve(["algo=ppo", "step=fixed", "objective=surrogate", "critic.step=fixed"])
    constant = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0, "total_iters": 1}
    assert config["step"] == {"_target_": "rlopt.core.steps.fixed.Fixed", "rate": 0.01, "scheduler": constant}
    assert config["critic"]["step"] == config["step"]
    assert "clip" not in config["objective"]
    trainer(config).collector.close()
    recipe = resolve(["algo=trpo", "env=halfcheetah", "step=fixed"])
    assert recipe["step"] == config["step"]


@pytest.mark.parametrize(
    "overrides, named",
    [
        (["algo=ppo", "step=fixed", "step.max_norm=0.5"], "step.max_norm"),
        (["algo=ppo", "step=fixed", "optimizer.lr=0.5"], "optimizer.lr"),
        (["algo=ppo", "step=fixed", "optimizer=sgd"], "optimizer"),
        (["algo=ppo", "critic.step=fixed", "critic.optimizer.lr=0.5"], "critic.optimizer.lr"),
        (["algo=ppo", "critic.step=fixed", "critic.step.max_norm=1"], "critic.step.max_norm"),
        (["algo=trpo", "env=halfcheetah", "step=fixed", "step.radius=0.1"], "step.radius"),
        (["algo=trpo", "objective.clip=0.2"], "objective.clip"),
        (["algo=trpo", "solver=dense", "solver.iterations=3"], "solver.iterations"),
    ],
)
def test_the_same_values_typed_are_errors(overrides, named):
    with pytest.raises(UserError, match=rf"{named} has no effect"):
        resolve(overrides)


def test_the_critics_head_has_the_variance_of_the_configuration():
    run = trainer(resolve([*SMALL, "critic.variance=4"]))
    run.collector.close()
    assert run.agent.critic.update.head == Value(4.0)

"""Every choice, preset, recipe and experiment composes, and learns where it can."""

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
import torch

from rlopt.config import choices as catalogue
from rlopt.config.compose import compose
from rlopt.config.saved import read_choice
from rlopt.errors import UserError
from tests.support.building import resolve, trainer
from tests.support.configurations import (
    ALGOS,
    ENVS,
    ESTIMATORS,
    GROUPS,
    NEEDED,
    OF_STEPS,
    PARTS,
    SMALL,
    WHERE,
    learns_once,
    load_part,
    small_config,
)


def settings_with(where: str, group: str, choice: str) -> Iterator[dict[str, Any]]:
    """The parts of an update of which ``choice`` is one, the others being all that there are."""
    objective = "value" if where else "surrogate"
    inside = {group: choice} if group in OF_STEPS else {}
    fixed = {"objective": objective, "damping": "constant", "schedule": "whole_batch"}
    fixed |= {"step": "optimizer"} if group in OF_STEPS else {group: choice}
    searched = [g for g in LIKELY_FIRST if g not in fixed]
    for names in itertools.product(*(likely_first(g) for g in searched)):
        chosen = fixed | dict(zip(searched, names, strict=True))
        yield {g: load_part(g, name, **inside) for g, name in chosen.items()}


LIKELY_FIRST = {"step": ["fixed"], "solver": ["identity", "cg"], "metric": ["identity", "fisher"]}


def likely_first(group: str) -> list[str]:
    """The group's choices, those that suit most others first."""
    first = LIKELY_FIRST[group]
    return [*first, *(name for name in GROUPS[group] if name not in first)]


@pytest.mark.parametrize("group, choice", [(g, c) for g in catalogue.UPDATE_GROUPS for c in GROUPS[g]])
@pytest.mark.parametrize("where", WHERE)
def test_every_part_learns_or_is_refused_for_a_reason(where, group, choice):
    if group == "objective" and (choice == "value") != bool(where):
        with pytest.raises(UserError, match=f"{where}objective={choice} is for the"):
            trainer(small_config(where, {"objective": load_part("objective", choice)}))
        return
    if (where, choice) == ("critic.", "compatible"):
        with pytest.raises(UserError, match="critic.solver=compatible cannot serve .* critic=lstd gives the policy"):
            trainer(small_config(where, next(settings_with(where, group, choice))))
        return
    for parts in settings_with(where, group, choice):
        try:
            assert learns_once(small_config(where, parts))
            return
        except UserError as error:
            assert any(f"{where}{g}" in str(error) for g in catalogue.UPDATE_GROUPS), error
            assert "\n" not in str(error)
    pytest.fail(f"{where}{group}={choice} is refused everywhere")


@pytest.mark.parametrize("groups", [PARTS, OF_STEPS], ids=["parts", "of steps"])
def test_every_choice_of_every_group_composes_by_its_name(groups):
    """As many compositions as the largest group has choices; each takes one from every group, the critic the next."""
    for i in range(max(len(GROUPS[group]) for group in groups)):
        names = {
            (where, group): GROUPS[group][(i + shift) % len(GROUPS[group])]
            for shift, where in enumerate(WHERE) for group in groups
        }  # fmt: skip
        typed = [f"{where}{group}={name}" for (where, group), name in names.items()]
        config = compose(typed if groups == PARTS else ["step=optimizer", "critic.step=optimizer", *typed])
        for (where, group), name in names.items():
            node = config["critic"] if where else config
            expected = read_choice(group, name)
            found = node["step"][group] if group in OF_STEPS else node[group]
            assert found.get("_target_") == expected.get("_target_")
            assert found.keys() == expected.keys()


SEE_NUMBERS = [(g, c) for g in ("policy", "critic") for c in GROUPS[g] if "cnn" not in c]  # which have their own tests


@pytest.mark.parametrize("group, choice", SEE_NUMBERS)
@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_every_network_learns(group, choice, env):
    small = [option for option in SMALL if choice != "shared" or not option.startswith("critic.")]
    assert learns_once(resolve([*small, *NEEDED.get(choice, []), f"{group}={choice}", f"env={env}"]))


@pytest.mark.parametrize("choice", ESTIMATORS)
@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_every_estimator_moves_the_policy(choice, env):
    config = resolve([*SMALL, "algo=vpg", "advantages.normalise=false", f"estimator={choice}", f"env={env}"])
    run = trainer(config)
    theta, moved = run.state["actor"]["theta"].clone(), []
    for _ in range(6):
        run.state, result = run.agent.learn(
            run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches
        )
        assert result.failure is None
        moved.append(not torch.equal(run.state["actor"]["theta"], theta))
        theta = run.state["actor"]["theta"].clone()
    run.collector.close()
    assert moved == [i + 1 >= config["estimator"].get("batches", 1) for i in range(6)]


@pytest.mark.parametrize("env", ENVS)
def test_every_environment_is_there_and_steps(env):
    config = resolve([f"algo={ALGOS[0]}", f"env={env}"])
    assert gym.spec(config["env"]["id"])
    run = trainer(config | {"batch_size": 8, "env": config["env"] | {"num_envs": 2}})
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    assert batch.inputs.isfinite().all() and batch.steps == 8


@pytest.mark.parametrize("algo", ALGOS)
def test_every_preset_learns_on_discrete_and_continuous_actions(algo):
    for env in ("cartpole", "pendulum"):
        assert learns_once(resolve([*SMALL, *NEEDED.get(algo, []), f"algo={algo}", f"env={env}"]))


@pytest.mark.parametrize("name", [path.stem for path in (catalogue.conf_dir() / "recipe").glob("*.yaml")])
def test_every_recipe_names_preset_and_environment_and_adds(name):
    algo, _, env = name.partition("-")
    assert algo in ALGOS and env in ENVS
    assert resolve([f"algo={algo}", f"env={env}"]) != resolve([f"algo={algo}", f"env={env}", "recipe=null"])


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_every_experiment_builds(name):
    run = trainer(resolve([f"experiment={name}"]))
    run.collector.close()
    assert run.config.total_steps > 0


def test_a_choice_has_a_line_of_explanation():
    for group, choice in ((g, c) for g, names in GROUPS.items() for c in names):
        assert catalogue.described(group, choice), f"{group}={choice}"

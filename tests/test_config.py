import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
import yaml

from rlopt import catalogue
from rlopt.assemble import learner, trainer
from rlopt.build import load, resolve, to_yaml
from rlopt.core.heads import Categorical, DiagonalGaussian, Value
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.errors import UserError
from rlopt.overrides import rewritten
from rlopt.policy.networks import MLP

GROUPS = catalogue.groups()
ALGOS, ENVS = GROUPS["algo"], [env for env in GROUPS["env"] if env != "any"]
PARTS = ["objective", "metric", "solver", "damping", "step", "schedule"]
OF_STEPS = ["optimizer", "scheduler"]  # they stand inside step=optimizer
SMALL = ["env.num_envs=2", "batch_size=20", "policy.hidden=[4]", "critic.hidden=[4]"]
WHERE = ["", "critic."]
# options without which a critic, or a preset that has it, cannot be used here
NEEDED = {"lstd": ["advantages.normalise=false"], "episodic": ["advantages.normalise=false", "batch_size=1200"]}
NEEDED["enac"] = NEEDED["episodic"]


def learns_once(config: dict[str, Any]) -> bool:
    """Whether one update goes through and changes the last network that learns."""
    run = trainer(config)
    last = list(run.agent.learners)[-1]
    before = run.state[last]["theta"].clone()
    try:
        state, lesson = run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
    finally:
        run.collector.close()
    return lesson.failure is None and not torch.equal(state[last]["theta"], before)


def load_part(group: str, choice: str, **inside: str) -> dict[str, Any]:
    """What a choice's file holds; ``inside`` names the optimizer and scheduler of a step."""
    values = {k: 5 if v == "${updates}" else v for k, v in yaml.safe_load(_text(group, choice)).items()}
    chosen = {"optimizer": "adam", "scheduler": "constant"} | inside
    return {k: load_part(k, chosen[k]) if group == "step" and k in chosen else v for k, v in values.items()}


@cache
def _text(group: str, choice: str) -> str:
    return to_yaml(load(catalogue.conf_dir() / group / f"{choice}.yaml"))


@cache
def _small() -> str:
    return to_yaml(resolve([*SMALL, "schedule.minibatch=10", "schedule.epochs=1", "algo=npg"]))


def small_config(where: str, parts: dict[str, Any]) -> dict[str, Any]:
    """A small run's configuration with these parts in the actor's place or the critic's."""
    config = yaml.safe_load(_small())
    (config["critic"] if where else config).update(parts)
    if "compatible" in parts.get("solver", {}).get("_target_", ""):  # its direction is that of such a critic
        config["critic"]["compatible"] = yaml.safe_load(_text("critic", "lstd"))["compatible"]
        config["advantages"]["normalise"] = False
    return config


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
def test_every_part_learns_somewhere_and_is_refused_for_a_reason_elsewhere(where, group, choice):
    if group == "objective" and (choice == "value") != bool(where):
        with pytest.raises(UserError, match=f"{where}objective={choice} is for the"):
            trainer(small_config(where, {"objective": load_part("objective", choice)}))
        return
    if (where, choice) == ("critic.", "compatible"):
        with pytest.raises(
            UserError, match="critic.solver=compatible cannot serve .* critic=episodic gives the policy"
        ):
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
        config = resolve(typed if groups == PARTS else ["step=optimizer", "critic.step=optimizer", *typed])
        for (where, group), name in names.items():
            node = config["critic"] if where else config
            expected = load(catalogue.conf_dir() / group / f"{name}.yaml")
            found = node["step"][group] if group in OF_STEPS else node[group]
            assert found.get("_target_", found.get("name")) == expected.get("_target_", expected.get("name"))
            assert found.keys() == expected.keys()


SEE_NUMBERS = [(g, c) for g in ("policy", "critic") for c in GROUPS[g] if c != "nature_cnn"]  # which has its own tests


@pytest.mark.parametrize("group, choice", SEE_NUMBERS)
@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_every_network_learns(group, choice, env):
    small = [option for option in SMALL if choice != "shared" or not option.startswith("critic.")]
    assert learns_once(resolve([*small, *NEEDED.get(choice, []), f"{group}={choice}", f"env={env}"]))


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("algo", ALGOS)
def test_every_preset_composes_with_every_environment_and_every_environment_steps(algo, env):
    config = resolve([f"algo={algo}", f"env={env}"])
    assert config["algo"] == algo
    assert config["env"]["name"] == env
    assert gym.spec(config["env"]["id"])
    assert config["batch_size"] % config["env"]["num_envs"] == 0
    if algo == ALGOS[0]:
        run = trainer(config | {"batch_size": 8, "env": config["env"] | {"num_envs": 2}})
        batch = run.collector.collect(run.agent.policy(run.state))
        run.collector.close()
        assert batch.inputs.isfinite().all() and batch.steps == 8


@pytest.mark.parametrize("algo", ALGOS)
def test_every_preset_learns_on_discrete_and_continuous_actions(algo):
    for env in ("cartpole", "pendulum"):
        assert learns_once(resolve([*SMALL, *NEEDED.get(algo, []), f"algo={algo}", f"env={env}"]))


@pytest.mark.parametrize("name", [path.stem for path in (catalogue.conf_dir() / "recipe").glob("*.yaml")])
def test_every_recipe_is_for_a_preset_and_an_environment_and_changes_something(name):
    algo, _, env = name.partition("-")
    assert algo in ALGOS and env in ENVS
    assert resolve([f"algo={algo}", f"env={env}"]) != resolve([f"algo={algo}", f"env={env}", "recipe=null"])


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_every_experiment_builds(name):
    run = trainer(resolve([f"experiment={name}"]))
    run.collector.close()
    assert run.plan.total_steps > 0


def test_a_choice_has_a_name_and_a_line_of_explanation_or_an_option():
    for group, choice in ((g, c) for g, names in GROUPS.items() for c in names):
        described = catalogue.described(group, choice)
        assert described or group in ("optimizer", "scheduler"), f"{group}={choice}"


def update_of(config: dict[str, Any], head: Any) -> Any:
    module = MLP((4,), "tanh", True, 1.0, 1.0).build(3, head.network_outputs, torch.Generator().manual_seed(0))
    network = Network(module.double(), head.constants)
    return network, learner(config, network, head, where="")


def samples_for(head: Any, network: Network, theta: torch.Tensor) -> Samples:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    z = network.outputs(theta, inputs)
    noise = torch.rand(24, head.noise_size, generator=generator, dtype=torch.float64)
    actions = head.sample(z, noise)
    advantages = torch.randn(24, generator=generator, dtype=torch.float64)
    weight = torch.ones(24, dtype=torch.float64)
    step = torch.arange(24)
    return Samples(inputs, actions, weight, advantages, z, head.log_prob(z, actions), step % 8, step // 8)


HEADS = {"categorical": Categorical(3), "gaussian": DiagonalGaussian(2), "sigma": DiagonalGaussian(2, scale="sigma")}
BASE = {"objective": "surrogate", "metric": "fisher", "solver": "cg", "damping": "constant", "step": "trust_region",
        "schedule": "whole_batch"}  # fmt: skip


@pytest.mark.parametrize(
    "head, pair",
    [
        *(("sigma", (part, "step")) for part in PARTS if part != "step"),
        *(("sigma", (part, "metric")) for part in PARTS if part not in ("metric", "step")),
        ("gaussian", ("metric", "solver")),
        ("categorical", ("metric", "solver")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_every_pair_of_parts_takes_a_finite_step_or_is_refused(head, pair):
    built, head = 0, HEADS[head]
    for names in itertools.product(*(GROUPS[group] for group in pair)):
        chosen = BASE | dict(zip(pair, names, strict=True))
        try:
            network, made = update_of({g: load_part(g, name, optimizer="sgd") for g, name in chosen.items()}, head)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        theta = network.layout.flatten(network.module, head.initial_constants()).double()
        samples = samples_for(head, network, theta)
        after, state, _ = made.run(theta.clone(), made.init(theta), samples, torch.Generator().manual_seed(0), 1)
        assert after.isfinite().all(), names
        assert made.advance(state).keys() == state.keys()
        built += 1
    assert built > 0


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
def test_the_command_line_wins_over_presets_and_recipes_wherever_it_stands(where, value, overrides):
    config = resolve([f"{where}={value}" if override == "*" else override for override in overrides])
    place = f"step.{where}" if where.startswith("optimizer.") else where
    found: Any = config
    for key in place.split("."):
        found = found[key]
    assert found == value


def test_a_recipe_is_taken_up_only_for_its_preset_and_environment():
    assert resolve(["algo=trpo", "env=halfcheetah"])["step"]["radius"] == 0.04
    assert resolve(["algo=npg", "env=halfcheetah"])["step"]["radius"] == 0.01
    assert resolve(["algo=trpo", "env=cartpole"])["step"]["radius"] == 0.01


@pytest.mark.parametrize(
    "typed, spelled",
    [
        ("critic.metric=fisher", ["metric@critic.metric=fisher"]),
        ("critic.metric=fisher,identity", ["metric@critic.metric=fisher,identity"]),
        ("critic.optimizer=sgd", ["optimizer@critic.optimizer=sgd"]),
        ("metric=fisher", ["metric=fisher"]),
        ("metric@critic.metric=fisher", ["metric@critic.metric=fisher"]),
        ("critic.step.max_norm=0.5", ["critic.step.max_norm=0.5"]),
        ("critic.hidden=[8]", ["critic.hidden=[8]"]),
        ("optimizer.lr=0.1", ["++optimizer.lr=0.1"]),
        ("critic.optimizer.weight_decay=0.1,0.2", ["++critic.optimizer.weight_decay=0.1,0.2"]),
        ("env.id=CartPole-v1", ["env=any", "env.id=CartPole-v1"]),
        ("env.kwargs.gravity=5", ["++env.kwargs.gravity=5"]),
        ("solver.preconditioner=kfac", ["+solver@solver.preconditioner=kfac"]),
        ("critic.solver.preconditioner=kfac", ["+solver@critic.solver.preconditioner=kfac"]),
        ("solver.preconditioner=none", ["solver.preconditioner=null"]),
        ("solver.preconditioner=none,kfac", ["++solver.preconditioner=null,kfac"]),
    ],
)
def test_overrides_are_rewritten_in_hydras_spelling(typed, spelled):
    assert rewritten([typed]) == spelled


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
    config = resolve(["env.id=Acrobot-v1"])
    assert (config["env"]["name"], config["env"]["id"]) == ("Acrobot-v1", "Acrobot-v1")


def test_an_optimizer_may_have_any_option_of_torch():
    config = resolve(
        ["algo=ppo", "optimizer.weight_decay=0.1", "critic.optimizer=sgd", "critic.optimizer.dampening=0.5"]
    )
    assert config["step"]["optimizer"]["weight_decay"] == 0.1
    assert config["critic"]["step"]["optimizer"]["dampening"] == 0.5
    trainer(config).collector.close()


def test_values_of_a_preset_for_parts_that_were_not_chosen_fall_away():
    config = resolve(["algo=ppo", "step=fixed", "objective=surrogate", "critic.step=fixed"])
    assert config["step"] == {"_target_": "rlopt.core.steps.fixed.Fixed", "rate": 0.01}
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
        (["algo=trpo", "scheduler=linear"], "scheduler"),
        (["algo=trpo", "objective.clip=0.2"], "objective.clip"),
        (["algo=trpo", "solver=dense", "solver.iterations=3"], "solver.iterations"),
    ],
)
def test_the_same_values_typed_are_errors(overrides, named):
    with pytest.raises(UserError, match=rf"{named} has no effect"):
        resolve(overrides)


@pytest.mark.parametrize(
    "overrides",
    [*([f"algo={algo}"] for algo in ALGOS), ["env=halfcheetah"], ["env=lqr"], ["env.id=Pendulum-v1", "seed=12345678901"],
     ["run_dir='1e3'"], ["run_dir=null"], ["run_dir='a b: #c'"]],
    ids=" ".join,
)  # fmt: skip
def test_a_resolved_configuration_is_plain_and_comes_back_from_its_file(tmp_path, overrides):
    config = resolve(overrides)
    assert all(type(value) in (bool, int, float, str, type(None)) for value in plain_values(config))
    assert not any("${" in value for value in plain_values(config) if isinstance(value, str))
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    again = load(path)
    assert again == config
    assert repr(again) == repr(config)  # 1 is not 1.0, and True not 1


def plain_values(node: Any) -> Iterator[Any]:
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from plain_values(inner)
    else:
        yield node


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [1\n", "\x00", "just text"])
def test_a_file_that_is_no_configuration_is_one_line_for_the_user(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="config.yaml|is missing") as caught:
        trainer(load(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lacking", ["env", "critic", "objective", "seed", "policy", "checkpoint", "evaluation", "rewards"]
)
def test_a_configuration_that_lacks_something_is_refused_by_its_name(lacking):
    config = small_config("", {})
    del config[lacking]
    with pytest.raises(UserError, match=lacking):
        trainer(config)


@pytest.mark.parametrize(
    "target",
    ["os.system", "rlopt.cli.main", "rlopt.core.checks.check", "rlopt.core.heads", "rlopt.core.none.None", 3, None],
)
def test_a_configuration_can_name_no_code_but_the_parts_of_core(target):
    with pytest.raises(UserError, match=r"metric\._target_"):
        trainer(small_config("", {"metric": {"_target_": target}}))


def test_conf_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert catalogue.conf_dir().is_absolute()
    assert resolve(["seed=3"])["seed"] == 3
    assert list(Path(tmp_path).iterdir()) == []


def test_the_critics_head_has_the_variance_of_the_configuration():
    run = trainer(resolve([*SMALL, "critic.variance=4"]))
    run.collector.close()
    assert run.agent.critic.update.head == Value(4.0)

import itertools
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from rlopt import catalogue
from rlopt.assemble import learner, trainer
from rlopt.build import load, resolve, rewritten, to_yaml
from rlopt.core.heads import Categorical, DiagonalGaussian, Value
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.errors import UserError
from rlopt.policy.networks import MLP

GROUPS = catalogue.groups()
ALGOS, ENVS = GROUPS["algo"], [env for env in GROUPS["env"] if env != "any"]
CHOICES = [(group, choice) for group in GROUPS for choice in GROUPS[group]]
SMALL = ["env.num_envs=2", "batch_size=20", "policy.hidden=[4]", "critic.hidden=[4]"]
# settings in which a choice of the actor's or the critic's groups may work; it must in at least one
SETTINGS = [
    [],
    ["metric=fisher", "solver=cg", "step=trust_region", "schedule=whole_batch"],
    ["metric=identity", "solver=identity", "step=optimizer", "schedule=minibatch"],
    ["metric=identity", "solver=identity", "step=trust_region"],
]


def updates_once(*overrides: str) -> None:
    run = trainer(resolve([*SMALL, *overrides]))
    before = run.state["critic"]["theta"].clone()
    try:
        state, lesson = run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
    finally:
        run.collector.close()
    assert lesson.failure is None
    assert not torch.equal(state["critic"]["theta"], before)


@pytest.mark.parametrize("group, choice", [(g, c) for g, c in CHOICES if g in catalogue.UPDATE_GROUPS])
@pytest.mark.parametrize("where", ["", "critic."])
def test_every_part_learns_in_some_setting_and_is_refused_for_a_reason_in_others(where, group, choice):
    chosen, refusals = f"{where}{group}={choice}", []
    for setting in SETTINGS:
        others = [f"{where}{override}" for override in setting if not override.startswith(f"{group}=")]
        try:
            updates_once(*others, chosen)
            break
        except UserError as error:
            refusals.append(str(error))
    assert all(f"{where}{group}" in message for message in refusals), refusals
    misplaced = group == "objective" and (choice == "value") != (where == "critic.")
    assert (len(refusals) == len(SETTINGS)) == misplaced, refusals


@pytest.mark.parametrize("group, choice", [(g, c) for g, c in CHOICES if g in ("policy", "critic")])
@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_every_network_learns(group, choice, env):
    updates_once(f"{group}={choice}", f"env={env}")


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("algo", ALGOS)
def test_every_preset_composes_with_every_environment(algo, env):
    config = resolve([f"algo={algo}", f"env={env}"])
    assert config["algo"] == algo
    assert config["env"]["name"] == env
    assert gym.spec(config["env"]["id"])
    assert config["batch_size"] % config["env"]["num_envs"] == 0


@pytest.mark.parametrize("env", ENVS)
def test_every_environment_builds(env):
    run = trainer(resolve([f"env={env}", "env.num_envs=2", "batch_size=4"]))
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    assert batch.inputs.isfinite().all() and batch.steps == 4


@pytest.mark.parametrize("algo", ALGOS)
def test_every_preset_learns_on_discrete_and_continuous_actions(algo):
    for env in ("cartpole", "pendulum"):
        updates_once(f"algo={algo}", f"env={env}", *(["schedule.minibatch=10"] if algo == "ppo" else []))


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
    for group, choice in CHOICES:
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
    return Samples(inputs, actions, weight, advantages, z, head.log_prob(z, actions))


PART_GROUPS = ["objective", "metric", "solver", "damping", "step", "schedule"]
HEADS = {"categorical": Categorical(3), "gaussian": DiagonalGaussian(2), "sigma": DiagonalGaussian(2, scale="sigma")}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_every_combination_of_parts_takes_a_finite_step_or_is_refused(head):
    """Objective x metric x solver x damping x step x schedule, Adam and SGD."""
    files = {g: {c: load_part(g, c) for c in catalogue.choices(g)} for g in PART_GROUPS}
    built = refused = 0
    for names in itertools.product(*files.values()):
        config = {g: files[g][name] for g, name in zip(PART_GROUPS, names, strict=True)}
        for optimizer in ("adam", "sgd") if "optimizer" in config["step"] else ("",):
            if optimizer:
                config["step"] = {**config["step"], "optimizer": load_part("optimizer", optimizer)}
            try:
                network, made = update_of(config, head)
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
                continue
            theta = network.layout.flatten(network.module, head.initial_constants()).double()
            samples = samples_for(head, network, theta)
            generator = torch.Generator().manual_seed(0)
            after, state, outcome = made.run(theta.clone(), made.init(theta), samples, generator, 1)
            assert outcome.failure is None and after.isfinite().all(), names
            assert not torch.equal(after, theta) or "line_search" in names[4], names
            made.advance(state)
            built += 1
    assert built > 20 and refused > 20


def load_part(group: str, choice: str) -> dict[str, Any]:
    values = load(catalogue.conf_dir() / group / f"{choice}.yaml")
    if "optimizer" in values:  # of a step
        values |= {"optimizer": load_part("optimizer", "adam"), "scheduler": load_part("scheduler", "constant")}
    return values


@pytest.mark.parametrize(
    "where, option, value, overrides",
    [
        ("optimizer.lr", 0.123, 0.123, ["algo=ppo"]),
        ("batch_size", 4096, 4096, ["algo=vpg"]),
        ("critic.schedule.epochs", 3, 3, ["algo=ppo"]),
        ("env.num_envs", 32, 32, ["algo=ppo", "env=halfcheetah"]),
        ("policy.initial_sigma", 0.9, 0.9, ["algo=trpo", "env=halfcheetah"]),
        ("step.radius", 0.5, 0.5, ["algo=trpo", "env=halfcheetah"]),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_wins_over_presets_and_recipes_wherever_it_stands(where, option, value, overrides, first):
    typed = [f"{where}={option}"]
    config = resolve(typed + overrides if first else overrides + typed)
    place = where.replace("critic.optimizer", "critic.step.optimizer")
    place = f"step.{place}" if place.startswith("optimizer.") else place
    found: Any = config
    for key in place.split("."):
        found = found[key]
    assert found == value
    assert resolve(overrides) != config


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
    ],
)
def test_overrides_are_rewritten_in_hydras_spelling(typed, spelled):
    assert rewritten([typed]) == spelled


def test_the_critics_parts_are_chosen_like_the_actors():
    config = resolve(["critic.metric=fisher", "critic.solver=dense", "critic.step=trust_region", "critic.damping.value=2"])
    assert config["critic"]["metric"]["_target_"].endswith("fisher.Fisher")
    assert config["critic"]["solver"]["_target_"].endswith("dense.Dense")
    assert config["critic"]["damping"]["value"] == 2
    assert config["metric"] == config["critic"]["metric"]  # trpo's own
    assert config["solver"]["_target_"].endswith("cg.CG")


def test_an_environment_id_alone_chooses_any_environment():
    config = resolve(["env.id=Acrobot-v1"])
    assert (config["env"]["name"], config["env"]["id"]) == ("Acrobot-v1", "Acrobot-v1")


def test_an_optimizer_may_have_any_option_of_torch():
    config = resolve(["algo=ppo", "optimizer.weight_decay=0.1", "critic.optimizer=sgd", "critic.optimizer.dampening=0.5"])
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


@pytest.mark.parametrize("env", ["cartpole", "halfcheetah", "any"])
@pytest.mark.parametrize("algo", ALGOS)
def test_a_resolved_configuration_comes_back_from_its_file(tmp_path, algo, env):
    config = resolve([f"algo={algo}", f"env={env}", *(["env.id=Pendulum-v1"] if env == "any" else []), "seed=12345678901",
                      "run_dir='1e3'"])  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    again = load(path)
    assert again == config
    assert repr(again) == repr(config)  # 1 is not 1.0, and True not 1


def test_a_configuration_holds_plain_values_only():
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                assert isinstance(key, str)
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)
        else:
            assert node is None or type(node) in (bool, int, float, str)
            assert not (isinstance(node, str) and "${" in node)

    for algo in ALGOS:
        walk(resolve([f"algo={algo}"]))


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [1\n", "\x00", "just text"])
def test_a_file_that_is_no_configuration_is_one_line_for_the_user(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="config.yaml|is missing") as caught:
        trainer(load(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lacking", ["env", "critic", "objective", "seed", "policy", "checkpoint", "evaluation", "rewards"])
def test_a_configuration_that_lacks_something_is_refused_by_its_name(lacking):
    config = resolve([])
    del config[lacking]
    with pytest.raises(UserError, match=lacking):
        trainer(config)


def test_a_configuration_can_name_no_code_but_the_parts_of_core():
    for target in ("os.system", "rlopt.cli.main", "rlopt.core.checks.check", "rlopt.core.heads", 3, None):
        config = resolve([])
        config["metric"] = {"_target_": target}
        with pytest.raises(UserError, match="metric._target_"):
            trainer(config)


def test_conf_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert catalogue.conf_dir().is_absolute()
    assert resolve(["seed=3"])["seed"] == 3
    assert list(Path(tmp_path).iterdir()) == []


def test_the_critics_head_has_the_variance_of_the_configuration():
    run = trainer(resolve([*SMALL, "critic.variance=4"]))
    run.collector.close()
    assert run.agent.critic.update.head == Value(4.0)

"""Every choice of every group in a small run's configuration."""

from copy import deepcopy
from functools import cache
from typing import Any

import torch
import yaml

from rlopt.config import choices as catalogue
from rlopt.config.saved import load, read_choice, to_yaml
from tests.support.building import resolve, trainer

GROUPS = catalogue.groups()
# without those that stand for several environments, of which the id names one
ALGOS, ENVS = GROUPS["algo"], [env for env in GROUPS["env"] if load(catalogue.file("env", env))["env"]["id"] != "???"]
PARTS = ["objective", "metric", "solver", "damping", "step", "schedule"]
OF_STEPS = ["optimizer", "scheduler"]  # they stand inside step=optimizer
SMALL = ["env.num_envs=2", "batch_size=20", "policy.hidden=[4]", "critic.hidden=[4]"]
WHERE = ["", "critic."]
# options without which a critic, or a preset that has it, cannot be used here
NEEDED = {"lstd": ["advantages.normalise=false"], "episodic": ["advantages.normalise=false", "batch_size=1200"]}
NEEDED["enac"] = NEEDED["episodic"]
ESTIMATORS = GROUPS["estimator"]


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
    values = deepcopy(_read(group, choice))
    return {k: load_part(k, inside[k]) if group == "step" and k in inside else v for k, v in values.items()}


@cache
def _read(group: str, choice: str) -> dict[str, Any]:
    return yaml.safe_load(to_yaml(read_choice(group, choice)).replace("${updates}", "5"))


@cache
def _small() -> dict[str, Any]:
    return yaml.safe_load(to_yaml(resolve([*SMALL, "schedule.minibatch=10", "schedule.epochs=1", "algo=npg"])))


def small_config(where: str, parts: dict[str, Any]) -> dict[str, Any]:
    """A small run's configuration with these parts in the actor's place or the critic's."""
    config = deepcopy(_small())
    (config["critic"] if where else config).update(parts)
    if "compatible" in parts.get("solver", {}).get("_target_", ""):  # its direction is that of such a critic
        config["critic"]["compatible"] = load_part("critic", "lstd")["compatible"]
        config["advantages"]["normalise"] = False
    return config

"""The trial before a run: what can be continued to the bit, and what is told of the rest."""

import decimal
import random
from collections import deque
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlopt.config.choices import file
from rlopt.config.saved import load
from rlopt.envs.trial import NO_REPLAY, Trial, _differing_attribute, class_values, try_to_continue
from rlopt.envs.wrappers import CheckedEnv
from tests.support.configurations import ENVS
from tests.support.generated import Generated, Plan
from tests.support.lasting import Lasting

pytestmark = pytest.mark.usefixtures("probe_environments")


def tried(id_: str, **options: Any) -> Trial:
    try:
        pair = [gym.make(id_, disable_env_checker=True, **options) for _ in range(2)]
    except gym.error.DependencyNotInstalled:
        pytest.skip("needs a simulator that is not installed")
    return try_to_continue(*pair)


@pytest.mark.parametrize("name", ENVS)
def test_nothing_is_to_be_said_of_a_named_environment(name):
    assert tried(load(file("env", name))["env"]["id"]) == Trial(True, None)


@pytest.mark.parametrize("id_", ["probe/Seeded-v0", "CliffWalking-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_nor_of_others_that_a_seed_determines(id_):
    assert tried(id_) == Trial(True, None)


def test_a_world_that_outlives_an_episode_is_told_of():
    pytest.importorskip("Box2D")
    found = tried("BipedalWalker-v3")
    assert found.warning and "if this run is stopped and resumed, " in found.warning


@pytest.mark.parametrize(
    ("options", "replays", "says"),
    [
        ({"kind": "attribute"}, False, "cannot be replayed"),
        ({"kind": "array"}, False, "cannot be replayed"),
        ({"kind": "generator", "late": 20}, False, "cannot be replayed"),
        ({"kind": "class"}, False, "cannot be replayed"),
        ({"kind": "attribute", "every": 1000}, True, "Lasting._episodes, which a replay does not bring back"),
        ({"kind": "array", "every": 1000}, True, "Lasting._array, which a replay"),
        ({"kind": "class", "every": 10**9}, True, "Lasting.shared, which a replay"),
    ],
)
def test_what_outlives_an_episode_is_told_of(options, replays, says, monkeypatch):
    monkeypatch.setattr(Lasting, "shared", 1)
    found = tried("probe/Lasting-v0", **options)
    assert found.replays is replays and found.warning and says in found.warning


@pytest.mark.parametrize("length", [1, 2, 3, 8])
@pytest.mark.parametrize("lasting", ["own generator", "late generator", "level", "hidden level", "class", "global"])
def test_what_outlives_episodes_of_any_length_is_told_of(lasting, length):
    plan = replace(Plan.draw(0), length=length, lasting=lasting, fault=None, ends="trains")
    first, second = (Generated(0, plan) for _ in range(2))
    assert try_to_continue(CheckedEnv(first), CheckedEnv(second)).warning


@pytest.mark.parametrize("every", [1, 1000])
def test_a_state_of_its_own_settles_it(every):
    assert tried("probe/Saved-v0", every=every) == Trial(False, None)
    found = tried("probe/Forgetful-v0", every=1)
    assert found.warning and found.warning.startswith("has state() and restore(state) that do not make another one")


def test_one_that_fails_is_the_runs_to_report():
    assert tried("probe/Raises-v0", at=3) == Trial(True, None)
    assert tried("probe/Unsavable-v0") == Trial(True, None)


def test_what_a_seed_does_not_determine_cannot_be_replayed():
    assert tried("probe/Counter-v0") == NO_REPLAY


class Holds(gym.Env):
    def __init__(self, thing: Any):
        self.thing = {"x": [(thing,)]}


def generator(kind: Any, seed: int) -> Any:
    return kind(seed)


PAIRS = [
    (1, 2), (1, 1.0), ("a", "b"), (np.zeros(2), np.ones(2)), (np.zeros(2), np.zeros(3)), (np.float32(1), np.float32(2)),
    ([1], [1, 2]), (deque([1]), deque([2])), ({1: 2}, {1: 3}), ({1: 2}, {2: 2}), ({1}, {1, 2}), (None, 0),
    (random.Random(1), random.Random(2)), (np.random.default_rng(1), np.random.default_rng(2)),
    (np.random.RandomState(1), np.random.RandomState(2)), (Holds(1), Holds(2)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda value: type(value).__name__)
def test_attributes_that_differ_are_found_wherever_they_are(a, b):
    found = _differing_attribute(Holds(a), Holds(b))
    assert found and found.startswith("Holds.thing.x[0][0]")
    assert _differing_attribute(Holds(a), Holds(a)) is None


def test_attributes_that_hold_themselves_are_compared():
    a, b = Holds(1), Holds(1)
    a.thing["self"], b.thing["self"] = a, b
    assert _differing_attribute(a, b) is None
    nan = float("nan")
    assert _differing_attribute(Holds(nan), Holds(float("nan"))) is None


def test_the_values_of_classes_are_copies_without_gymnasiums():
    found = class_values(Lasting)
    assert found == {"Lasting.shared": Lasting.shared}


def local_class() -> Any:
    class Local:
        pass

    return Local()


def test_a_class_made_in_a_function_is_the_same_class():
    assert _differing_attribute(Holds(local_class()), Holds(local_class())) is None


class Keeps(gym.Env):
    """Keeps a thing of another package over its episodes, or makes a new one for each."""

    def __init__(self, keeps: bool):
        self.observation_space = self.action_space = gym.spaces.Discrete(2)
        self._keeps, self.world = keeps, decimal.Context()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if not self._keeps:
            self.world = decimal.Context()
        return 0, {}

    def step(self, action: Any) -> Any:
        return 0, 0.0, False, False, {}


@pytest.mark.parametrize("keeps", [True, False])
def test_a_foreign_object_that_outlives_episodes_is_told_of(keeps):
    found = try_to_continue(Keeps(keeps), Keeps(keeps))
    assert found.replays and bool(found.warning) is keeps
    if keeps:
        assert found.warning.startswith("keeps Keeps.world over its episodes, into which rlopt cannot look")

"""What an environment is made from: what is refused, what is made, and how a mistake is explained."""

import ctypes
import itertools
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit, TransformReward

from rlopt.envs.mujoco import MujocoEnvs
from rlopt.envs.spec import EnvSpec
from rlopt.envs.wrappers import describe_normalisers, guard
from rlopt.errors import EnvironmentFault, UserError

pytestmark = pytest.mark.usefixtures("probe_environments")


def spec(id_: str = "CartPole-v1", **given) -> EnvSpec:
    values = {"num_envs": 2, "backend": "sync", "timeout": None, "kwargs": {}} | given
    return EnvSpec("name", id_, **values)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"backend": "async"}, "workers=K runs K processes"),
        ({"backend": "threads"}, "backend must be auto or sync or mujoco or envpool"),
        ({"timeout": 0.0}, "timeout"),
    ],
)
def test_options_outside_their_range_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        spec(**given)


def test_one_environment_has_observations_in_a_box():
    env = spec("probe/Dict-v0").make()
    assert env.observation_space.shape == env.reset(seed=0)[0].shape
    env.close()
    declared, _ = spec("probe/Dict-v0").spaces()
    assert type(declared).__name__ == "Dict"


def test_as_many_as_are_asked_for_are_stepped_together():
    for count, wanted in ((None, 2), (3, 3)):
        envs = spec().make_vector(count=count)
        assert envs.num_envs == wanted and envs.reset(seed=[0] * wanted)[0].shape == (wanted, 4)
        envs.close()


@pytest.mark.parametrize(("id_", "wanted"), [("probe/Seeded-v0", True), ("probe/Counter-v0", False)])
def test_it_is_tried_whether_a_seed_determines_an_episode(id_, wanted):
    assert spec(id_).try_to_continue().replays is wanted


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"id_": "CartPole-v"}, "env.id=CartPole-v: .*did you mean CartPole-v1"),
        ({"id_": "Nothing-v0"}, "FILE.py:CLASS, --import MODULE or --extensions DIR"),
        ({"id_": "nowhere:Nothing-v0"}, "env.id=nowhere:Nothing-v0: No module named"),
        ({"kwargs": {"colour": "red"}}, "env.kwargs={'colour': 'red'} do not suit env.id=CartPole-v1"),
    ],
)
def test_an_environment_that_cannot_be_made_is_explained(given, says):
    with pytest.raises(UserError, match=says):
        spec(**given).make()


class Plain(gym.Env):
    """An environment without a render_mode, with these spaces, whose calls return what they are given."""

    def __init__(self, observations: Any = None, actions: Any = None, reset: Any = None, step: Any = None):
        self.observation_space = observations or spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = actions or spaces.Discrete(2)
        self._reset, self._step = reset, step

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return (np.zeros(2, np.float32), {}) if self._reset is None else self._reset

    def step(self, action: Any) -> Any:
        return (np.zeros(2, np.float32), 0.0, False, False, {}) if self._step is None else self._step


class Unseeded(Plain):
    """The reset of the old API of gym."""

    def reset(self) -> Any:  # type: ignore[override]
        return np.zeros(2, np.float32)


@pytest.fixture
def register() -> Iterator[Callable[..., EnvSpec]]:
    """A function from an entry point to the spec of an environment that is made by it."""
    ids = []

    def add(entry_point: Callable[..., Any], **options: Any) -> EnvSpec:
        ids.append(f"plain/Plain{len(ids)}-v0")
        gym.register(ids[-1], entry_point=entry_point, **options)
        return spec(ids[-1])

    yield add
    for id_ in ids:
        del gym.registry[id_]


def test_a_constructor_needs_no_render_mode(register):
    env = register(Plain).make()
    assert env.reset(seed=0)[0].tolist() == [0, 0]


def test_options_are_each_environments_own(register):
    def add_one(sizes: list[int]) -> gym.Env:
        sizes.append(len(sizes))
        return Plain(spaces.Box(-1, 1, (len(sizes),)))

    made = EnvSpec("name", register(add_one).id, 3, "sync", None, {"sizes": [0]}).make_vector()
    assert made.single_observation_space.shape == (2,)


@pytest.mark.parametrize(
    ("differ", "says"),
    [
        (lambda i: {"observations": spaces.Box(-1, 1, (2 + (i == 3),))}, "environment 7 has observations of Box"),
        (lambda i: {"observations": spaces.Box(-1, 1 + (i == 2), (2,))}, "environment 6 has observations of Box"),
        (lambda i: {"actions": spaces.Discrete(2 + (i == 1))}, r"environment 5 has actions of Discrete\(3\), and the"),
        (lambda i: {"actions": spaces.Box(-1, 1 + (i == 3), (2,))}, "environment 7 has actions of Box"),
    ],
)
def test_instances_that_differ_are_named(register, differ, says):
    count = itertools.count()
    made = register(lambda: Plain(**differ(next(count))))
    with pytest.raises(EnvironmentFault, match=says):
        made.make_vector(first=4, count=4)


def test_instances_that_differ_from_the_first_are_named(register):
    like = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)
    with pytest.raises(EnvironmentFault, match="environment 0 has actions of Discrete"):
        register(Plain).make_vector(like=like)


class Bare(gym.Env):
    """Has no spaces."""


@pytest.mark.parametrize(
    ("entry_point", "says"),
    [
        (Bare, "its observation_space is None, and no space"),
        (lambda: Plain(actions="two"), "its action_space is a builtins.str, and no space"),
        (lambda: Plain(observations=[2]), "its observation_space is a builtins.list, and no space"),
        (lambda: Plain(spaces.Box(-1, 1, (0,))), r"its observations, of Box\(0,\) of float32, hold no number"),
        (lambda: 7, "cannot be made: TypeError: The environment must inherit"),
    ],
)
def test_environments_without_spaces_are_refused(register, entry_point, says):
    with pytest.raises(UserError, match=f"^env.id=plain/Plain0-v0:? {says}"):
        register(entry_point).make()


def broken(kind: type[BaseException]) -> Callable[[], gym.Env]:
    def make() -> gym.Env:
        raise kind("it is\nbroken")

    return make


@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, OSError, RuntimeError, SystemExit, AttributeError])
def test_an_error_while_it_is_made_keeps_its_file_and_line(register, kind):
    with pytest.raises(UserError) as info:
        register(broken(kind)).make()
    said, line = str(info.value), broken.__code__.co_firstlineno + 2
    assert said.startswith(f"env.id=plain/Plain0-v0 cannot be made: {kind.__name__}: ") and "broken" in said
    assert said.endswith(f"({__file__}, line {line})") and "\n" not in said


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_without_a_text_is_told_by_its_class(register):
    def make() -> gym.Env:
        raise Unprintable

    with pytest.raises(UserError, match="Unprintable: .its text cannot be shown; Unprintable"):
        register(make).make()
    with pytest.raises(EnvironmentFault, match="^env raised Unprintable: "), guard(lambda: "env"):
        raise Unprintable


OLD = "old API of gym"
ROW = np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reset": ROW}, f"ndarray from reset where .observation, info. is wanted, as in the {OLD}"),
        ({"reset": (ROW, 3)}, "2 values, of which the last is int, from reset where .observation, info. is wanted$"),
        ({"reset": (ROW, {}, 1)}, "3 values from reset where"),
        ({"reset": []}, "list from reset where"),
    ],
)
def test_a_reset_without_info_is_not_cut(register, options, says):
    with pytest.raises(ValueError, match=says):
        register(lambda: Plain(**options)).make().reset(seed=0)


@pytest.mark.parametrize("limit", [None, 5])
def test_a_step_of_four_values_is_named(register, limit):
    env = register(lambda: Plain(step=(ROW, 0.0, False, {})), max_episode_steps=limit).make()
    assert (limit is None) or isinstance(env.env, TimeLimit)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"4 values from step where .* wanted, as in the {OLD}"):
        env.step(0)


def test_a_reset_that_takes_no_seed_is_named(register):
    with pytest.raises(ValueError, match=f"no way to seed it: .* as in the {OLD}"):
        register(Unseeded).make().reset(seed=0)


@pytest.mark.parametrize(
    ("wrappers", "names"),
    [
        ([], []),
        ([NormalizeReward], ["NormalizeReward.*rewards.scale=true"]),
        ([NormalizeObservation], ["NormalizeObservation.*observations.normalise=true"]),
        ([NormalizeObservation, NormalizeReward, TransformReward], ["NormalizeReward", "NormalizeObservation"]),
    ],
)
def test_wrappers_that_normalise_are_told_of_with_the_option(register, wrappers, names):
    def wrapped() -> gym.Env:
        env: gym.Env = Plain()
        for wrapper in wrappers:
            env = wrapper(env, float) if wrapper is TransformReward else wrapper(env)
        return env

    warnings = describe_normalisers(register(wrapped).make())
    assert len(warnings) == len(names)
    assert all(re.search(name, warning) for name, warning in zip(names, warnings, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="constructors are tried on Linux")
@pytest.mark.parametrize("code", [0, 1, 77, signal.SIGKILL])
def test_a_constructor_that_ends_its_process_is_told(register, code):
    parent = os.getpid()

    def make() -> gym.Env:
        if os.getpid() != parent:
            os._exit(code) if code != signal.SIGKILL else os.kill(os.getpid(), code)
        return Plain()

    made = register(make)
    if code == 77:  # what a trial that went well gives
        return made.try_constructor()
    with pytest.raises(UserError, match="ends its process when it is made: it ended with (exit code [01]|SIGKILL)"):
        made.try_constructor()


def test_a_constructor_that_hangs_in_compiled_code_is_told(register):
    made = replace(register(lambda: ctypes.PyDLL(None).sleep(1000)), timeout=0.2)
    with pytest.raises(EnvironmentFault, match="when it was made, has not come back for env.timeout=0.2 seconds"):
        made.try_constructor()


def test_a_process_of_a_pool_which_has_no_children_tries_nothing(register, monkeypatch):
    made = register(lambda: os._exit(1))
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    began: list[object] = []
    monkeypatch.setattr(multiprocessing, "get_context", lambda how: began.append(how))
    made.try_constructor()
    assert began == []


def test_a_constructor_that_raises_or_prints_is_left_to_the_run(register, capfd):
    def noisy() -> gym.Env:
        os.write(2, b"noise")
        raise SystemExit(3)

    register(noisy).try_constructor()
    assert capfd.readouterr().err == ""


class Slow(Plain):
    def step(self, action: Any) -> Any:
        time.sleep(0.04)
        return super().step(action)


def test_a_trial_that_takes_longer_than_a_step_still_finds(register):
    class Counts(Slow):
        def reset(self, **given: Any) -> Any:
            self.count = getattr(self, "count", 0) + 1
            return super().reset(**given)

    found = replace(register(Counts), timeout=0.2).try_to_continue()
    assert found.warning and "Counts.count" in found.warning


def test_environments_of_warp_are_evaluated_in_c():
    warp = spec("Hopper-v5", backend="warp", nconmax=20)
    assert warp.as_tensors and not spec("Hopper-v5").as_tensors
    players = warp.make_players(3)
    assert isinstance(players, MujocoEnvs) and players.num_envs == 3
    players.close()

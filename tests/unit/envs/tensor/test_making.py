from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlopt.envs.spec import EnvSpec
from rlopt.envs.tensor import Task, TensorEnvs, only_tensors
from rlopt.envs.tensor.adapter import VectorEnvTensors
from rlopt.envs.tensor.making import serves
from rlopt.errors import UserError
from tests.support.tensors import CPU, Course, Drift, Simulator


@pytest.fixture
def registered():
    made = []

    def register(point, **options) -> str:
        id = f"test/Tensors{len(made)}-v0"
        gym.register(id, vector_entry_point=point, **options)
        made.append(id)
        return id

    yield register
    for id in made:
        del gym.registry[id]


def spec(id: str, backend: str = "auto", **kwargs) -> EnvSpec:
    return EnvSpec("tensors", id, 3, backend, 10.0, kwargs)


def test_an_id_with_tensors_alone_needs_no_backend(registered):
    id = registered(Drift.envs, max_episode_steps=5)
    assert only_tensors(id) and serves(id) and spec(id).steps_by == "tensor"
    envs = spec(id).make_tensors(CPU, torch.float64)
    assert envs.limit == 5 and envs.num_envs == 3
    assert spec(id, "sync").steps_by == "sync"


def test_gymnasiums_own_ids_keep_their_backend():
    assert spec("CartPole-v1").steps_by == "sync" and not only_tensors("CartPole-v1")
    assert spec("CartPole-v1", "tensor").steps_by == "tensor"


def test_by_itself_it_is_an_environment_of_gymnasium(registered):
    id = registered(Course.envs)
    env = spec(id).make()
    first, _ = env.reset(seed=4)
    again, _ = env.reset(seed=4)
    assert np.array_equal(first, again) and first.dtype == np.float32 and first[0] == 0
    length = first[1]
    for t in range(1, 5):
        observation, reward, terminated, truncated, _ = env.step(1)
        assert (observation[0], reward) == (t, t - 1)
        assert (terminated, truncated) == (t >= length, t >= 4)
        if terminated or truncated:
            break
    assert "rgb_array" not in env.metadata["render_modes"]


def test_evaluations_have_one_of_it(registered):
    assert spec(registered(Course.envs)).make_players(16).num_envs == 1
    assert spec("CartPole-v1", "tensor").make_players(16).num_envs == 16


def test_a_simulators_vector_environment_is_adapted(registered):
    id = registered(Simulator, kwargs={"nested": True})
    envs = spec(id).make_tensors(CPU, torch.float32)
    assert isinstance(envs, VectorEnvTensors) and envs.reset(0).shape == (3, 2)
    assert spec(id).make().reset(seed=0)[0].shape == (2,)


def test_a_registered_ids_own_kwargs_go_to_its_task(registered):
    point = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
    id = registered(None, entry_point=point, kwargs={"sutton_barto_reward": True})
    assert spec(id, "tensor").make_tensors(CPU, torch.float32).task._only_falls_count
    assert not spec(id, "tensor", sutton_barto_reward=False).make_tensors(CPU, torch.float32).task._only_falls_count


class Lacking:
    num_envs, device, observation_space = 3, CPU, gym.spaces.Discrete(2)


@pytest.mark.parametrize(("point", "said"), [
    (lambda **_: 3, "gives a builtins.int, which has no num_envs; wanted is a gymnasium.vector.VectorEnv of tensors"),
    (lambda **_: Lacking(), "Lacking, which has no action_space"),
    (partial(Drift.envs, seed=3), "do not suit"),
    (lambda **_: Simulator(nested=True).reset(), "gives a builtins.tuple"),
    (lambda **_: Simulator(64), "made 64 environments where num_envs=3 was asked for; .* or type env.num_envs=64"),
    (lambda **_: Course.envs(3, torch.device("meta"), torch.float32), "made environments on meta, .* type device=meta"),
])  # fmt: skip
def test_what_is_no_tensor_environment_is_refused(registered, point, said):
    with pytest.raises(UserError, match=said):
        spec(registered(point)).make_tensors(CPU, torch.float32)


def test_observations_must_be_a_box(registered):
    class Odd(Course):
        observation_space = gym.spaces.Discrete(3)

    with pytest.raises(UserError, match=r"its observations are of Discrete\(3\); tensors must be of a Box"):
        spec(registered(Odd.envs)).make_tensors(CPU, torch.float32)


def test_ids_without_tensors_are_refused_by_name():
    with pytest.raises(ValueError, match=r"backend=tensor steps Acrobot-v1, .*CartPole-v1, .*; MountainCar-v0 is none"):
        spec("MountainCar-v0", "tensor")


def test_options_that_do_not_suit_are_told():
    with pytest.raises(UserError, match=r"env.kwargs=.* do not suit env.id=CartPole-v1"):
        spec("CartPole-v1", "tensor", gravitas=3).make_tensors(CPU, torch.float32)


def test_the_package_has_what_an_extension_needs():
    assert issubclass(Course, Task) and isinstance(TensorEnvs, type)

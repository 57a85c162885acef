import gymnasium as gym
import numpy as np
import pytest

from rlopt.config.choices import file
from rlopt.config.saved import load
from rlopt.envs.observations import InvalidOutput
from rlopt.envs.replay import Script, extend_check, origin_of, replay, save
from tests.support.configurations import ENVS

pytestmark = pytest.mark.usefixtures("probe_environments")


def made(id_: str) -> gym.Env:
    try:
        return gym.make(id_, disable_env_checker=True)
    except gym.error.DependencyNotInstalled:
        pytest.skip("needs a simulator that is not installed")


@pytest.mark.parametrize("name", ENVS)
def test_every_named_environment_can_be_replayed_far(name):
    env_id = load(file("env", name))["env"]["id"]
    first, second = made(env_id), made(env_id)
    first.reset(seed=1)
    first.reset()
    origin = origin_of(first)
    first.reset()
    first.action_space.seed(2)
    actions, over = [], False
    while not over and len(actions) < 60:
        actions.append(first.action_space.sample())
        last, _, terminated, truncated, _ = first.step(actions[-1])
        over = terminated or truncated
    found = replay(second, Script(origin, actions, np.array(last).reshape(-1), seed=9))
    assert found.exact and np.array_equal(found.observation, last)
    if not over:
        action = first.action_space.sample()
        a, b = first.step(action), second.step(action)
        assert a[0].tobytes() == b[0].tobytes() and a[1:4] == b[1:4]
    first.close()
    second.close()


def test_a_replay_that_ends_elsewhere_becomes_a_seeded_reset():
    env, fresh = made("CartPole-v1"), made("CartPole-v1")
    found = replay(env, Script({"seed": 3}, [0, 1], np.zeros(4, np.float32), seed=9))
    assert not found.exact and found.origin == {"seed": 9}
    assert np.array_equal(found.observation, fresh.reset(seed=9)[0])


def test_a_foreign_bit_generator_is_refused():
    """A checkpoint names it; nothing but Gymnasium's own is made from that name."""
    env = made("CartPole-v1")
    state = {"bit_generator": "__loader__", "state": {}}
    found = replay(env, Script(state, [], np.zeros(4, np.float32), seed=1))
    assert not found.exact


def rows_of(env: gym.Env, actions: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations (n, D) acted on, rewards (n,) and the last observation of an episode with these actions."""
    seen, rewards = [env.reset(seed=5)[0]], []
    for action in actions:
        observation, reward, *_ = env.step(action)
        seen.append(observation)
        rewards.append(reward)
    return np.array(seen[:-1]), np.array(rewards), seen[-1]


def test_a_replay_with_another_reward_or_observation_fails():
    env, actions = made("CartPole-v1"), [0, 1, 1, 0]
    seen, rewards, last = rows_of(env, actions)
    check = extend_check(0, seen, rewards)
    assert replay(env, Script({"seed": 5}, actions, last, 9, check)).exact
    for other in (extend_check(0, seen, rewards + 1e-3), extend_check(0, seen + 1e-3, rewards), check + 1):
        assert not replay(env, Script({"seed": 5}, actions, last, 9, other)).exact


def test_a_check_does_not_depend_on_how_an_episode_is_divided():
    seen, rewards, _ = rows_of(made("CartPole-v1"), [0, 1, 1, 0])
    parts = 0
    for part in (slice(0, 1), slice(1, 1), slice(1, 4)):
        parts = extend_check(parts, seen[part], rewards[part])
    assert parts == extend_check(0, seen, rewards) != extend_check(0, seen[:3], rewards[:3])


def test_an_environment_saves_its_generator_and_time_limits_too():
    first, second = (gym.make("probe/Saved-v0", max_episode_steps=5) for _ in range(2))
    first.reset(seed=1)
    for _ in range(3):
        first.step(1)
    saved = save(first)
    script = Script(None, (), np.zeros(2), 9, saved=saved)
    found = replay(second, script)
    assert found.exact and found.origin is None and found.observation is script.observation
    for truncated in (False, True):
        a, b = first.step(0), second.step(0)
        assert a[0].tobytes() == b[0].tobytes() and a[1:4] == b[1:4] and a[3] is truncated


def test_a_state_that_cannot_be_restored_becomes_a_seeded_reset():
    env = made("probe/Unsavable-v0")
    with pytest.raises(
        InvalidOutput, match=r"state\(\)\['all'\]\[0\] of type Unsavable where a checkpoint holds numbers"
    ):
        save(env)
    saved = {"state": {}, "generator": None, "limits": []}
    for other in (env, made("CartPole-v1")):
        found = replay(other, Script(None, (), np.zeros(2), 9, saved=saved))
        assert not found.exact and found.origin == {"seed": 9}


@pytest.mark.parametrize("id_", ["CartPole-v1", "Pendulum-v1"])
def test_a_state_that_is_no_method_is_no_state(id_):
    """CartPole has an array of this name."""
    env = made(id_)
    env.reset(seed=0)
    assert save(env) is None

import gymnasium as gym
import numpy as np
import pytest

from rlopt.config.choices import choices, file
from rlopt.config.compose import load
from rlopt.envs.replay import Script, is_reproducible, origin_of, replay

pytestmark = pytest.mark.usefixtures("probe_environments")


def made(id_: str) -> gym.Env:
    try:
        return gym.make(id_, disable_env_checker=True)
    except gym.error.DependencyNotInstalled:
        pytest.skip("needs a simulator that is not installed")


@pytest.mark.parametrize("name", [name for name in choices("env") if name != "any"])
def test_every_named_environment_can_be_replayed_far(name):
    env_id = load(file("env", name))["env"]["id"]
    first, second = made(env_id), made(env_id)
    assert is_reproducible(first, second)
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


@pytest.mark.parametrize(("name", "wanted"), [("Seeded", True), ("Counter", False), ("Raises", True)])
def test_what_a_seed_does_not_determine_is_found_out(name, wanted):
    options = {"at": 3} if name == "Raises" else {}
    pair = [gym.make(f"probe/{name}-v0", disable_env_checker=True, **options) for _ in range(2)]
    assert is_reproducible(*pair) is wanted


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

"""An environment of one's own, of an MJCF and functions in torch: by itself it is Gymnasium's, with MuJoCo in C."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import rlopt
from rlopt.envs.mujoco import MjcfEnv
from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError
from tests.support.warp_balance import Balance


class Tipped(Balance):
    """It sees contacts and the end of the pole, and has no limit."""

    reads = ("qpos", "qvel", "xpos", "cfrc_ext")
    contact_forces = True
    frame_skip = 3
    limit = None

    def observe(self, s):
        return torch.cat((s.xpos[:, -1], s.cfrc_ext[:, -1]), 1)

    def place(self, s):
        return s.xpos[:, 1, 0]

    def reward(self, s, actions, speed, healthy):
        return speed

    def healthy(self, s):
        return None


@pytest.mark.filterwarnings("ignore:.*WARN:UserWarning")
def test_it_is_an_environment_of_gymnasium():
    check_env(Balance(), skip_render_check=True)
    assert Balance().observation_space.shape == (4,) and Balance().action_space == gym.spaces.Box(-1, 1, (1,))


def test_its_steps_are_mujocos_and_its_functions_the_classs():
    env = Balance()
    observation, _ = env.reset(seed=3)
    again, _ = Balance().reset(seed=3)
    assert np.array_equal(observation, again) and 0 < np.abs(observation).max() < 0.01
    data = mujoco.MjData(env.model)
    data.qpos[:], data.qvel[:] = observation[:2], observation[2:]
    mujoco.mj_forward(env.model, data)
    for t in range(1, 101):
        action = np.array([0.02 * (-1) ** t], np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        data.ctrl[:] = action
        mujoco.mj_step(env.model, data, env.frame_skip)
        assert np.array_equal(observation, np.concatenate((data.qpos, data.qvel)))
        assert reward == pytest.approx(1 - data.qpos[0] ** 2 - 0.1 * float(action[0]) ** 2, abs=1e-12)
        assert terminated == (abs(data.qpos[1]) >= 0.3) and truncated == (t >= 100)
        if terminated or truncated:
            break
    assert t > 5


def test_what_it_reads_is_current():
    """Speed is the change of place, forces of contacts are computed, and the frames skipped are counted."""
    env = Tipped()
    env.reset(seed=0)
    before = env.data.xpos[1, 0]
    for _ in range(3):
        observation, reward, *_ = env.step(np.ones(1, np.float32))
        assert reward == pytest.approx((env.data.xpos[1, 0] - before) / (3 * env.model.opt.timestep))
        assert np.array_equal(observation[:3], env.data.xpos[-1])
        before = env.data.xpos[1, 0]
    assert env.dt == pytest.approx(3 * env.model.opt.timestep) and env.data.time == pytest.approx(3 * env.dt)


def test_a_saved_state_goes_on_to_the_bit():
    one, other = Balance(), Balance()
    one.reset(seed=1)
    other.reset(seed=2)
    for _ in range(4):
        one.step(np.full(1, 0.3, np.float32))
    other.restore(one.state())
    for _ in range(4):
        found = [env.step(np.full(1, -0.2, np.float32)) for env in (one, other)]
        assert np.array_equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert EnvSpec("own", "x.py:Balance", 1, "sync", None, {}, own=Balance).try_to_continue().warning is None


def test_a_file_of_ones_own_is_trained_on(tmp_path, run):
    (tmp_path / "balance.py").write_text(
        "from tests.support.warp_balance import Balance\n\n\nclass Mine(Balance):\n    pass\n"
    )
    code, _, err = run(
        "train", f"env.id={tmp_path / 'balance.py'}:Mine", "algo=trpo", "env.num_envs=2", "batch_size=40",
        "total_steps=80", "evaluation.episodes=2", f"run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert code == 0 and "cannot look" not in err, err


def test_it_can_be_given_from_python_and_registered(tmp_path):
    small = {"total_steps": 40, "batch_size": 40, "evaluation": {"episodes": 1}}
    assert rlopt.train(env=Balance, run_dir=str(tmp_path / "given"), **small).summary["steps"] == 40
    gym.register("test/Balance-v0", Balance, max_episode_steps=7)
    try:
        env = gym.make("test/Balance-v0")
        env.reset(seed=0)
        assert [env.step(np.zeros(1, np.float32))[3] for _ in range(7)] == [False] * 6 + [True]
    finally:
        del gym.registry["test/Balance-v0"]


def test_a_model_that_cannot_be_read_is_told(tmp_path):
    class Broken(MjcfEnv):
        mjcf = "<mujoco><bodyworld/></mujoco>"

        def reward(self, s, actions, speed, healthy):
            return speed

    class Missing(Broken):
        mjcf = "nowhere.xml"

    with pytest.raises(UserError, match="Broken.mjcf cannot be read by MuJoCo: .*bodyworld"):
        Broken()
    with pytest.raises(UserError, match="Missing.mjcf cannot be read by MuJoCo: .*nowhere.xml"):
        Missing()


def test_a_file_beside_the_class_is_found(tmp_path):
    (tmp_path / "model.xml").write_text(Balance.mjcf.strip())
    (tmp_path / "mine.py").write_text(
        "from tests.support.warp_balance import Balance\n\n\nclass Mine(Balance):\n    mjcf = 'model.xml'\n"
    )
    import importlib.util

    spec = importlib.util.spec_from_file_location("mine_beside", tmp_path / "mine.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["mine_beside"] = module
    try:
        spec.loader.exec_module(module)
        assert module.Mine().model.nq == 2
    finally:
        del sys.modules["mine_beside"]

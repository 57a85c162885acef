"""Wrappers by name: what they do to observations, that runs record and use them, and what is refused."""

import re
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml

import rlopt
from rlopt.envs.observations import image
from tests.support.command_line import SHORT
from tests.support.extending import write
from tests.support.probes import make_trainer
from tests.support.resuming import cut
from tests.support.traces import differences

pytestmark = pytest.mark.usefixtures("probe_environments", "elsewhere")
OWN = """
import gymnasium as gym

class Shifted(gym.ObservationWrapper):
    def __init__(self, env, by="1"):
        super().__init__(env)
        self.by = float(by)

    def observation(self, observation):
        return observation + self.by

def doubled(env):
    return gym.wrappers.TransformReward(env, lambda reward: 2 * reward)

def nothing(env):
    return None
"""


def test_frames_are_stacked_grey_and_seen_as_images():
    small = [f"{n}.{o}" for n in ("policy", "critic") for o in ("channels=[4]", "kernels=[3]", "strides=[2]")]
    run = make_trainer("env.id=probe/ImageLast-v0", "env.wrappers=[frame_stack:3,grayscale]", "policy=nature_cnn",
                       "critic=nature_cnn", *small)  # fmt: skip
    run.collector.close()
    env = run.config.env.make()
    assert (
        env.observation_space.shape == (3, 10, 8) and str(image(env.observation_space)) == "10 x 8 pixels, 3 channels"
    )
    first, _ = env.reset(seed=0)
    assert first.dtype == np.uint8 and np.array_equal(first[0], first[2])


def test_a_run_records_its_wrappers_and_all_commands_use_them(run):
    code, _, err = run("train", *SHORT, "env.wrappers=[frame_stack:2,time_limit:9]", "run_dir=here")
    assert code == 0, err
    assert yaml.safe_load(Path("here/config.yaml").read_text())["env"]["wrappers"] == ["frame_stack:2", "time_limit:9"]
    policy = rlopt.load("here")
    assert policy.observation_space.shape == (2, 4) and policy(np.zeros((2, 4), np.float32)) in (0, 1)
    code, out, _ = run("eval", "here", "--episodes", "2")
    assert code == 0 and "9.0" in out  # no pole falls so soon


def test_wrappers_leave_mujoco_to_gymnasium():
    pytest.importorskip("mujoco")
    run = make_trainer("env=hopper", "env.num_envs=2", "batch_size=20", "env.wrappers=[time_aware]")
    run.collector.close()
    assert run.config.env.steps_by == "sync" and run.config.env.make().observation_space.shape == (12,)


def test_ones_own_come_from_folders_and_imported_modules_alone(run, tmp_path, monkeypatch):
    mine = write(tmp_path / "parts", {"wrapper/mine.py": OWN})
    named = "env.wrappers=[wrapper.mine:doubled,'wrapper.mine:Shifted:2']"
    code, _, err = run("train", "--extensions", str(mine), *SHORT, named, "run_dir=here")
    assert code == 0, err
    assert run("eval", "here", "--extensions", str(mine), "--episodes", "1")[0] == 0
    code, _, err = run("eval", "here", "--episodes", "1")
    assert code == 2 and "env.wrappers: there is no module wrapper.mine in a folder that --extensions DIR names" in err
    assert run("resume", "here", "total_steps=400")[0] == 2
    write(tmp_path, {"plain_module.py": OWN})
    monkeypatch.syspath_prepend(str(tmp_path))
    named = "env.wrappers=[plain_module:doubled]"
    assert run("train", "--import", "plain_module", *SHORT, named, "run_dir=there")[0] == 0
    assert run("train", *SHORT, named, "run_dir=elsewhere")[0] == 2  # it is imported, but no longer named


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("framestack:4", r" has 'framestack:4', which is none \(did you mean frame_stack\?\); they are atari, delay, "),
        ("frame_stack:0", " has 'frame_stack:0'; frame_stack takes a number of frames, such as frame_stack:4"),
        ("frame_stack", " has 'frame_stack'; frame_stack takes a number of frames"),
        ("grayscale:2", " has 'grayscale:2'; grayscale takes no argument"),
        ("sticky:1.5", " has 'sticky:1.5'; sticky takes a probability"),
        ("os:system", ": there is no module os in"),
        ("wrapper.mine:Absent", ": there is no class or function Absent in wrapper.mine"),
        ("wrapper.mine:nothing", ": wrapper.mine:nothing must return an environment, and gives None"),
        ("wrapper.mine:Shifted:x", r": wrapper.mine:Shifted:x cannot be put around observations of Box\(4,\)"),
        ("grayscale", ": grayscale cannot be put around .*The first wrapper of the list is the outermost"),
    ],
)
def test_what_is_no_wrapper_is_refused_in_one_line(entry, message, tmp_path, run):
    mine = write(tmp_path / "parts", {"wrapper/mine.py": OWN})
    code, _, err = run("train", "--extensions", str(mine), *SHORT, f"env.wrappers=['{entry}']")
    assert code == 2 and err.count("\n") == 1 and re.search(f"env.wrappers{message}", err), err


@pytest.mark.parametrize("module", ["ale_py", "cv2"])
def test_a_missing_package_is_said_in_one_line(module, run, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "ale_py":
        arguments, what = ["env=atari", "env.id=ALE/Pong-v5"], "env.id=ALE/Pong-v5 needs a package"
        monkeypatch.delitem(gym.registry, "ALE/Pong-v5", raising=False)
    else:
        arguments, what = ["env.id=probe/ImageLast-v0", "env.wrappers=[resize:6]"], "env.wrappers: resize:6 needs a"
    code, _, err = run("train", *arguments)
    assert code == 2 and what in err and "pip install 'rlopt-geometry[atari]'" in err


def test_an_atari_run_has_the_standard_frames_and_goes_on(run):
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    small = [f"{n}.{o}" for n in ("policy", "critic") for o in ("channels=[2,2,2]", "hidden=[8]")]
    common = ["env=atari", "env.id=ALE/Pong-v5", "policy=nature_cnn", "critic=nature_cnn", *small, "env.num_envs=2",
              "batch_size=64", "evaluation.episodes=0", "checkpoint.every_updates=1", "checkpoint.every_seconds=null",
              "checkpoint.keep=99", "algo=ppo"]  # fmt: skip
    trainer = make_trainer(*common)
    batch = trainer.collector.collect(trainer.agent.policy(trainer.state))
    trainer.collector.close()
    assert batch.inputs.dtype == batch.observations.dtype == torch.uint8
    assert batch.inputs.shape == (33, 2, 4 * 84 * 84) and trainer.agent.head.count == 18
    assert run("train", *common, "total_steps=256", "run_dir=whole")[0] == 0
    cut(Path("whole"), Path("part"), 2)
    code, _, err = run("resume", "part")
    assert code == 0 and "begin new ones" not in err and differences(Path("part"), Path("whole")) == []


def test_the_networks_learn_from_the_sign_of_rewards():
    runs = [make_trainer("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", f"rewards.sign={sign}",
                         "rewards.scale=false") for sign in ("true", "false")]  # fmt: skip
    for trainer in runs:
        batch = trainer.collector.collect(trainer.agent.policy(trainer.state))
        trainer.collector.close()
        seen = trainer.agent._scale(trainer.state, batch).rewards
        assert batch.rewards.max() == 4 and seen.max() == (1 if trainer.config.rewards.sign else 4)

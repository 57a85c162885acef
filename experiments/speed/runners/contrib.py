"""One measurement of sb3-contrib's MaskablePPO or RecurrentPPO: python contrib.py '{...}' prints one line of JSON.

The environments are rlopt's own; steps and seconds are counted as in baselines.py.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import gymnasium as gym
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

sys.path.append(str(Path(__file__).parents[3]))
from rlopt.tasks.partial import cart_pole_positions  # noqa: E402
from tests.support.masked import Offers  # noqa: E402


class Told(Offers):
    """The environment, with the method that MaskablePPO asks for masks."""

    def action_masks(self):
        return self.mask.astype(bool)


def positions() -> gym.Env:
    return gym.wrappers.TimeLimit(cart_pole_positions(), 500)


def main() -> None:
    s = json.loads(sys.argv[1])
    torch.set_num_threads(s["threads"])
    kind = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}[s["vector"]]
    masked = s["algo"] == "MaskablePPO"
    envs = make_vec_env(Told if masked else positions, n_envs=s["num_envs"], seed=s["seed"], vec_env_cls=kind)
    known = {"n_steps": s["batch"] // s["num_envs"], "batch_size": s["minibatch"], "n_epochs": s["epochs"],
             "learning_rate": s["lr"], "gamma": s["gamma"], "gae_lambda": s["gae_lambda"], "seed": s["seed"],
             "device": "cpu"}  # fmt: skip
    if masked:
        model = MaskablePPO("MlpPolicy", envs, **known, policy_kwargs={"net_arch": s["hidden"]})
    else:
        shape = {
            "net_arch": s["hidden"],
            "lstm_hidden_size": s["units"],
            "n_lstm_layers": 1,
            "enable_critic_lstm": True,
        }
        model = RecurrentPPO("MlpLstmPolicy", envs, **known, policy_kwargs=shape)
    train, ends = model.train, []

    def timed() -> None:
        train()
        ends.append(time.perf_counter())

    model.train = timed
    model.learn(s["batch"] * (s["updates"] + 1), log_interval=None)
    envs.close()
    print(json.dumps({"steps": s["batch"] * (len(ends) - 1), "seconds": ends[-1] - ends[0]}))


if __name__ == "__main__":
    main()

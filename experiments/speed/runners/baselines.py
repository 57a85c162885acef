"""One measurement of stable-baselines3's PPO or A2C, sb3-contrib's TRPO or sbx's PPO: python baselines.py '{...}'

Prints one line of JSON: environment steps and seconds between the end of the first update and the end of the last, and
the seconds of them spent in updates. The clock hangs on the end of an update: nothing is added to a step.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Any

import gymnasium as gym
import torch
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize


def make(settings: dict[str, Any]) -> gym.Env:
    return gym.make(settings["env"], disable_env_checker=True)


def build(s: dict[str, Any]) -> PPO | A2C | TRPO:
    """The trainer that the settings ask for; what they do not say stays at the trainer's default."""
    kind = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}[s["vector"]]
    envs = make_vec_env(lambda: make(s), n_envs=s["num_envs"], seed=s["seed"], vec_env_cls=kind)
    if s["normalise"]:
        envs = VecNormalize(envs, gamma=s["gamma"])
    common: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": envs,
        "n_steps": s["batch"] // s["num_envs"],
        "gamma": s["gamma"],
        "gae_lambda": s["gae_lambda"],
        "seed": s["seed"],
        "device": "cpu",
        "policy_kwargs": {"net_arch": s["hidden"], "log_std_init": math.log(s["sigma"])},
    }
    if s["algo"].endswith("ppo"):
        kind = PPO
        if s["algo"] == "sbx-ppo":
            from sbx import PPO as kind
        return kind(**common, batch_size=s["minibatch"], n_epochs=s["epochs"], learning_rate=s["lr"],
                   max_grad_norm=s["max_norm"])  # fmt: skip
    if s["algo"] == "a2c":
        return A2C(**common, learning_rate=s["lr"], max_grad_norm=s["max_norm"])
    return TRPO(**common, batch_size=s["critic_minibatch"], n_critic_updates=s["critic_epochs"],
                cg_max_steps=s["cg"], cg_damping=s["damping"], target_kl=s["radius"],
                learning_rate=s["critic_lr"])  # fmt: skip


def main() -> None:
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    model = build(settings)
    train, ends, inside = model.train, [], []

    def timed() -> None:
        start = time.perf_counter()
        train()
        ends.append(time.perf_counter())
        inside.append(ends[-1] - start)

    model.train = timed
    model.learn(settings["batch"] * (settings["updates"] + 1), log_interval=None)
    model.env.close()
    steps = settings["batch"] * (len(ends) - 1)
    print(json.dumps({"steps": steps, "seconds": ends[-1] - ends[0], "updating": sum(inside[1:])}))


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main()

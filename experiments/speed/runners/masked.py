"""One measurement of sb3-contrib's MaskablePPO: python masked.py '{...}', which prints one line of JSON.

The environment is that of rlopt's tests; steps and seconds are counted as in baselines.py.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

sys.path.append(str(Path(__file__).parents[3]))
from tests.support.masked import Offers  # noqa: E402


class Told(Offers):
    """The environment, with the method that MaskablePPO asks for masks."""

    def action_masks(self):
        return self.mask.astype(bool)


def main() -> None:
    s = json.loads(sys.argv[1])
    torch.set_num_threads(s["threads"])
    kind = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}[s["vector"]]
    envs = make_vec_env(Told, n_envs=s["num_envs"], seed=s["seed"], vec_env_cls=kind)
    model = MaskablePPO("MlpPolicy", envs, n_steps=s["batch"] // s["num_envs"], batch_size=s["minibatch"],
                        n_epochs=s["epochs"], learning_rate=s["lr"], gamma=s["gamma"], gae_lambda=s["gae_lambda"],
                        seed=s["seed"], device="cpu", policy_kwargs={"net_arch": s["hidden"]})  # fmt: skip
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

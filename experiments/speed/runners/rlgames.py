"""One measurement of rl_games' PPO on EnvPool: python rlgames.py '{...}'

Prints one line of JSON: environment steps and seconds between the end of the first update and the end of the last, and
the seconds of them spent in updates. The clock hangs on rl_games' own epoch, a rollout and its update.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from typing import Any


def parameters(s: dict[str, Any]) -> dict[str, Any]:
    """rl_games' own configuration of HalfCheetah, with what the settings say in place of its numbers."""
    space = {
        "mu_activation": "None", "sigma_activation": "None", "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": math.log(s["sigma"])}, "fixed_sigma": True,
    }  # fmt: skip
    mlp = {"units": s["hidden"], "activation": "tanh", "initializer": {"name": "default"}, "d2rl": False}
    config = {
        "name": "speed", "env_name": "envpool", "env_config": {"env_name": s["env"], "num_threads": s["threads"]},
        "device": "cpu", "device_name": "cpu", "train_dir": "runs", "reward_shaper": {"scale_value": 1},
        "normalize_input": s["normalise"], "normalize_value": s["normalise"], "normalize_advantage": True,
        "value_bootstrap": True, "gamma": s["gamma"], "tau": s["gae_lambda"], "learning_rate": s["lr"],
        "lr_schedule": None, "grad_norm": s["max_norm"], "truncate_grads": True, "entropy_coef": 0.0, "e_clip": 0.2,
        "clip_value": False, "critic_coef": 1.0, "bounds_loss_coef": 0.0, "num_actors": s["num_envs"],
        "horizon_length": s["batch"] // s["num_envs"], "minibatch_size": s["minibatch"], "mini_epochs": s["epochs"],
        "max_epochs": s["updates"] + 1, "print_stats": False, "save_best_after": 10**9,
        "torch_compile": s["vector"] == "compiled",
    }  # fmt: skip
    network = {"name": "actor_critic", "separate": True, "space": {"continuous": space}, "mlp": mlp}
    return {
        "seed": s["seed"], "algo": {"name": "a2c_continuous"}, "model": {"name": "continuous_a2c_logstd"},
        "network": network, "config": config, "torch_threads": s["threads"],
    }  # fmt: skip


def main() -> None:
    settings = json.loads(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):
        from rl_games.algos_torch.a2c_continuous import A2CAgent
        from rl_games.torch_runner import Runner

        ends: list[float] = []
        inside: list[float] = []
        epoch = A2CAgent.train_epoch

        def timed(agent: A2CAgent) -> tuple[Any, ...]:
            found = epoch(agent)
            ends.append(time.perf_counter())
            inside.append(found[2])
            return found

        A2CAgent.train_epoch = timed
        runner = Runner()
        runner.load({"params": parameters(settings)})
        runner.run({"train": True})
    steps = settings["batch"] * (len(ends) - 1)
    print(json.dumps({"steps": steps, "seconds": ends[-1] - ends[0], "updating": sum(inside[1:])}))


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main()

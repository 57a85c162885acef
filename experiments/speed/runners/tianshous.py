"""One measurement of tianshou's NPG or TRPO, as its own MuJoCo examples set them up: python tianshous.py '{...}'

Prints one line of JSON, as baselines.py does, measured in the same way.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from functools import partial
from typing import Any

import gymnasium as gym
import torch
from tianshou.algorithm import NPG, TRPO
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, ShmemVectorEnv, SubprocVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch import nn
from torch.distributions import Distribution, Independent, Normal


def gaussian(outputs: tuple[torch.Tensor, torch.Tensor]) -> Distribution:
    return Independent(Normal(*outputs), 1)


def build(s: dict[str, Any], envs: Any, space: gym.spaces.Box, size: int) -> NPG | TRPO:
    """The algorithm that the settings ask for; what they do not say stays at tianshou's default."""
    trunks = [Net(state_shape=size, hidden_sizes=s["hidden"], activation=nn.Tanh) for _ in range(2)]
    actor = ContinuousActorProbabilistic(preprocess_net=trunks[0], action_shape=space.shape, unbounded=True)
    critic = ContinuousCritic(preprocess_net=trunks[1])
    nn.init.constant_(actor.sigma_param, math.log(s["sigma"]))
    for module in (*actor.modules(), *critic.modules()):
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, gain=math.sqrt(2))
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for module in actor.mu.modules():
            if isinstance(module, nn.Linear):
                module.weight *= 0.01
    common: dict[str, Any] = {
        "policy": ProbabilisticActorPolicy(actor=actor, dist_fn=gaussian, action_space=space),
        "critic": critic,
        "optim": AdamOptimizerFactory(lr=s["critic_lr"]),
        "gamma": s["gamma"],
        "gae_lambda": s["gae_lambda"],
        "return_scaling": s["normalise"],
        "optim_critic_iters": s["critic_epochs"],
        "max_batchsize": s["batch"],  # values and log-probabilities of the whole batch at once, its fastest
    }
    return TRPO(**common, max_kl=s["radius"]) if s["algo"] == "trpo" else NPG(**common, trust_region_size=0.1)


def main() -> None:
    s = json.loads(sys.argv[1])
    torch.set_num_threads(s["threads"])
    torch.manual_seed(s["seed"])
    kind = {"dummy": DummyVectorEnv, "subproc": SubprocVectorEnv, "shmem": ShmemVectorEnv}[s["vector"]]
    make = partial(gym.make, s["env"], disable_env_checker=True)
    probe = make()
    envs = kind([make] * s["num_envs"])
    if s["normalise"]:
        envs = VectorEnvNormObs(envs)
    envs.seed(s["seed"])
    algorithm = build(s, envs, probe.action_space, probe.observation_space.shape[0])
    update, ends, inside = algorithm.update, [], []

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        stats = update(*arguments, **options)
        ends.append(time.perf_counter())
        inside.append(ends[-1] - start)
        return stats

    algorithm.update = timed
    collector = Collector(algorithm, envs, VectorReplayBuffer(2 * s["batch"], s["num_envs"]), exploration_noise=True)
    algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=s["batch"] * (s["updates"] + 1),
            collection_step_num_env_steps=s["batch"],
            batch_size=None,
            verbose=False,
            show_progress=False,
        )
    )
    envs.close()
    steps = s["batch"] * (len(ends) - 1)
    print(json.dumps({"steps": steps, "seconds": ends[-1] - ends[0], "updating": sum(inside[1:])}))


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    warnings.simplefilter("ignore")
    main()

"""The bare stepping rate of vector environments under random actions: python simulator.py '{...}'

Prints "ready" when all is made and warm, begins at a line from stdin, so that several begin at once, and prints one
line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv


def gymnasiums(kind: type) -> Callable[[str, int], Any]:
    return lambda env, count: kind([partial(gym.make, env, disable_env_checker=True)] * count)


def rlopts(backend: str) -> Callable[[str, int], Any]:
    def make(env: str, count: int) -> Any:
        from rlopt.envs.spec import EnvSpec

        return EnvSpec("simulator", env, count, backend, None, {}).make_vector()

    return make


def envpools(env: str, count: int) -> Any:
    import envpool

    return envpool.make(env, env_type="gymnasium", num_envs=count, num_threads=1)


KINDS = {"sync": gymnasiums(SyncVectorEnv), "async": gymnasiums(AsyncVectorEnv), "rlopt sync": rlopts("sync"),
         "rlopt mujoco": rlopts("mujoco"), "envpool": envpools}  # fmt: skip


def main() -> None:
    s = json.loads(sys.argv[1])
    if s["core"] is not None:
        os.sched_setaffinity(0, {s["core"]})
    envs = KINDS[s["vector"]](s["env"], s["num_envs"])
    space = getattr(envs, "single_action_space", None) or envs.action_space  # EnvPool's is that of one environment
    shape = (256, s["num_envs"], *space.shape)
    actions = np.random.default_rng(s["seed"]).uniform(space.low, space.high, shape).astype(space.dtype)
    envs.reset()

    def rounds(seconds: float) -> tuple[int, float]:
        start, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            for action in actions:
                envs.step(action)
            count += len(actions)
        return count * s["num_envs"], elapsed

    rounds(0.2)
    print("ready", flush=True)
    sys.stdin.readline()
    counter = getattr(envs, "counter", None)
    before = counter.physics if counter else 0
    steps, elapsed = rounds(s["seconds"])
    physics = (counter.physics - before) / 1e9 if counter else 0.0
    print(json.dumps({"steps": steps, "seconds": elapsed, "physics": physics}), flush=True)
    envs.close()


if __name__ == "__main__":
    main()

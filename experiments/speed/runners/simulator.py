"""The bare stepping rate of Gymnasium's vector environments under random actions: python simulator.py '{...}'

Prints "ready" when all is made and warm, begins at a line from stdin, so that several begin at once, and prints one
line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv


def main() -> None:
    s = json.loads(sys.argv[1])
    if s["core"] is not None:
        os.sched_setaffinity(0, {s["core"]})
    kind = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}[s["vector"]]
    envs = kind([partial(gym.make, s["env"], disable_env_checker=True)] * s["num_envs"])
    low, high = envs.action_space.low, envs.action_space.high
    actions = np.random.default_rng(s["seed"]).uniform(low, high, (256, *low.shape)).astype(low.dtype)
    envs.reset(seed=s["seed"])

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
    steps, elapsed = rounds(s["seconds"])
    print(json.dumps({"steps": steps, "seconds": elapsed}), flush=True)
    envs.close()


if __name__ == "__main__":
    main()

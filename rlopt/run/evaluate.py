"""Evaluation: whole episodes with a frozen policy, each with seeds of its own.

Every episode counts once, however long: environments take the next episode when they finish one, and the first to
finish are not counted more often than the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rlopt.core.heads import Head
from rlopt.rollout.environments import Environment, faults
from rlopt.rollout.inference import Inference
from rlopt.rollout.seeding import Purpose, integer, sequence
from rlopt.rollout.spaces import ActionDoor, observation_dtype, observation_size

_SIDE_BY_SIDE = 16  # environments at once; changes speed only


@dataclass(frozen=True)
class Evaluation:
    returns: list[float]  # undiscounted sums of raw rewards, by episode
    lengths: list[int]  # transitions

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over episodes."""
        return float(np.std(self.returns))


@torch.inference_mode()
def evaluate(
    environment: Environment, policy: Inference, head: Head, episodes: int, seed: int, deterministic: bool
) -> Evaluation:
    """``episodes`` episodes with the policy's mode, or with its samples."""
    count = min(episodes, _SIDE_BY_SIDE)
    envs = [environment.make() for _ in range(count)]
    door = ActionDoor(envs[0].action_space, getattr(head, "squash", False))
    dtype = policy.theta.dtype
    space = envs[0].observation_space
    raw = torch.zeros(count, observation_size(space), dtype=observation_dtype(space, dtype))
    inputs = torch.zeros_like(raw)
    noise = torch.zeros(count, head.noise_size, dtype=dtype)
    observations, noises = raw.numpy(), noise.numpy()
    returns, lengths = [0.0] * episodes, [0] * episodes
    playing: dict[int, int] = {}  # environment -> episode
    generators: dict[int, np.random.Generator] = {}
    started = 0

    def begin(e: int) -> None:
        nonlocal started
        if started == episodes:
            playing.pop(e, None)
            return
        with faults():
            observation, _ = envs[e].reset(seed=integer(seed, Purpose.EVALUATION_ENVIRONMENT, started))
        observations[e] = np.reshape(observation, -1)
        generators[e] = np.random.default_rng(sequence(seed, Purpose.EVALUATION_ACTION, started))
        playing[e] = started
        started += 1

    try:
        for e in range(count):
            begin(e)
        while playing:
            z = policy.outputs(policy.normalise(raw, out=inputs))
            if deterministic:
                actions = head.mode(z)
            else:
                for e in playing:
                    generator = generators[e]
                    draw = generator.standard_normal if head.noise == "normal" else generator.random
                    noises[e] = draw(head.noise_size)
                actions = head.sample(z, noise)
            taken = door(actions)
            for e, episode in list(playing.items()):
                with faults():
                    observation, reward, terminated, truncated, _ = envs[e].step(taken[e])
                observations[e] = np.reshape(observation, -1)
                returns[episode] += float(reward)
                lengths[episode] += 1
                if terminated or truncated:
                    begin(e)
    finally:
        for env in envs:
            env.close()
    return Evaluation(returns, lengths)

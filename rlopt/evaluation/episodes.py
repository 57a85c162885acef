"""Evaluation: whole episodes with a frozen policy, each with seeds of its own.

Every episode counts once, however long: environments take the next episode when they finish one, and the first to
finish are not counted more often than the others. But one of a million transitions is held to be without an end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from rlopt.core.heads import Head
from rlopt.envs.spaces import ActionTransform, observation_dtype, observation_size
from rlopt.envs.spec import Environment
from rlopt.envs.watchdog import watched
from rlopt.envs.wrappers import check_flags, check_reward, guard, observation_check
from rlopt.errors import EnvironmentFault
from rlopt.loggers import console
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.seeding import Purpose, integer, sequence

MOST_EPISODES = 10**6
_SIDE_BY_SIDE = 16  # environments at once; changes speed only
_LONGEST = 1_000_000  # transitions of an episode
_QUIET = 10.0  # seconds between two words on how far it is


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

    @property
    def iqm(self) -> float:
        """Interquartile mean: of what is left without a quarter of the episodes, rounded down, at each end."""
        cut = len(self.returns) // 4
        return float(np.mean(sorted(self.returns)[cut : len(self.returns) - cut]))


@torch.inference_mode()
def evaluate(
    environment: Environment, policy: FrozenPolicy, head: Head, episodes: int, seed: int, deterministic: bool
) -> Evaluation:
    """``episodes`` episodes with the policy's mode, or with its samples. Raises EnvironmentFault where one fails."""
    count = min(episodes, _SIDE_BY_SIDE)
    envs = [environment.make() for _ in range(count)]
    door = ActionTransform(envs[0].action_space, getattr(head, "squash", False))
    dtype = policy.theta.dtype
    space = envs[0].observation_space
    raw = torch.zeros(count, observation_size(space), dtype=observation_dtype(space, dtype))
    inputs = torch.zeros_like(raw)
    noise = torch.zeros(count, head.noise_size, dtype=dtype)
    observations, noises = raw.numpy(), noise.numpy()
    returns, lengths = [0.0] * episodes, [0] * episodes
    playing: dict[int, int] = {}  # environment -> episode
    generators: dict[int, np.random.Generator] = {}
    started = current = 0  # episodes begun; the environment that is being stepped or reset
    fit = observation_check(space)  # type: ignore[arg-type]  # `boxed`

    def described() -> str:
        episode = playing.get(current, -1)
        step = f"step {lengths[episode] + 1:,} of an episode" if episode >= 0 else "first reset"
        return f"environment {current} of the evaluation, at its {step},"

    def progress() -> object:
        return started, current, sum(lengths)

    faults = guard(described)

    def begin(e: int) -> None:
        nonlocal started
        playing.pop(e, None)
        if started == episodes:
            return
        with faults:
            observation, _ = envs[e].reset(seed=integer(seed, Purpose.EVALUATION_ENVIRONMENT, started))
            observations[e] = fit(observation).reshape(-1)
        generators[e] = np.random.default_rng(sequence(seed, Purpose.EVALUATION_ACTION, started))
        playing[e] = started
        started += 1

    told = time.monotonic()
    try:
        with watched(progress, environment.timeout, described):
            for current in range(count):
                begin(current)
            while playing:
                if time.monotonic() - told > _QUIET:
                    told, done = time.monotonic(), started - len(playing)
                    console.info(f"evaluation: {done} of {episodes} episodes, {sum(lengths):,} transitions")
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
                for current, episode in list(playing.items()):
                    with faults:
                        observation, reward, terminated, truncated, _ = envs[current].step(taken[current])
                        observations[current] = fit(observation).reshape(-1)
                        returns[episode] += check_reward(reward)
                        ended = check_flags(terminated, truncated)
                    lengths[episode] += 1
                    if ended:
                        begin(current)
                    elif lengths[episode] >= _LONGEST:
                        raise EnvironmentFault(
                            f"environment {current} of the evaluation has not ended its episode within {_LONGEST:,} "
                            "transitions; give it an end, env.kwargs.max_episode_steps=1000, for example, or leave "
                            "evaluations out: evaluation.episodes=0"
                        )
    finally:
        for env in envs:
            env.close()
    return Evaluation(returns, lengths)

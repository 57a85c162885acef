"""Evaluation: whole episodes with a frozen policy, each with seeds of its own.

Episodes have numbers, and an environment that finishes one begins the next. So every episode counts once, however long
it is: an average over the first to finish would favour short ones.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rlopt.core.heads import Head
from rlopt.envs.mujoco import MujocoEnvs
from rlopt.envs.observations import observation_dtype, observation_size
from rlopt.envs.spaces import action_transform
from rlopt.envs.spec import EnvSpec
from rlopt.envs.vector import SyncEnvs
from rlopt.envs.watchdog import watched
from rlopt.envs.wrappers import guard
from rlopt.loggers import console
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.sampler import step_environments
from rlopt.rollout.seeding import Purpose, integer, sequence

if TYPE_CHECKING:
    from rlopt.evaluation.games import GamePlayer

_SIDE_BY_SIDE = 16  # environments at once; changes speed only
LONGEST = 10_000  # transitions of an episode without a time limit; a longer one is taken to have no end
_QUIET = 10.0  # seconds between two progress messages


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of the episodes of an evaluation, in the order of their numbers."""

    returns: list[float]  # undiscounted sums of raw rewards
    lengths: list[int]  # transitions
    cut: int = 0  # episodes that were cut off before their end

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over episodes."""
        return float(np.std(self.returns))

    @property
    def iqm(self) -> float:
        """Interquartile mean: without a quarter of the episodes, rounded down, at each end."""
        cut = len(self.returns) // 4
        return float(np.mean(sorted(self.returns)[cut : len(self.returns) - cut]))


def evaluate(
    spec: EnvSpec,
    policy: FrozenPolicy,
    head: Head,
    episodes: int,
    seed: int,
    deterministic: bool,
    max_steps: int | None = None,
) -> Evaluation:
    """``episodes`` episodes with the policy's mode, or with its samples.

    An episode is cut off after ``max_steps`` transitions, by default after LONGEST where the environment has no time
    limit. How many were is said, and counted in the result. Raises EnvironmentFault where an environment fails.
    """
    player = make_player(spec, policy, head, episodes, seed, deterministic, max_steps)
    last_message = time.monotonic()
    with closing(player), watched(player.progress, spec.timeout, player.describe):
        for _ in player.play():
            if player.playing and time.monotonic() - last_message > _QUIET:
                last_message = time.monotonic()
                done, transitions = player.begun - len(player.playing), sum(player.lengths)
                console.info(f"evaluation: {done} of {episodes} episodes, {transitions:,} transitions")
    if player.cut:
        console.info(
            f"rlopt: {player.cut} of {episodes} episodes were cut off after {player.longest:,} transitions; another "
            "limit is evaluation.max_steps"
        )
    return Evaluation(player.returns, player.lengths, player.cut)


def make_player(
    spec: EnvSpec,
    policy: FrozenPolicy,
    head: Head,
    episodes: int,
    seed: int,
    deterministic: bool,
    max_steps: int | None = None,
) -> EpisodePlayer | GamePlayer:
    """What plays these episodes in environments of ``spec``; arguments as for `evaluate`."""
    side_by_side = min(episodes, _SIDE_BY_SIDE)
    if spec.agents:
        from rlopt.evaluation.games import GamePlayer

        copies = [spec.make_game() for _ in range(side_by_side)]
        return GamePlayer(copies, policy, head, episodes, seed, deterministic, max_steps or LONGEST)
    envs = spec.make_players(side_by_side)
    return EpisodePlayer(envs, policy, head, episodes, seed, deterministic, max_steps)


class EpisodePlayer:
    """Plays ``episodes`` numbered episodes with a frozen policy, one in each environment at a time.

    The seed and the noise of an episode depend on ``seed`` and its number alone. ``title`` is for error messages.
    """

    def __init__(
        self,
        envs: SyncEnvs | MujocoEnvs,
        policy: FrozenPolicy,
        head: Head,
        episodes: int,
        seed: int,
        deterministic: bool,
        max_steps: int | None = None,
        title: str = "the evaluation",
    ):
        self.returns, self.lengths = [0.0] * episodes, [0] * episodes  # so far
        self.begun = self.cut = 0  # episodes
        self.playing: dict[int, int] = {}  # environment -> episode
        self._generators: dict[int, np.random.Generator] = {}  # environment -> noise of its episode
        self._policy, self._head, self._seed = policy, head, seed
        self._deterministic, self._title = deterministic, title
        self._envs, envs.restart = envs, self._restart
        self._transform = action_transform(self._envs.single_action_space, getattr(head, "squash", False))
        limited = (spec := envs.spec) is not None and spec.max_episode_steps is not None
        self.longest = max_steps or (sys.maxsize if limited else LONGEST)  # transitions of an episode
        count, space = envs.num_envs, self._envs.single_observation_space
        dtype = policy.theta.dtype
        self._raw = torch.zeros(count, observation_size(space), dtype=observation_dtype(space, dtype))
        self._inputs = torch.zeros_like(self._raw)
        self._noise = torch.zeros(count, head.noise_size, dtype=dtype)
        self._memory = torch.zeros(count, policy.memory_size, dtype=dtype) if policy.memory_size else None
        self._envs.write_observations_to(self._raw.numpy().reshape(count, *space.shape))  # type: ignore[misc]

    def play(self) -> Iterator[None]:
        """Play all episodes; yields after the first resets, and after each step of all environments."""
        first = range(self._envs.num_envs)
        with guard(self.describe):
            self._envs.reset(seed=[integer(self._seed, Purpose.EVALUATION_ENVIRONMENT, e) for e in first])
        for e in first:
            self._assign_episode(e)
        yield
        playing = dict(self.playing)
        for _, rewards, _, _, _ in step_environments(self._envs.step, self._act, self._envs.counter, self.describe):
            for e, episode in playing.items():
                self.returns[episode] += float(rewards[e])
                self.lengths[episode] += 1
                if self.lengths[episode] >= self.longest and self.playing.get(e) == episode:
                    self.cut += 1
                    self._envs.counter.environment = e
                    with guard(self.describe):
                        self._envs.cut_short(e)
            yield
            if not self.playing:
                return
            playing = dict(self.playing)  # a step begins new episodes in it

    def describe(self) -> str:
        """The environment that is being stepped and its step, as the subject of an error message."""
        e = self._envs.counter.environment
        episode = self.playing.get(e)
        step = "first reset" if episode is None else f"step {self.lengths[episode] + 1:,} of an episode"
        return f"environment {e} of {self._title}, at its {step},"

    def progress(self) -> object:
        """Changes whenever an environment returns."""
        return self.begun, self._envs.counter.snapshot()

    def close(self) -> None:
        self._envs.close()

    @torch.inference_mode()
    def _act(self, t: int) -> np.ndarray | list[Any]:
        """Actions of all environments, as they take them; those of idle ones mean nothing."""
        head = self._head
        z = self._policy.outputs(self._policy.normalise(self._raw, out=self._inputs), self._memory)
        if self._deterministic:
            return self._transform(head.mode(z))
        noise = self._noise.numpy()
        for e, episode in self.playing.items():
            if self.lengths[episode] % (head.hold or sys.maxsize):
                continue
            generator = self._generators[e]
            draw = generator.standard_normal if head.noise == "normal" else generator.random
            noise[e] = draw(head.noise_size)
        return self._transform(head.sample(z, self._noise))

    def _restart(self, e: int) -> Any:
        """First observation of the next episode, which environment ``e`` begins; None where no episode is left."""
        del self.playing[e]
        if self.begun == len(self.returns):
            return None
        observation = self._envs.reset_one(e, integer(self._seed, Purpose.EVALUATION_ENVIRONMENT, self.begun))
        self._assign_episode(e)
        return observation

    def _assign_episode(self, e: int) -> None:
        """Note that environment ``e`` has begun the next episode."""
        self._generators[e] = np.random.default_rng(sequence(self._seed, Purpose.EVALUATION_ACTION, self.begun))
        self.playing[e] = self.begun
        if self._memory is not None:
            self._memory[e] = 0
        self.begun += 1

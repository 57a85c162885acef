"""Collector: T steps of E environments with a frozen policy -> Batch. Buffers are allocated once.

Nothing is computed per step that can be computed for the whole rollout: values, log-probabilities, advantages and
episode returns come afterwards.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from rlopt.rollout.batch import Batch
from rlopt.rollout.environments import faults
from rlopt.rollout.inference import Inference
from rlopt.rollout.seeding import Purpose, integer, noise, sequence
from rlopt.rollout.spaces import ActionDoor, PolicyHead, observation_size


class Collector:
    """Owns the environments and where they stand; the policy comes with each call."""

    def __init__(self, envs: VectorEnv, head: PolicyHead, steps: int, seed: int, dtype: torch.dtype):
        self.envs, self.head, self.steps, self.dtype = envs, head, steps, dtype
        count = self.num_envs = envs.num_envs
        size = observation_size(envs.single_observation_space)
        self._door = ActionDoor(envs.single_action_space, getattr(head, "squash", False))
        self._seeds = [integer(seed, Purpose.ENVIRONMENT, e) for e in range(count)]
        self._generators = [np.random.default_rng(sequence(seed, Purpose.ACTION, e)) for e in range(count)]

        T, E = steps, count
        self._observations = torch.zeros(T + 1, E, size, dtype=dtype)
        self._inputs = torch.zeros(T + 1, E, size, dtype=dtype)
        self._outputs = torch.zeros(T, E, head.network_outputs + head.constants, dtype=dtype)
        action = head.mode(self._outputs[0])
        self._actions = torch.zeros((T, *action.shape), dtype=action.dtype)
        self._rewards = torch.zeros(T, E, dtype=dtype)
        self._terminated = torch.zeros(T, E, dtype=torch.bool)
        self._truncated = torch.zeros(T, E, dtype=torch.bool)
        self._mask = torch.ones(T, E, dtype=dtype)
        self._time = np.zeros(E, np.int64)
        self._episode = np.arange(E, dtype=np.int64)
        self._started = False

    @torch.inference_mode()
    def collect(self, policy: Inference) -> Batch:
        """The next ``steps`` transitions of every environment. The batch is valid until the next call."""
        observations, rewards = self._observations.numpy(), self._rewards.numpy()
        terminated, truncated = self._terminated.numpy(), self._truncated.numpy()
        times = np.empty((self.steps, self.num_envs), np.int64)
        episodes = np.empty((self.steps, self.num_envs), np.int64)
        shape = observations.shape[1:]
        final: list[tuple[int, int, np.ndarray]] = []
        drawn = noise(self._generators, self.head.noise, self.steps, self.head.noise_size, self.dtype)
        if self._started:
            observations[0] = observations[-1]
        else:
            with faults():
                first, _ = self.envs.reset(seed=self._seeds)  # type: ignore[arg-type]  # one each, as documented
            observations[0] = first.reshape(shape)
            self._started = True

        outputs: list[Tensor] = []
        taken: list[Tensor] = []
        rows = zip(self._observations.unbind(0), self._inputs.unbind(0), drawn.unbind(0), strict=False)
        for t, (raw, inputs, noises) in enumerate(rows):
            z = policy.outputs(policy.normalise(raw, out=inputs))
            actions = self.head.sample(z, noises)
            outputs.append(z)
            taken.append(actions)
            times[t], episodes[t] = self._time, self._episode

            with faults():
                following, rewards[t], terminated[t], truncated[t], info = self.envs.step(self._door(actions))
            observations[t + 1] = following.reshape(shape)
            self._time += 1
            if "final_obs" in info:
                over = terminated[t] | truncated[t]
                final += [(t, int(e), info["final_obs"][e]) for e in np.flatnonzero(truncated[t] & ~terminated[t])]
                self._time[over] = 0
                self._episode[over] += self.num_envs
        policy.normalise(self._observations[-1], out=self._inputs[-1])
        torch.stack(outputs, out=self._outputs)
        torch.stack(taken, out=self._actions)

        last = np.array([o.reshape(-1) for _, _, o in final], observations.dtype).reshape(-1, shape[1])
        return Batch(
            inputs=self._inputs,
            observations=self._observations[:-1],
            actions=self._actions,
            outputs=self._outputs,
            rewards=self._rewards,
            terminated=self._terminated,
            truncated=self._truncated,
            time=torch.from_numpy(times),
            episode=torch.from_numpy(episodes),
            mask=self._mask,
            final=policy.normalise(torch.from_numpy(last), out=torch.empty(last.shape, dtype=self.dtype)),
            final_place=(torch.tensor([t for t, _, _ in final]).long(), torch.tensor([e for _, e, _ in final]).long()),
        )

    def close(self) -> None:
        self.envs.close()

"""VectorEnvTensors: a Gymnasium VectorEnv whose arrays are tensors, as environments that are tensors.

Isaac Lab and ManiSkill have such environments by their documentation; this was not tried with either. What is expected
of one:

| member                                     | is                                                                 |
|---|---|
| num_envs, single_observation_space,        | as in gymnasium.vector.VectorEnv                                   |
| single_action_space                        |                                                                    |
| reset(seed=int)                            | observation, info; tensors (E, ...), or a Dict, of which "policy"  |
|                                            | alone is seen, as in Isaac Lab                                     |
| step(actions)                              | observation, reward, terminated, truncated, info; an episode that  |
|                                            | ends begins anew in the same step                                  |
| info["final_obs"], or "final_observation"  | (E, ...) the last observations of episodes that have ended; rows   |
|                                            | of the others are not read                                         |
| state(), restore(state); may be missing    | as in `rlopt.envs.tensor.protocol`                                 |

Where an info has no last observations, as in Isaac Lab, the observation that was acted on last stands for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from rlopt.envs.observations import InvalidOutput, describe_kind
from rlopt.envs.tensor.protocol import Stepped
from rlopt.errors import UserError

_PART = "policy"  # what a policy sees, of a Dict of observations
_FINAL = "final_obs", "final_observation"
_ACTED_ON = "acted_on"  # among the simulator's own state


class VectorEnvTensors:
    """See the module. Raises UserError where ``env`` resets in the next step or lacks a space."""

    def __init__(self, env: Any, device: torch.device):
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode", AutoresetMode.SAME_STEP)
        if mode is not AutoresetMode.SAME_STEP:
            raise UserError(f"it has autoreset_mode={mode}; give AutoresetMode.SAME_STEP to its vector_entry_point")
        self._env, self.num_envs, self.device = env, int(env.num_envs), device
        self.observation_space, self.action_space = self._part(env.single_observation_space), env.single_action_space
        self._dtype = getattr(torch, str(self.action_space.dtype), None)
        self._acted_on = torch.empty(0)

    def reset(self, seed: int, first: int = 0) -> Tensor:
        self._acted_on = self._seen(self._env.reset(seed=seed + first)[0]).clone()
        return self._acted_on

    def step(self, actions: Tensor) -> Stepped:
        found, reward, terminated, truncated, info = self._env.step(actions.to(self._dtype))
        observation, terminated, truncated = self._seen(found), terminated.bool(), truncated.bool()
        given = next((info[name] for name in _FINAL if name in info), None)
        over = (terminated | truncated).view(-1, *[1] * (observation.ndim - 1))
        last = torch.where(over, self._acted_on if given is None else self._seen(given), observation)
        self._acted_on = observation.clone()  # it may lie in memory that the next step writes to
        return Stepped(observation, reward, terminated, truncated, last)

    def close(self) -> None:
        self._env.close()

    def __getattr__(self, name: str) -> Any:
        if name in ("state", "restore") and callable(getattr(self._env, name, None)):
            return self._state if name == "state" else self._restore
        raise AttributeError(name)

    def _state(self) -> dict[str, Tensor]:
        return {**self._env.state(), _ACTED_ON: self._acted_on}

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        self._acted_on = state[_ACTED_ON].to(self._acted_on).view_as(self._acted_on).clone()
        self._env.restore({name: x for name, x in state.items() if name != _ACTED_ON})

    def _seen(self, observation: Any) -> Tensor:
        """The tensor within an observation. Raises InvalidOutput where there is none."""
        if isinstance(observation, Mapping) and _PART in observation:
            observation = observation[_PART]
        if not isinstance(observation, Tensor):
            raise InvalidOutput(f"observations that are {describe_kind(observation)}, where tensors are wanted")
        return observation

    @staticmethod
    def _part(space: gym.Space[Any]) -> gym.Space[Any]:
        return space[_PART] if isinstance(space, spaces.Dict) and _PART in space.spaces else space

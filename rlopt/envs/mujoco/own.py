"""MjcfEnv: an environment of one's own, of a model in MJCF and a few functions in torch.

By itself it is an environment of Gymnasium's, simulated by MuJoCo in C; with `env.backend=warp` the same functions
serve thousands of them on the GPU. They take and give tensors whose first axis E counts environments, may neither read
a number of one nor branch on it, and are those of `rlopt.envs.mujoco.task.Task`:

| member                               | is                                                        | if left out      |
|---|---|---|
| mjcf                                 | a file beside the class's own, or the XML itself          |                  |
| reward(s, actions, speed, healthy)   | (E,) what a step to the state s pays                      |                  |
| observe(s)                           | (E, D)                                                    | qpos, qvel       |
| healthy(s)                           | (E,) bool: the episode goes on                            | always           |
| place(s)                             | (E,) metres, of which ``speed`` is the change in a second | first position   |
| start_size, start(noise, qpos, qvel) | (..., nq), (..., nv) of noise (..., start_size) in (0, 1) | both +- 0.01     |
| prepare(like)                        | moves constants to the device and the type of ``like``    |                  |
| reads                                | names of mjData's arrays that s has, (E, ...) each        | ("qpos", "qvel") |
| contact_forces                       | True: cfrc_ext is one of them                             | False            |
| frame_skip                           | MuJoCo's steps within one                                 | 1                |
| limit                                | steps after which an episode is truncated                 | None: none       |

Actions are the model's controls, within their ranges. ``env.kwargs`` are the arguments of the constructor, which are
attributes of ``self.options``; ``reset_noise_scale`` is one already, 0.01.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rlopt.envs.mujoco.envs import log_warnings
from rlopt.envs.mujoco.task import Physics, Task
from rlopt.errors import UserError, in_one_line, needs_extra


class MjcfEnv(Task, gym.Env[Any, Any]):
    """Base of such environments; see the module. Raises UserError where the model cannot be read."""

    mjcf: ClassVar[str]
    frame_skip: ClassVar[int] = 1
    limit: ClassVar[int | None] = None

    def __init__(self, render_mode: str | None = None, **options: Any):
        model = self._load()
        timestep = model.opt.timestep * self.frame_skip
        super().__init__(model, SimpleNamespace(**{"reset_noise_scale": 0.01, **options}), timestep)
        self.render_mode = render_mode
        self._renderer: Any = None
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / timestep)}
        self.data = self._mujoco.MjData(model)
        self.begin = self.data.qpos.copy(), self.data.qvel.copy()
        low, high = np.full((2, model.nu), [[-np.inf], [np.inf]])
        limited = model.actuator_ctrllimited.astype(bool)
        low[limited], high[limited] = model.actuator_ctrlrange[limited].T
        self.action_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self._mujoco.mj_forward(model, self.data)
        seen = self._observe(self._gather()).shape
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, seen, np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._mujoco.mj_resetData(self.model, self.data)
        noise = torch.as_tensor(self.np_random.random(self.start_size))
        self.data.qpos[:], self.data.qvel[:] = self.start(noise, *(torch.as_tensor(x) for x in self.begin))
        self._mujoco.mj_forward(self.model, self.data)
        self._elapsed, s = 0, self._gather()
        self._at = float(self.place(s))
        return self._observe(s), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.data.ctrl[:] = action
        self._mujoco.mj_step(self.model, self.data, self.frame_skip)
        if self.contact_forces:
            self._mujoco.mj_rnePostConstraint(self.model, self.data)
        s, actions = self._gather(), torch.as_tensor(np.asarray(action, np.float64))[None]
        place, healthy = self.place(s), self.healthy(s)
        reward = self.reward(s, actions, (place - self._at) / self.dt, healthy)
        self._at, self._elapsed = float(place), self._elapsed + 1
        terminated = healthy is not None and not bool(healthy)
        truncated = self.limit is not None and self._elapsed >= self.limit
        return self._observe(s), float(reward), terminated, truncated, {}

    def state(self) -> dict[str, Any]:
        """All that the episode needs to go on to the bit, see `rlopt.envs.replay`."""
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(self._mujoco.mj_stateSize(self.model, kind))
        self._mujoco.mj_getState(self.model, self.data, physics, kind)
        return {"physics": physics, "elapsed": self._elapsed, "at": self._at}

    def restore(self, state: dict[str, Any]) -> None:
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        self._mujoco.mj_setState(self.model, self.data, state["physics"], kind)
        self._elapsed, self._at = state["elapsed"], state["at"]

    def render(self) -> Any:
        if self._renderer is None:
            self._renderer = self._mujoco.Renderer(self.model)
        self._renderer.update_scene(self.data)
        return self._renderer.render()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _gather(self) -> Physics:
        """What the functions read, of this one environment."""
        return Physics(**{name: torch.from_numpy(getattr(self.data, name))[None] for name in self.reads})

    def _observe(self, s: Physics) -> np.ndarray:
        seen: Tensor = self.observe(s)
        return seen[0].numpy().copy()

    def _load(self) -> Any:
        log_warnings()
        try:
            import mujoco
        except ImportError as error:
            raise UserError(
                needs_extra(f"{type(self).__name__} needs a package that is not installed", "mujoco")
            ) from error
        self._mujoco: Any = mujoco
        text = getattr(self, "mjcf", "")
        try:
            if text.lstrip().startswith("<"):
                return mujoco.MjModel.from_xml_string(text)
            return mujoco.MjModel.from_xml_path(str(Path(inspect.getfile(type(self))).parent / text))
        except ValueError as error:
            raise UserError(f"{type(self).__name__}.mjcf cannot be read by MuJoCo: {in_one_line(error)}") from error

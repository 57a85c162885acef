"""Film: an episode of a frozen policy, drawn by its environment, as a video file (or as a GIF for TensorBoard).

Classic control is drawn by pygame, MuJoCo by OpenGL; neither needs a screen. MuJoCo without one takes EGL (a GPU's
driver, or Mesa's libegl1) unless MUJOCO_GL=osmesa asks for drawing on the processor (libosmesa6).
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlopt.envs.spaces import PolicyHead
from rlopt.envs.spec import Environment
from rlopt.envs.wrappers import FAULTS, check_flags, check_reward, guard
from rlopt.errors import UserError
from rlopt.policy.inference import FrozenPolicy
from rlopt.policy.policy import Policy
from rlopt.rollout.seeding import Purpose, integer

KINDS = (".mp4", ".webm", ".gif")
_RATE = 30.0  # frames per second, where the environment does not say
_EXTRA = "pip install 'rlopt[video]'"
_WIDTH = 240  # pixels, about, of a GIF for TensorBoard
_EVERY = 2  # frames of an episode to one of such a GIF


class Video:
    """The first episode of an evaluation with these seeds, with the policy's mode. Iterate for its frames (H, W, 3)."""

    def __init__(self, environment: Environment, policy: FrozenPolicy, head: PolicyHead, seed: int):
        self._id, self._env, self._seed = environment.id, _made(environment), seed
        self._policy = Policy(policy, head, self._env.observation_space, self._env.action_space)
        self.rate = float(self._env.metadata.get("render_fps") or _RATE)  # frames per second
        self.total, self.length = 0.0, 0  # return and transitions of what has been drawn

    def __iter__(self) -> Iterator[np.ndarray]:
        faults, ended = guard(lambda: f"env.id={self._id}, when it was filmed,"), False
        with faults:
            observation, _ = self._env.reset(seed=integer(self._seed, Purpose.EVALUATION_ENVIRONMENT))
        yield _frame(self._env, self._id)
        while not ended:
            with faults:
                observation, reward, terminated, truncated, _ = self._env.step(self._policy(observation))
                self.total, self.length = self.total + check_reward(reward), self.length + 1
                ended = check_flags(terminated, truncated)
            yield _frame(self._env, self._id)

    def close(self) -> None:
        self._env.close()


def check(environment: Environment) -> None:
    """Raise UserError where no episode can be filmed here."""
    if not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise UserError(f"a video needs imageio and imageio-ffmpeg: {_EXTRA}")
    with closing(_made(environment)) as env:
        with guard(lambda: f"env.id={environment.id}, when it was filmed,"):
            env.reset(seed=0)
        _frame(env, environment.id)


def check_path(path: Path) -> None:
    """Raise UserError where no video can be written to ``path``."""
    if path.suffix not in KINDS:
        raise UserError(f"--video takes a file that ends in {', '.join(KINDS)}; got {path}")
    if not path.parent.is_dir():
        raise UserError(f"--video: there is no folder {path.parent}")


def write(reel: Video, path: Path) -> None:
    """The whole episode as a video; frames go to the file as they are drawn."""
    import imageio.v2 as imageio

    pace: dict[str, Any] = {"fps": reel.rate, "macro_block_size": 2}  # H.264 wants even sizes
    if path.suffix == ".gif":
        pace = {"duration": 1000 / reel.rate, "loop": 0}
    try:
        with closing(reel), imageio.get_writer(path, **pace) as writer:
            for frame in reel:
                writer.append_data(frame)  # type: ignore[attr-defined]
    except OSError as error:
        raise UserError(f"the video {path} cannot be written: {error}") from error


def animation(reel: Video, steps: int) -> tuple[bytes, int, int]:
    """The first ``steps`` transitions as a small GIF: encoded, height and width."""
    import imageio.v2 as imageio

    frames = []
    with closing(reel):
        for i, frame in enumerate(reel):
            if i > steps:
                break
            if i % _EVERY == 0:
                every = max(round(frame.shape[1] / _WIDTH), 1)
                frames.append(frame[::every, ::every])
    out = io.BytesIO()
    imageio.mimwrite(out, frames, format="GIF", duration=1000 * _EVERY / reel.rate, loop=0)  # type: ignore[arg-type]
    return out.getvalue(), frames[0].shape[0], frames[0].shape[1]


def _made(environment: Environment) -> gym.Env:
    """One environment that draws itself."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        for name, value in (("MUJOCO_GL", "egl"), ("SDL_VIDEODRIVER", "dummy"), ("SDL_AUDIODRIVER", "dummy")):
            os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's, of a render mode that is not there
        env = environment.make(render_mode="rgb_array")
    if "rgb_array" not in env.metadata.get("render_modes", ()):
        env.close()
        raise UserError(f"env.id={environment.id} cannot be drawn: it has no render mode rgb_array")
    _follow(env)
    return env


def _follow(env: gym.Env) -> None:
    """Take MuJoCo's camera that goes with the robot, where there is one: Gymnasium's own choice may stay behind."""
    renderer, model = (getattr(env.unwrapped, name, None) for name in ("mujoco_renderer", "model"))
    if getattr(renderer, "camera_id", None) == -1:
        with suppress(KeyError):
            renderer.camera_id = model.camera("track").id  # type: ignore[union-attr]


def _frame(env: gym.Env, id_: str) -> np.ndarray:
    try:
        return np.asarray(env.render(), np.uint8)
    except gym.error.DependencyNotInstalled as error:
        raise UserError(f"env.id={id_} cannot be drawn without a package that is missing: {_EXTRA}") from error
    except FAULTS as error:  # of OpenGL, which has many
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"env.id={id_} cannot be drawn: {said}; MuJoCo without a screen needs EGL (libegl1) or, with "
            "MUJOCO_GL=osmesa, libosmesa6"
        ) from error

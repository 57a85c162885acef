"""Video: an episode of a frozen policy, drawn by its environment, as a video file or as a GIF for TensorBoard.

pygame draws classic control and OpenGL draws MuJoCo; neither needs a screen. Without one MuJoCo uses EGL (a GPU's
driver, or Mesa's libegl1). MUJOCO_GL=osmesa makes it draw on the processor (libosmesa6).
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

from rlopt.envs.agents.game import game_of
from rlopt.envs.spaces import PolicyHead
from rlopt.envs.spec import EnvSpec
from rlopt.envs.vector import SyncEnvs
from rlopt.envs.wrappers import FAULTS, guard
from rlopt.errors import UserError, in_one_line, needs_extra
from rlopt.evaluation.episodes import LONGEST, EpisodePlayer
from rlopt.evaluation.games import GamePlayer
from rlopt.policy.inference import FrozenPolicy

KINDS = (".mp4", ".webm", ".gif")
_RATE = 30.0  # frames per second, where the environment does not say
_WIDTH = 240  # pixels, about, of a GIF for TensorBoard
_EVERY = 2  # frames of an episode for one frame of such a GIF


class Video:
    """The first episode of an evaluation with this seed, with the policy's mode. Iterate for its frames (H, W, 3)."""

    def __init__(self, spec: EnvSpec, policy: FrozenPolicy, head: PolicyHead, seed: int):
        self._id = spec.id
        self._player: EpisodePlayer | GamePlayer
        if spec.agents:
            self._env: gym.Env = game_of(_make_drawable(spec).unwrapped)
            self._player = GamePlayer([self._env], policy, head, 1, seed, True, LONGEST, "the video")
        else:
            envs = SyncEnvs([lambda: _make_drawable(spec)])
            self._player = EpisodePlayer(envs, policy, head, 1, seed, True, title="the video")
            self._env = envs.envs[0]
        self.rate = float(self._env.metadata.get("render_fps") or _RATE)  # frames per second

    @property
    def total(self) -> float:
        """Return of what has been drawn."""
        return self._player.returns[0]

    @property
    def length(self) -> int:
        """Transitions that have been drawn."""
        return self._player.lengths[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for _ in self._player.play():
            yield _draw(self._env, self._id)

    def close(self) -> None:
        self._player.close()


def check(spec: EnvSpec) -> None:
    """Raise UserError where the environment cannot be drawn, or a package is missing."""
    if not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise UserError(needs_extra("a video needs imageio and imageio-ffmpeg", "video"))
    with closing(_make_drawable(spec)) as env:
        with guard(lambda: f"env.id={spec.id}, when it was drawn,"):
            env.reset(seed=0)
        _draw(env, spec.id)


def check_path(path: Path) -> None:
    """Raise UserError where no video can be written to ``path``."""
    if path.suffix not in KINDS:
        raise UserError(f"--video takes a file that ends in {', '.join(KINDS)}; got {path}")
    if not path.parent.is_dir():
        raise UserError(f"--video: there is no folder {path.parent}")


def write(video: Video, path: Path) -> None:
    """Write the whole episode to ``path``, each frame as soon as it is drawn. Raises UserError where that fails."""
    import imageio.v2 as imageio

    options: dict[str, Any] = {"fps": video.rate, "macro_block_size": 2}  # H.264 needs even sizes
    if path.suffix == ".gif":
        options = {"duration": 1000 / video.rate, "loop": 0}
    try:
        with closing(video), imageio.get_writer(path, **options) as writer:
            for frame in video:
                writer.append_data(frame)  # type: ignore[attr-defined]
    except OSError as error:
        raise UserError(f"the video {path} cannot be written: {error}") from error


def animation(video: Video, steps: int) -> tuple[bytes, int, int]:
    """The first ``steps`` transitions as a small GIF: encoded, its height and its width."""
    import imageio.v2 as imageio

    frames = []
    with closing(video):
        for i, frame in enumerate(video):
            if i > steps:
                break
            if i % _EVERY == 0:
                every = max(round(frame.shape[1] / _WIDTH), 1)
                frames.append(frame[::every, ::every])
    out = io.BytesIO()
    imageio.mimwrite(out, frames, format="GIF", duration=1000 * _EVERY / video.rate, loop=0)  # type: ignore[arg-type]
    return out.getvalue(), frames[0].shape[0], frames[0].shape[1]


def _make_drawable(spec: EnvSpec) -> gym.Env:
    """An environment that can be drawn. Raises UserError where it has no such render mode."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        for name, value in (("MUJOCO_GL", "egl"), ("SDL_VIDEODRIVER", "dummy"), ("SDL_AUDIODRIVER", "dummy")):
            os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium warns where the render mode does not exist
        env = spec.make(render_mode="rgb_array")
    if "rgb_array" not in env.metadata.get("render_modes", ()):
        env.close()
        raise UserError(f"env.id={spec.id} cannot be drawn: it has no render mode rgb_array")
    _use_tracking_camera(env)
    return env


def _use_tracking_camera(env: gym.Env) -> None:
    """Select MuJoCo's camera that follows the robot, if there is one; Gymnasium's default may lose sight of it."""
    renderer, model = (getattr(env.unwrapped, name, None) for name in ("mujoco_renderer", "model"))
    if getattr(renderer, "camera_id", None) == -1:
        with suppress(KeyError):
            renderer.camera_id = model.camera("track").id  # type: ignore[union-attr]


def _draw(env: gym.Env, id_: str) -> np.ndarray:
    """The environment as a frame (H, W, 3) of bytes. Raises UserError where that fails."""
    try:
        drawn = env.render()
    except gym.error.DependencyNotInstalled as error:
        raise UserError(
            needs_extra(f"env.id={id_} cannot be drawn without a package that is missing", "video")
        ) from error
    except FAULTS as error:  # OpenGL raises many kinds
        said = in_one_line(error) or type(error).__name__
        if hasattr(env.unwrapped, "mujoco_renderer"):
            said += "; MuJoCo without a screen needs EGL (libegl1) or, with MUJOCO_GL=osmesa, libosmesa6"
        raise UserError(f"env.id={id_} cannot be drawn: {said}") from error
    return _as_frame(drawn, id_)


def _as_frame(drawn: Any, id_: str) -> np.ndarray:
    """What render() returned as a frame (H, W, 3) of bytes; grey is repeated, numbers in [0, 1] are scaled.

    Raises UserError for anything else.
    """
    try:
        frame = np.asarray(drawn)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"env.id={id_} cannot be drawn: render() returned a {type(drawn).__name__}") from error
    is_grey = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1)
    is_colour = frame.ndim == 3 and frame.shape[2] in (3, 4)
    if frame.dtype.kind not in "fiub" or 0 in frame.shape or not (is_grey or is_colour):
        what = "None" if drawn is None else f"{type(drawn).__name__} of shape {frame.shape} and type {frame.dtype}"
        raise UserError(f"env.id={id_} cannot be drawn: render() returned {what}; wanted are bytes (H, W, 3)")
    if frame.dtype != np.uint8:
        low, high = float(frame.min()), float(frame.max())
        unit = frame.dtype.kind in "fb" and high <= 1
        if not 0 <= low <= high <= 255:  # NaN neither
            raise UserError(
                f"env.id={id_} cannot be drawn: render() returned numbers from {low:g} to {high:g}; wanted are bytes, "
                "or numbers in [0, 1]"
            )
        frame = np.round(frame * 255.0 if unit else frame).astype(np.uint8)
    if is_grey:
        return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, 2)
    return frame[:, :, :3]

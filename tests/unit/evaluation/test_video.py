"""Videos: what cannot be drawn or written is refused, and a short animation is of the frames asked for."""

import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image, ImageSequence

from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError
from rlopt.evaluation.video import KINDS, Video, _draw, animation, check, check_path, write
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments")


@pytest.fixture
def video() -> Video:
    run = make_trainer("env=cartpole", "policy.hidden=[4]", "critic.hidden=[4]")
    with closing(run.collector):
        return Video(run.config.env, run.agent.evaluated_policy(run.state), run.agent.head, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_may_be_written_into_a_folder_that_exists(kind, tmp_path):
    check_path(tmp_path / f"film{kind}")


@pytest.mark.parametrize(("name", "says"), [("film.avi", "ends in .mp4"), ("no/film.mp4", "there is no folder")])
def test_a_path_that_no_video_can_have_is_refused(name, says, tmp_path):
    with pytest.raises(UserError, match=says):
        check_path(tmp_path / name)


def test_an_environment_without_frames_is_refused():
    run = make_trainer("env.id=probe/Constant-v0", "policy.hidden=[4]", "critic.hidden=[4]")
    with closing(run.collector), pytest.raises(UserError, match="has no render mode rgb_array"):
        check(run.config.env)


def test_an_animation_shows_the_start_and_every_second_frame(video):
    encoded, height, width = animation(video, steps=4)
    shown = Image.open(io.BytesIO(encoded))
    assert shown.format == "GIF" and shown.size == (width, height) and shown.n_frames == 3


def test_an_episode_is_written_whole(video, tmp_path):
    path = tmp_path / "film.gif"
    write(video, path)
    assert video.length == video.total > 1
    with Image.open(path) as film:  # equal frames are one, shown for longer
        shown = sum(frame.info["duration"] for frame in ImageSequence.Iterator(film))
    assert shown == (video.length + 1) * 1000 / video.rate


def test_a_file_that_cannot_be_written_is_one_line(video):
    with pytest.raises(UserError, match="the video nowhere/film.gif cannot be written"):
        write(video, Path("nowhere/film.gif"))


class Drawn(gym.Env):
    """Renders the thing that it was given."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    thing: ClassVar[Any] = None

    def __init__(self, render_mode: str | None = None):
        self.observation_space, self.action_space, self.render_mode = (
            spaces.Discrete(2),
            spaces.Discrete(2),
            render_mode,
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return 0, {}

    def step(self, action: Any) -> Any:
        return 0, 0.0, True, False, {}

    def render(self) -> Any:
        if isinstance(self.thing, Exception):
            raise self.thing
        return self.thing


@pytest.fixture
def draws(monkeypatch) -> Callable[[Any], np.ndarray]:
    """A function from what render() returns to the frame of a video."""
    monkeypatch.setitem(gym.registry, "Drawn-v0", gym.envs.registration.EnvSpec("Drawn-v0", entry_point=Drawn))
    made = EnvSpec("drawn", "Drawn-v0", 1, "sync", None, {})

    def draw(thing: Any) -> np.ndarray:
        monkeypatch.setattr(Drawn, "thing", thing)
        check(made)
        with closing(made.make("rgb_array")) as env:
            env.reset(seed=0)
            return _draw(env, "Drawn-v0")

    return draw


COLOUR = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.mark.parametrize(
    ("thing", "wanted"),
    [
        (COLOUR, COLOUR), (COLOUR.tolist(), COLOUR), (COLOUR.astype(np.float32) / 255, COLOUR),
        (COLOUR.astype(np.float64), COLOUR), (COLOUR.astype(np.int64), COLOUR),
        (COLOUR[:, :, 0], COLOUR[:, :, [0, 0, 0]]), (COLOUR[:, :, :1], COLOUR[:, :, [0, 0, 0]]),
        (np.concatenate([COLOUR, COLOUR[:, :, :1]], 2), COLOUR), (COLOUR > 11, np.uint8(255) * (COLOUR > 11)),
    ],
)  # fmt: skip
def test_frames_of_every_usual_kind_are_drawn(draws, thing, wanted):
    found = draws(thing)
    assert found.dtype == np.uint8 and np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (None, "render\\(\\) returned None; wanted are bytes"),
        ("text", "returned str of shape \\(\\) and type <U4"),
        (np.zeros((3, 2, 2), np.uint8), "returned ndarray of shape \\(3, 2, 2\\) and type uint8"),
        (np.zeros((0, 2, 3), np.uint8), "of shape \\(0, 2, 3\\)"),
        ([COLOUR, COLOUR], "returned list of shape \\(2, 2, 4, 3\\)"),
        ([COLOUR, 3], "returned a list"),
        (np.full((2, 2, 3), 300.0), "returned numbers from 300 to 300"),
        (np.full((2, 2, 3), np.nan), "returned numbers from nan to nan"),
        (np.full((2, 2, 3), -0.1), "returned numbers from -0.1 to -0.1"),
        (RuntimeError("no screen"), "cannot be drawn: no screen$"),
    ],
)
def test_what_is_no_frame_is_refused(draws, thing, says):
    with pytest.raises(UserError, match=f"env.id=Drawn-v0 cannot be drawn: .*{says.removeprefix('cannot be drawn: ')}"):
        draws(thing)

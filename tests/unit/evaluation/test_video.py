"""Videos: what cannot be drawn or written is refused, and a short animation is of the frames asked for."""

import io
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image, ImageSequence

from rlopt.errors import UserError
from rlopt.evaluation.video import KINDS, Video, animation, check, check_path, write
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

"""rlopt eval: its numbers against scipy and dense arithmetic, and its video read back."""

import gc
import json
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from scipy import stats

from rlopt.cli import evaluate as command
from rlopt.cli import main as cli
from rlopt.evaluation import video as film
from rlopt.evaluation.episodes import Evaluation
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments")
SMALL = ["batch_size=80", "total_steps=80", "policy.hidden=[8]", "critic.hidden=[8]", "evaluation.episodes=0"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("trained") / "run"
    make_trainer(f"run_dir={place}", *SMALL).run()
    return place


@pytest.fixture
def evaluated(capsys):
    def start(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["eval", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return start


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 21, 100])
def test_the_interquartile_mean_is_scipys(count):
    returns = np.random.default_rng(count).normal(size=count)
    evaluation = Evaluation(returns.tolist(), [1] * count)
    assert evaluation.iqm == pytest.approx(stats.trim_mean(returns, 0.25))


def test_intervals_are_those_of_scipy(run_dir, evaluated):
    code, out, err = evaluated(run_dir, "--episodes", 30, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    for kind in ("deterministic", "sampled"):
        told, returns = report[kind], np.array(report[kind]["returns"])
        expected = stats.ttest_1samp(returns, 0).confidence_interval(0.95)
        assert told["mean_interval"] == pytest.approx(list(expected))
        assert told["iqm"] == pytest.approx(stats.trim_mean(returns, 0.25))
        other = stats.bootstrap((returns,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=20_000,
                                method="percentile", rng=np.random.default_rng(7)).confidence_interval  # fmt: skip
        width = other.high - other.low
        assert told["iqm_interval"] == pytest.approx([other.low, other.high], abs=0.1 * width)  # of other resamples
        assert width > 0


def test_a_single_episode_has_no_interval(run_dir, evaluated):
    told = json.loads(evaluated(run_dir, "--episodes", 1, "--json")[1])["sampled"]
    assert (told["mean_interval"], told["iqm_interval"], told["iqm"]) == (None, None, told["mean"])
    assert "[" not in evaluated(run_dir, "--episodes", 1)[1]


def test_without_scipy_only_the_intervals_are_missing(run_dir, evaluated, monkeypatch):
    whole = json.loads(evaluated(run_dir, "--episodes", 5, "--json")[1])["sampled"]
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    told = json.loads(evaluated(run_dir, "--episodes", 5, "--json")[1])["sampled"]
    assert told == {**whole, "mean_interval": None, "iqm_interval": None}


def test_the_words_tell_the_same_numbers(run_dir, evaluated):
    told = json.loads(evaluated(run_dir, "--episodes", 9, "--json")[1])["sampled"]
    low, high = told["mean_interval"]
    line = evaluated(run_dir, "--episodes", 9)[1].splitlines()[1]
    assert f"return {told['mean']:.2f} [{low:.2f}, {high:.2f}], std {told['std']:.2f}, IQM {told['iqm']:.2f} [" in line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio's reader leaves pipes open
@pytest.mark.parametrize("name", ["film.mp4", "film.gif", None])
def test_a_video_shows_the_first_episode(run_dir, evaluated, tmp_path, name):
    pytest.importorskip("pygame")
    path = run_dir / "video.mp4" if name is None else tmp_path / name
    code, out, err = evaluated(run_dir, "--episodes", 1, "--json", "--video", *([] if name is None else [path]))
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["video"] == {
        "path": str(path),
        "return": report["deterministic"]["returns"][0],
        "length": report["deterministic"]["lengths"][0],
    }
    with imageio.get_reader(path) as reader:
        frames = [np.asarray(frame)[..., :3] for frame in reader]
    del reader
    gc.collect()
    drawn = report["video"]["length"] + 1
    assert 0.8 * drawn < len(frames) <= drawn if name == "film.gif" else len(frames) == drawn  # GIF joins equal ones
    assert frames[0].shape == (400, 600, 3)
    assert frames[0].std() > 10 and np.abs(frames[0].astype(float) - frames[-1]).max() > 50  # something, and it moves


@pytest.mark.parametrize(
    "path, wanted",
    [("film.avi", "ends in .mp4, .webm, .gif; got film.avi"), ("nowhere/film.mp4", "there is no folder nowhere")],
)
def test_a_video_that_cannot_be_written_is_refused_at_once(run_dir, evaluated, tmp_path, monkeypatch, path, wanted):
    monkeypatch.chdir(tmp_path)
    code, out, err = evaluated(run_dir, "--video", path)
    assert (code, out) == (2, "")
    assert wanted in err and len(err.splitlines()) == 1


def test_an_environment_that_cannot_be_drawn_is_one_line(tmp_path, evaluated):
    make_trainer(f"run_dir={tmp_path / 'run'}", *SMALL, "env.id=probe/Seeded-v0").run()
    code, out, err = evaluated(tmp_path / "run", "--video")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "rlopt: env.id=probe/Seeded-v0 cannot be drawn: it has no render mode rgb_array"


def test_packages_that_a_video_lacks_are_named(run_dir, evaluated, monkeypatch):
    monkeypatch.setattr(film, "find_spec", lambda name: None)
    code, _, err = evaluated(run_dir, "--video")
    assert code == 2 and "pip install 'rlopt-geometry[video]'" in err


def test_mujocos_camera_goes_with_the_robot():
    pytest.importorskip("mujoco")
    environment = make_trainer("env=halfcheetah", "batch_size=80", "env.num_envs=1", "policy.hidden=[8]").config.env
    env = film._make_drawable(environment)
    try:
        assert env.unwrapped.mujoco_renderer.camera_id == env.unwrapped.model.camera("track").id
        assert env.unwrapped.model.cam_mode[env.unwrapped.mujoco_renderer.camera_id] == 2  # mjCAMLIGHT_TRACKCOM
    finally:
        env.close()

"""Event files: a figure beside its run, what a resumed run hides, and a full disk."""

import io
import resource
import time

import pytest
from PIL import Image

from rlopt.loggers import tensorboard
from rlopt.loggers.logger import Logger
from rlopt.loggers.tensorboard import TensorBoardWriter
from tests.support.traces import read


def test_a_figure_is_shown_beside_its_run(tmp_path):
    made = Image.new("RGB", (30, 20), "red")
    made.save(tmp_path / "figure.png")
    tensorboard.add_figure(tmp_path, "inspect", tmp_path / "figure.png", 70)
    assert not list(tmp_path.glob("events*"))
    [event] = read(tmp_path / "inspect").Images("inspect")
    assert (event.step, event.width, event.height) == (70, 30, 20)
    assert Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB").getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("clock", [0, -3600, 0.5], ids=["same second", "set back", "goes on"])
def test_what_was_purged_stays_hidden_whatever_the_clock_says(tmp_path, monkeypatch, clock):
    now = time.time()
    for attempt, (after, steps) in enumerate([(None, (0, 10, 20, 30)), (10, (20, 30)), (20, (30, 40))]):
        monkeypatch.setattr(time, "time", lambda elapsed=attempt * clock: now + elapsed)
        events = TensorBoardWriter(tmp_path, after)
        for step in steps:
            events.scalars({"a": 100 * attempt + step}, step)
        events.close()
    monkeypatch.undo()
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("a")] == [
        (0, 0), (10, 10), (20, 120), (30, 230), (40, 240),
    ]  # fmt: skip


def test_events_are_whole_after_the_disk_was_full(tmp_path, capsys):
    """A limit on the size of files cuts a record short."""
    written = Logger(tmp_path, {}, "", tensorboard=True, csv=False)
    (file,) = tmp_path.iterdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, limits[1]))
    try:
        for step in range(1, 10):
            written.scalars({"a": float(step)}, step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    written.scalars({"a": 10.0}, 10)
    written.close()
    assert capsys.readouterr().err.count("cannot be written: ") == 1
    assert [e.value for e in read(tmp_path).Scalars("a")] == list(range(1, 11))

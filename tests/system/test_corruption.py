"""Checkpoints that are damaged or swapped: what is loaded is what was saved, to the bit, or there is an error.

150 corruptions by default, 1,000 by `pytest -m fuzz`.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlopt.checkpoint import format as checkpoint
from tests.support.spoiling import NAMES, example, refused, whole_run
from tests.support.traces import same

CASES = [pytest.param(150, id="few"), pytest.param(1000, id="many", marks=pytest.mark.fuzz)]


def flip(content: bytearray, r: random.Random) -> None:
    for _ in range(r.choice([1, 1, 1, 2, 8])):
        content[r.randrange(len(content))] ^= 1 << r.randrange(8)


def cut(content: bytearray, r: random.Random) -> None:
    del content[r.randrange(len(content)) :]


def lengthen(content: bytearray, r: random.Random) -> None:
    content += r.choice([b"\0", b" ", b"\n", r.randbytes(r.randrange(1, 400))])


def overwrite(content: bytearray, r: random.Random) -> None:
    at, length = r.randrange(len(content)), r.choice([1, 8, 64, 512])
    new = r.choice([b"\0" * length, r.randbytes(length), b"\xff" * length])
    content[at : at + length] = new[: len(content) - at]


def remove(content: bytearray, r: random.Random) -> None:
    at = r.randrange(len(content))
    del content[at : at + r.choice([1, 2, 16])]


def insert(content: bytearray, r: random.Random) -> None:
    at = r.randrange(len(content))
    content[at:at] = r.randbytes(r.choice([1, 2, 16]))


def swap(content: bytearray, r: random.Random) -> None:
    a, b = sorted(r.sample(range(len(content)), 2))
    content[a], content[b] = content[b], content[a]


def digit(content: bytearray, r: random.Random) -> None:
    """One figure of a number in a text, which leaves it a text that can be read."""
    places = [i for i, c in enumerate(content) if chr(c).isdigit()] or [0]
    content[r.choice(places)] = ord(r.choice("0123456789"))


DAMAGE: list[Callable[[bytearray, random.Random], None]] = [flip, flip, cut, lengthen, overwrite, remove, insert, swap, digit]  # fmt: skip


@pytest.mark.parametrize("count", CASES)
def test_what_is_damaged_is_refused_or_as_it_was(tmp_path, count):
    """And the checkpoint before it is taken instead."""
    place, tree = whole_run(tmp_path)
    written = {name: (place / name).read_bytes() for name in NAMES}
    r, outcomes = random.Random(0), {"refused": 0, "harmless": 0}
    for i in range(count):
        name = r.choice(NAMES)
        content = bytearray(written[name])
        for _ in range(r.choice([1, 1, 2])):
            if content:
                r.choice(DAMAGE)(content, r)
        (place / name).write_bytes(content)
        told: list[str] = []
        step, found = checkpoint.load_newest(tmp_path, tell=told.append)
        if step == 200:
            assert same(found, tree), f"case {i}: {name}"
            assert content == written[name] or name == "manifest.json", f"case {i}: {name} changed and was taken"
            outcomes["harmless"] += 1
        else:
            assert step == 100 and same(found, example(100))
            assert len(told) == 1 and "\n" not in told[0] and "step 100 is taken in its place" in told[0]
            outcomes["refused"] += 1
        (place / name).write_bytes(written[name])
    assert outcomes["refused"] > 0.8 * count and same(checkpoint.load(place), tree)


def other_step(place: Path) -> None:
    """The checkpoint before it, under its name."""
    shutil.rmtree(place)
    shutil.copytree(place.with_name("step-000000000100"), place)


def mixed(place: Path) -> None:
    shutil.copy(place.with_name("step-000000000100") / "tensors.safetensors", place)


def link(name: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        """To the very file that was there, outside of the run."""
        outside = place.parents[2] / f"outside-{name}"
        (place / name).rename(outside)
        (place / name).symlink_to(outside)

    return make


def linked_folder(place: Path) -> None:
    outside = place.parents[2] / place.name
    place.rename(outside)
    place.symlink_to(outside)


def pipe(place: Path) -> None:
    """Which to open for reading would be to wait for ever."""
    (place / "state.json").unlink()
    os.mkfifo(place / "state.json")


def folder(place: Path) -> None:
    (place / "state.json").unlink()
    (place / "state.json").mkdir()


def more(place: Path) -> None:
    (place / "tensors.pt").write_bytes(b"")


def sparse(place: Path) -> None:
    """A terabyte of zeros that takes no room."""
    os.truncate(place / "tensors.safetensors", 2**40)


FOREIGN = {
    "another step's": (other_step, "manifest.json is not as it was written"),
    "another step's tensors": (mixed, "tensors.safetensors is not as it was written"),
    "a link to the manifest": (link("manifest.json"), "manifest.json cannot be read"),
    "a link to the state": (link("state.json"), "is not a whole checkpoint"),
    "a link to the tensors": (link("tensors.safetensors"), "is not a whole checkpoint"),
    "a pipe": (pipe, "state.json is no regular file"),
    "a folder": (folder, "is not a whole checkpoint"),
    "one file more": (more, "it holds tensors.pt, which is none of its files"),
    "a huge file": (sparse, "tensors.safetensors is larger than it was written"),
    "a huge manifest": (lambda place: os.truncate(place / "manifest.json", 2**40), "manifest.json cannot be read"),
    **{f"no {name}": (lambda place, name=name: (place / name).unlink(), "is not a whole checkpoint") for name in NAMES},
}


@pytest.mark.parametrize(("spoil", "said"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_as_it_was_saved_is_refused_and_the_one_before_taken(tmp_path, spoil, said):
    run_dir = tmp_path / "run"
    place, _ = whole_run(run_dir)
    spoil(place)
    assert said in refused(place)
    assert checkpoint.load_newest(run_dir)[0] == 100


def test_a_link_in_place_of_a_checkpoint_is_none(tmp_path):
    place, _ = whole_run(tmp_path / "run")
    linked_folder(place)
    assert "is not a whole checkpoint" in refused(place)
    assert checkpoint.load_newest(tmp_path / "run")[0] == 100

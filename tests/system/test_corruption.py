"""Checkpoints that are damaged or swapped: what is loaded is what was saved, to the bit, or there is an error.

150 corruptions by default, 1,000 by `pytest -m fuzz`.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlopt.checkpoint import manager as checkpoint
from tests.support.spoiling import example, parts, refused, whole_run
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


def spoil(content: bytes, r: random.Random) -> bytes:
    """Damage somewhere in the header, in its metadata or in the tensors, each as often as the others."""
    start = len(content) - len(parts(content)[1])  # of the tensors
    metadata = content.index(b'"__metadata__"')
    pieces = [content[:metadata], content[metadata:start], content[start:]]
    chosen = r.randrange(3)
    piece = bytearray(pieces[chosen])
    for _ in range(r.choice([1, 1, 2])):
        if piece:
            r.choice(DAMAGE)(piece, r)
    pieces[chosen] = bytes(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("count", CASES)
def test_what_is_damaged_is_refused_and_the_one_before_taken(tmp_path, count):
    place, tree = whole_run(tmp_path)
    written = place.read_bytes()
    r, refusals = random.Random(0), 0
    for i in range(count):
        content = spoil(written, r)
        place.write_bytes(content)
        told: list[str] = []
        step, found = checkpoint.load_newest(tmp_path, warn=told.append)
        if step == 200:
            assert content == written and same(found, tree), f"case {i} was changed and taken"
        else:
            assert step == 100 and same(found, example(100))
            assert len(told) == 1 and "\n" not in told[0] and "step 100 is taken in its place" in told[0]
            refusals += 1
    place.write_bytes(written)
    assert refusals > 0.9 * count and same(checkpoint.load(place), tree)


def test_every_single_byte_is_covered(tmp_path):
    place, _ = whole_run(tmp_path)
    written = place.read_bytes()
    for at in range(len(written)):
        place.write_bytes(written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :])
        assert refused(place)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    place, _ = whole_run(tmp_path)
    written = place.read_bytes()
    for length in range(len(written)):
        place.write_bytes(written[:length])
        assert refused(place)


def other_step(place: Path) -> None:
    """The checkpoint before it, under its name."""
    shutil.copy(place.with_name("step-000000000100.safetensors"), place)


def mixed(place: Path) -> None:
    """The tensors of the checkpoint before it: a header of one file and the rest of another."""
    other, content = place.with_name("step-000000000100.safetensors").read_bytes(), place.read_bytes()
    data = parts(other)[1]
    place.write_bytes(content[: -len(data)] + data)


def renamed_step(place: Path) -> None:
    """A whole header of another step before the tensors of this one."""
    other, content = place.with_name("step-000000000100.safetensors").read_bytes(), place.read_bytes()
    data = parts(content)[1]
    place.write_bytes(other[: -len(data)] + data)


def link(place: Path) -> None:
    """To the very file that was there, outside of the run."""
    outside = place.parents[2] / place.name
    place.rename(outside)
    place.symlink_to(outside)


def link_within(place: Path) -> None:
    place.unlink()
    place.symlink_to("step-000000000100.safetensors")


def pipe(place: Path) -> None:
    """Which to open for reading would be to wait for ever."""
    place.unlink()
    os.mkfifo(place)


def folder(place: Path) -> None:
    place.unlink()
    place.mkdir()


def more(place: Path) -> None:
    with place.open("ab") as file:
        file.write(b"\0")


FOREIGN = {
    "another step's": (other_step, "it is the checkpoint of step 100"),
    "another step's tensors": (mixed, "the tensors are not as they were written"),
    "another step's header": (renamed_step, "it is the checkpoint of step 100"),
    "a link": (link, "is not a whole checkpoint"),
    "a link to the one before": (link_within, "is not a whole checkpoint"),
    "a pipe": (pipe, "it is no regular file"),
    "a folder": (folder, "it is no regular file"),
    "one byte more": (more, "the file is not as long as it was written"),
    "a terabyte of zeros that takes no room": (lambda place: os.truncate(place, 2**40), "not as long as it was written"),
    "a huge header": (lambda place: place.write_bytes((2**40).to_bytes(8, "little")) and os.truncate(place, 2**41), "the header is cut short"),
    "nothing": (lambda place: place.write_bytes(b""), "the header is cut short"),
    "no file": (lambda place: place.unlink(), "is not a whole checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), FOREIGN.values(), ids=FOREIGN)
def test_a_damaged_checkpoint_is_refused_and_the_older_one_taken(tmp_path, spoil, said):
    run_dir = tmp_path / "run"
    place, _ = whole_run(run_dir)
    spoil(place)
    assert said in refused(place)
    assert checkpoint.load_newest(run_dir)[0] == 100


@pytest.mark.parametrize("spoil", [link, link_within, pipe])
def test_no_file_in_a_checkpoints_place_is_told_and_goes_later(tmp_path, spoil):
    run_dir = tmp_path / "run"
    place, tree = whole_run(run_dir)
    spoil(place)
    told: list[str] = []
    checkpoint.load_newest(run_dir, warn=told.append)
    assert len(told) == 1 and str(place) in told[0]
    checkpoint.save(place.parent, 200, tree, keep=2)
    assert place.is_file() and not place.is_symlink() and same(checkpoint.load(place), tree)
    assert checkpoint.step_of(checkpoint.list_checkpoints(place.parent)[0]) == 100

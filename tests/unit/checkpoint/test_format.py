import builtins
import ctypes
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from rlopt import files
from rlopt.checkpoint import format as file_format
from rlopt.checkpoint import manager as checkpoint
from rlopt.errors import UserError
from tests.support.spoiling import small
from tests.support.traces import same

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]
NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8))
TENSORS = st.builds(
    lambda dtype, shape, seed: (100 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype),
    st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 9),
)  # fmt: skip
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        PLAIN | TENSORS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(TREES)
def test_a_tree_comes_back_as_it_was_to_the_bit(tmp_path_factory, tree):
    place = checkpoint.save(tmp_path_factory.mktemp("c"), 3, tree, keep=1)
    assert same(checkpoint.load(place), tree)


def test_views_scalars_and_shared_tensors_come_back(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    tree = {"column": whole[:, 1], "transposed": whole.t(), "scalar": whole[2, 3], "again": whole, "shared": whole}
    back = checkpoint.load(checkpoint.save(tmp_path, 0, tree, keep=1))
    assert all(torch.equal(back[name], tree[name]) for name in tree)
    assert back["scalar"].shape == ()
    assert back["transposed"].stride() == tree["transposed"].stride()  # by which products round


def test_infinities_and_nans_come_back(tmp_path):
    tree = {"numbers": [math.inf, -math.inf, math.nan], "tensor": torch.tensor([math.inf, math.nan, -0.0])}
    assert same(checkpoint.load(checkpoint.save(tmp_path, 0, tree, keep=1)), tree)


def test_names_with_slashes_do_not_collide(tmp_path):
    tree = {"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    assert same(checkpoint.load(checkpoint.save(tmp_path, 0, tree, keep=1)), tree)


def test_keys_that_are_numbers_stay_numbers(tmp_path):
    tree = {"schedule": {"milestones": {2: 1, 4: torch.ones(2)}, "mixed": {None: 1, "a": {3: [{5: None}]}}}}
    assert same(checkpoint.load(checkpoint.save(tmp_path, 0, tree, keep=1)), tree)


def test_a_saved_tensor_is_a_copy(tmp_path):
    tree = small()
    place = checkpoint.save(tmp_path, 0, tree, keep=1)
    before = tree["theta"].clone()
    tree["theta"].zero_()
    assert torch.equal(checkpoint.load(place)["theta"], before)


def test_saving_keeps_no_memory_for_the_lengths_that_tensors_had(tmp_path):
    """As ctypes does for its arrays, a type for each."""
    before = len(ctypes.Array.__subclasses__())
    for length in range(301, 311):
        checkpoint.save(tmp_path, length, {"actions": torch.zeros(length)}, keep=1)
    assert len(ctypes.Array.__subclasses__()) == before


def test_the_file_is_safetensors_that_others_can_read(tmp_path):
    tree = {"theta": torch.arange(3.0), "note": {"seed": 4}}
    place = checkpoint.save(tmp_path, 12, tree, keep=1, score=2.5)
    with safe_open(place, "pt") as file:
        metadata = file.metadata()
        assert list(file.keys()) == ["theta"] and torch.equal(file.get_tensor("theta"), tree["theta"])
    assert (metadata["format"], metadata["step"], metadata["score"]) == (str(file_format.FORMAT), "12", "2.5")
    assert json.loads(metadata["state"])["note"] == {"seed": 4}


def test_the_score_is_read_without_the_tensors(tmp_path):
    place = checkpoint.save(tmp_path, 0, {"theta": torch.zeros(10_000)}, keep=1, score=2.5)
    content = place.read_bytes()
    place.write_bytes(content[:-30_000])
    assert file_format.read_score(place) == 2.5
    place.write_bytes(content.replace(b'"score":"2.5"', b'"score":"9.5"'))
    assert file_format.read_score(place) is None


def test_a_state_that_no_reader_would_take_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(file_format, "_LARGEST_HEADER", 2000)
    checkpoint.save(tmp_path, 0, {"note": "a" * 100}, keep=1)
    with pytest.raises(OSError, match="too large"):
        checkpoint.save(tmp_path, 1, {"note": "a" * 2000}, keep=1)
    assert checkpoint.load(checkpoint.list_checkpoints(tmp_path)[0]) == {"note": "a" * 100}


def test_only_the_newest_stay(tmp_path):
    for step in (5, 100, 2000, 1_000_000):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path)] == [
        "step-000000002000.safetensors",
        "step-000001000000.safetensors",
    ]
    assert sorted(tmp_path.iterdir()) == checkpoint.list_checkpoints(tmp_path)


def test_the_newest_is_the_one_loaded(tmp_path):
    for step in (9, 10):
        checkpoint.save(tmp_path / "checkpoints", step, {"value": step}, keep=5)
    assert checkpoint.load_newest(tmp_path) == (10, {"value": 10})


def test_the_same_step_is_replaced(tmp_path):
    checkpoint.save(tmp_path, 7, {"value": 1}, keep=3)
    place = checkpoint.save(tmp_path, 7, {"value": 2}, keep=3)
    assert checkpoint.load(place) == {"value": 2}
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unfinished_checkpoint_is_never_taken_for_one(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    checkpoint.save(tmp_path / "checkpoints", 1, {"value": 1}, keep=3)
    monkeypatch.setattr(files, "_write", broken)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(tmp_path / "checkpoints", 2, {"value": 2}, keep=3)
    assert checkpoint.load_newest(tmp_path) == (1, {"value": 1})
    monkeypatch.undo()
    checkpoint.save(tmp_path / "checkpoints", 2, {"value": 2}, keep=3)  # there is space again
    assert checkpoint.load_newest(tmp_path) == (2, {"value": 2})
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


class Crash(BaseException):
    """The machine went off."""


def crashing(monkeypatch: pytest.MonkeyPatch, at: int, error: type[BaseException]) -> None:
    """Every step of a save that changes the disk is counted; the one numbered ``at`` is not done, nor any after it.

    Of the first file that cannot be written one byte is.
    """
    count: list[int] = []
    write = files._write

    def wrapped(function):
        def call(*arguments, **keywords):
            if len(count) >= at:
                if len(count) == at and function is write:
                    arguments[0].write_bytes(arguments[1][:1])
                raise error
            count.append(1)
            return function(*arguments, **keywords)

        return call

    monkeypatch.setattr(files, "_write", wrapped(files._write))
    for module in (files, checkpoint):
        monkeypatch.setattr(module, "synchronise", wrapped(files.synchronise))
    for name in ("mkdir", "replace", "unlink"):
        monkeypatch.setattr(Path, name, wrapped(getattr(Path, name)))


@pytest.mark.parametrize(
    ("step", "error"), [(1, Crash), (2, Crash), (2, OSError)], ids=["the same step", "a later step", "a full disk"]
)
def test_a_crash_during_a_save_leaves_the_old_one_or_the_new(tmp_path, monkeypatch, step, error):
    found = []
    for at in range(100):
        folder = tmp_path / str(at)
        folder.mkdir()
        checkpoint.save(folder / "checkpoints", 0, {"value": 0}, keep=2)
        checkpoint.save(folder / "checkpoints", 1, {"value": 1}, keep=2)
        with monkeypatch.context() as patch:
            crashing(patch, at, error)
            try:
                checkpoint.save(folder / "checkpoints", step, {"value": 2}, keep=1)
                found.append("done")
            except error:
                pass
        found.append(checkpoint.load_newest(folder)[1]["value"])
        checkpoint.save(folder / "checkpoints", 3, {"value": 3}, keep=1)  # it goes on, and clears up
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-000000000003.safetensors"]
        if "done" in found:
            break
    assert found[0] == 1 and found[-2:] == ["done", 2]
    assert [v for v in found if v != "done"] == sorted(v for v in found if v != "done")


def test_the_best_stays_however_old(tmp_path):
    for step, score in ((1, 3.0), (2, 9.0), (3, None), (4, -1.0), (5, 9.0), (6, 2.0)):
        checkpoint.save(tmp_path, step, {"step": step}, keep=1, score=score)
        steps = [checkpoint.step_of(p) for p in checkpoint.list_checkpoints(tmp_path)]
        assert steps == {1: [1], 2: [2], 3: [2, 3], 4: [2, 4], 5: [5], 6: [5, 6]}[step]
    assert checkpoint.step_of(checkpoint.best(tmp_path)) == 5


def test_a_score_that_is_not_finite_is_none(tmp_path):
    for step, score in ((1, 5.0), (2, math.nan), (3, 9.0), (4, math.inf), (5, 1.0), (6, math.nan)):
        checkpoint.save(tmp_path, step, {"step": step}, keep=1, score=score)
    assert [checkpoint.step_of(p) for p in checkpoint.list_checkpoints(tmp_path)] == [3, 6]
    assert checkpoint.step_of(checkpoint.best(tmp_path)) == 3


def test_checkpoints_that_cannot_be_read_are_not_taken_for_none(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(UserError, match="the checkpoints in .*/checkpoints cannot be read: Not a directory"):
        checkpoint.newest(tmp_path)


def test_one_removed_while_it_is_read_gives_way_to_the_newer(tmp_path, monkeypatch):
    """Another process trains on, and keeps one checkpoint."""
    folder = tmp_path / "checkpoints"
    checkpoint.save(folder, 1, {"step": 1}, keep=1)
    read = checkpoint.read

    def meanwhile(place):
        if checkpoint.step_of(place) == 1:
            checkpoint.save(folder, 2, {"step": 2}, keep=1)
        return read(place)

    monkeypatch.setattr(checkpoint, "read", meanwhile)
    assert checkpoint.load_newest(tmp_path) == (2, {"step": 2})


def test_saving_a_step_again_removes_what_lies_beyond_it(tmp_path):
    """A run that was taken up before it."""
    for step in (10, 20, 30, 20):
        checkpoint.save(tmp_path, step, {"step": step}, keep=5)
    assert [checkpoint.step_of(p) for p in checkpoint.list_checkpoints(tmp_path)] == [10, 20]


def test_the_newest_whole_one_is_loaded_and_others_are_reported(tmp_path):
    for step in (1, 2, 3):
        place = checkpoint.save(tmp_path / "checkpoints", step, {"step": step}, keep=5)
    content = place.read_bytes()
    place.write_bytes(content.replace(b'step\\": 3', b'step\\": 4'))
    place.with_name("step-000000000002.safetensors").write_bytes(b"")
    told: list[str] = []
    assert checkpoint.load_newest(tmp_path, warn=told.append) == (1, {"step": 1})
    assert len(told) == 2 and "the header is not as it was written; step 1 is taken in its place" in told[0]


def test_what_a_checkpoint_cannot_hold_is_named_when_it_is_saved(tmp_path):
    with pytest.raises(TypeError, match="parts/step is function"):
        checkpoint.save(tmp_path, 0, {"parts": {"step": test_the_same_step_is_replaced}}, keep=1)


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a checkpoint was pickled")

    for module, name in ((pickle, "dump"), (pickle, "dumps"), (pickle, "load"), (pickle, "loads"),
                         (pickle, "Pickler"), (pickle, "Unpickler"), (torch, "save"), (torch, "load"),
                         (builtins, "eval"), (builtins, "exec")):  # fmt: skip
        monkeypatch.setattr(module, name, forbidden)
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    assert same(checkpoint.load(place), small())
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000000000.safetensors"]

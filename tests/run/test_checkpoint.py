import builtins
import io
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlopt.errors import UserError
from rlopt.run import checkpoint

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


def same(a: object, b: object) -> bool:
    """Equal to the bit, and of the same types; NaN equals NaN."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape):
            return False
        return a.contiguous().view(-1).view(torch.uint8).tolist() == b.contiguous().view(-1).view(torch.uint8).tolist()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def example() -> dict:
    return {
        "theta": torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        "parts": {"step": {"group": {"lr": 3e-4, "betas": [0.9, 0.999], "fused": True}, "moments": {}}, "none": None},
        "generator": torch.Generator().manual_seed(1).get_state(),
        "steps": 12,
    }


@settings(max_examples=60, deadline=None, derandomize=True)
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
    tree = example()
    place = checkpoint.save(tmp_path, 0, tree, keep=1)
    before = tree["theta"].clone()
    tree["theta"].zero_()
    assert torch.equal(checkpoint.load(place)["theta"], before)


def test_only_the_newest_stay(tmp_path):
    for step in (5, 100, 2000, 1_000_000):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path)] == ["step-000000002000", "step-000001000000"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000002000", "step-000001000000"]


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
    monkeypatch.setattr(checkpoint, "save_file", broken)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(tmp_path / "checkpoints", 2, {"value": 2}, keep=3)
    assert checkpoint.load_newest(tmp_path) == (1, {"value": 1})
    monkeypatch.undo()
    checkpoint.save(tmp_path / "checkpoints", 2, {"value": 2}, keep=3)  # there is space again
    assert checkpoint.load_newest(tmp_path) == (2, {"value": 2})
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def refused(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(place)
    message = str(caught.value)
    assert str(place) in message
    assert "\n" not in message
    return message


def test_another_format_is_refused_with_both_numbers(tmp_path):
    place = checkpoint.save(tmp_path, 0, example(), keep=1)
    state = json.loads((place / "state.json").read_text()) | {"format": 99}
    (place / "state.json").write_text(json.dumps(state))
    assert "checkpoint format 99; this rlopt reads format 1" in refused(place)


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("spoil", ["cut", "empty", "missing", "noise", "list"])
def test_a_spoilt_file_is_one_line_for_the_user(tmp_path, name, spoil):
    place = checkpoint.save(tmp_path, 0, example(), keep=1)
    content = (place / name).read_bytes()
    if spoil == "missing":
        (place / name).unlink()
    else:
        spoilt = {"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff\n\xfe" * 50, "list": b"[1,\n2]"}
        (place / name).write_bytes(spoilt[spoil])
    assert "is not a whole checkpoint" in refused(place)


def test_a_tensor_that_is_missing_is_named(tmp_path):
    place = checkpoint.save(tmp_path, 0, example(), keep=1)
    text = (place / "state.json").read_text()
    (place / "state.json").write_text(text.replace('"theta"\n', '"tetha"\n'))
    assert "tetha" in refused(place)


def test_a_folder_without_checkpoints_is_no_run(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint; give the folder of a run"):
        checkpoint.load_newest(tmp_path)


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
    place = checkpoint.save(tmp_path, 0, example(), keep=1)
    assert same(checkpoint.load(place), example())
    assert sorted(p.name for p in place.iterdir()) == ["state.json", "tensors.safetensors"]


def test_a_pickle_in_a_checkpoints_place_is_refused_and_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (print, ("ran",))

    place = checkpoint.save(tmp_path, 0, example(), keep=1)
    stream = io.BytesIO()
    pickle.dump(Payload(), stream)
    for name in ("state.json", "tensors.safetensors"):
        (place / name).write_bytes(stream.getvalue())
        assert "is not a whole checkpoint" in refused(place)

"""A checkpoint that is not as it was written is refused in one line."""

import io
import json
import pickle

import pytest

from rlopt.checkpoint import format as checkpoint
from rlopt.errors import UserError
from tests.support.spoiling import forge, refused, small


def test_another_format_is_refused_with_both_numbers(tmp_path):
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    manifest = json.loads((place / "manifest.json").read_text()) | {"format": 99}
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert "checkpoint format 99; this rlopt reads format 2" in refused(place)


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors", "manifest.json"])
@pytest.mark.parametrize("spoil", ["cut", "empty", "missing", "noise", "list"])
def test_a_spoilt_file_is_one_line_for_the_user(tmp_path, name, spoil):
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    content = (place / name).read_bytes()
    if spoil == "missing":
        (place / name).unlink()
    else:
        spoilt = {"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff\n\xfe" * 50, "list": b"[1,\n2]"}
        (place / name).write_bytes(spoilt[spoil])
    assert "is not a whole checkpoint" in refused(place)


@pytest.mark.parametrize("new", ['"tetha"', '"generator"'], ids=["unknown", "twice"])
def test_files_that_do_not_belong_together_are_refused_whatever_the_manifest_says(tmp_path, new):
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    text = (place / "state.json").read_text()
    forge(place, state_json=text.replace('"theta",', f"{new},").encode())
    assert "tetha" in refused(place) if "tetha" in new else "do not belong together" in refused(place)


def test_a_folder_without_checkpoints_is_no_run(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint; give the folder of a run"):
        checkpoint.load_newest(tmp_path)


def test_a_pickle_in_a_checkpoints_place_is_refused_and_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (print, ("ran",))

    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    stream = io.BytesIO()
    pickle.dump(Payload(), stream)
    for name in ("state.json", "tensors.safetensors"):
        forge(place, **{name.replace(".", "_"): stream.getvalue()})
        assert "is not a whole checkpoint" in refused(place)
    (place / "manifest.json").write_bytes(stream.getvalue())
    assert "is not a whole checkpoint" in refused(place)

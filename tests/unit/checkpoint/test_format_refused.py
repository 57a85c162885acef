"""A checkpoint that is not as it was written is refused in one line."""

import io
import pickle

import pytest

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.errors import UserError
from tests.support.spoiling import forge, packed, parts, refused, small


def test_another_format_is_refused_with_both_numbers(tmp_path):
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    content = place.read_bytes()
    place.write_bytes(content.replace(b'"format":"3"', b'"format":"9"'))
    assert "checkpoint format 9; this rlopt reads format 3" in refused(place)


@pytest.mark.parametrize("name", ["step-000000000200", "step-000000000200.1"])
def test_a_folder_of_the_earlier_format_is_refused_and_left(tmp_path, template, capsys, name):
    """As rlopt wrote it: manifest.json, state.json and tensors.safetensors in a folder for each checkpoint."""
    (tmp_path / "config.yaml").write_bytes((template / "config.yaml").read_bytes())
    old = tmp_path / "checkpoints" / name
    old.mkdir(parents=True)
    (old / "manifest.json").write_text('{"format": 2, "step": 200}')
    for command in ("resume", "eval", "inspect"):
        assert cli.main([command, str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert f"{old} has an earlier checkpoint format; this rlopt reads format 3: train the run anew" in said
        assert len(said.splitlines()) == 1
    assert (old / "manifest.json").exists()


@pytest.mark.parametrize("part", ["header", "tensors"])
@pytest.mark.parametrize("spoil", ["cut", "empty", "missing", "noise", "list"])
def test_a_spoilt_file_is_one_line_for_the_user(tmp_path, part, spoil):
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    content = place.read_bytes()
    _, data = parts(content)
    pieces = {"header": content[: len(content) - len(data)], "tensors": data}
    if spoil == "missing":
        del pieces[part]
    else:
        old = pieces[part]
        pieces[part] = {"cut": old[: len(old) // 2], "empty": b"", "noise": b"\xff\n\xfe" * 50, "list": b"[1,\n2]"}[
            spoil
        ]
    place.write_bytes(b"".join(pieces.values()))
    assert "is not a whole checkpoint" in refused(place)


def test_a_file_that_is_missing_is_one_line_for_the_user(tmp_path):
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    place.unlink()
    assert "is not a whole checkpoint" in refused(place)


@pytest.mark.parametrize("new", ['"tetha"', '"generator"'], ids=["unknown", "twice"])
def test_a_state_with_other_tensors_is_refused_despite_digests(tmp_path, new):
    place = checkpoint.save(tmp_path, 0, small(), keep=1)
    state = parts(place.read_bytes())[0]["__metadata__"]["state"]
    assert '"theta",' in state
    forge(place, state=state.replace('"theta",', f"{new},").encode())
    assert "tetha" in refused(place) if "tetha" in new else "tensors that its state names" in refused(place)


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
    content = stream.getvalue()
    entry = {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}
    for forged in (
        {"state": content},
        {"tensors": packed({}, content)},
        {"tensors": packed({"theta": entry}, content)},
    ):
        forge(place, **forged)
        assert "is not a whole checkpoint" in refused(place)
    place.write_bytes(content)
    assert "is not a whole checkpoint" in refused(place)

"""Files that are whole after a crash, JSON of finite numbers, and dotted names."""

import json
import math
import os

import pytest

from rlopt import files
from rlopt.files import finite_json, flatten, replace_file, synchronise


@pytest.mark.parametrize("content", ["text \u00e9\n", b"\0\xff"], ids=["text", "bytes"])
def test_a_file_is_made_and_replaced(tmp_path, content):
    path = tmp_path / "a.txt"
    for _ in range(2):
        replace_file(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "signal"])
def test_a_write_that_ends_early_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    path = tmp_path / "a.txt"
    replace_file(path, "old")

    def broken(unfinished, content):
        unfinished.write_bytes(content[:1])
        raise error

    monkeypatch.setattr(files, "_write", broken)
    with pytest.raises(type(error)):
        replace_file(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_content_is_on_disk_before_name_and_name_before_return(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    replace_file(tmp_path / "a.txt", "new")
    assert calls == ["fsync", "replace", "fsync"]
    synchronise(tmp_path)


def test_a_link_is_replaced_and_not_followed(tmp_path):
    treasure, link = tmp_path / "treasure", tmp_path / "link"
    treasure.write_text("mine")
    link.symlink_to(treasure)
    replace_file(link, "new")
    assert treasure.read_text() == "mine" and link.read_text() == "new" and not link.is_symlink()


def test_what_is_not_finite_is_null_at_any_depth():
    tree = {"a": math.nan, "b": [1.5, -math.inf, (2, math.inf)], "c": {"d": None, "e": True, "f": "NaN"}}
    found = json.loads(finite_json(tree, indent=1), parse_constant=pytest.fail)
    assert found == {"a": None, "b": [1.5, None, [2, None]], "c": {"d": None, "e": True, "f": "NaN"}}


def test_nested_options_are_flat_under_dotted_names():
    config = {"env": {"id": "x", "kwargs": {}, "deep": {"er": [1, {"a": 2}]}}, "seed": None}
    assert flatten(config) == {"env.id": "x", "env.deep.er": [1, {"a": 2}], "seed": None}

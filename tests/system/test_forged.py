"""Files of a run that somebody forged or edited, with digests that fit: each is refused in one line, or does no harm."""

import copy
import json
import math
import random
import shutil
import struct

import pytest
import torch
import yaml
from safetensors.torch import save

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from tests.support.spoiling import forge, packed, parts, refused, whole_run


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


FORGED: dict[str, dict[str, bytes]] = {
    "a huge header": {"tensors": struct.pack("<Q", 2**60) + b"{}"},
    "a negative header": {"tensors": struct.pack("<q", -1) + b"{}"},
    "a huge tensor": {"tensors": packed({"a": entry([2**40], 0, 2**42)})},
    "a shape that overflows": {"tensors": packed({"a": entry([2**32, 2**32, 2**32], 0, 4)}, b"abcd")},
    "data outside the file": {"tensors": packed({"a": entry([1], 10**6, 10**6 + 4)}, b"abcd")},
    "data that overlap": {"tensors": packed({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"abcd")},
    "an unknown type": {"tensors": packed({"a": entry([1], 0, 8, "OBJECT")}, b"\0" * 8)},
    "a header that is no JSON": {"tensors": packed(b"\xff\xfe{")},
    "a list for a header": {"tensors": packed([1, 2])},
    "no tensors": {"tensors": save({})},
    "a tensor too many": {"tensors": save({"more": torch.zeros(2)})},
    "deep JSON": {"state": b"[" * 200_000},
    "a deep tree": {"state": b'{"a":' * 5_000 + b"1" + b"}" * 5_000},
    "a long number": {"state": b"1" * 100_000},
    "a list for a tree": {"state": b"[1, 2]"},
    "nothing": {"state": b"null"},
    "no text": {"state": b"\xff\xfe\x00"},
    "a tensor that is not there": {"state": b'{"agent": {"__tensor__": "nowhere"}}'},
    "a tensor by a path": {"state": b'{"agent": {"__tensor__": "../../../etc/passwd"}}'},
    "a tensor by a number": {"state": b'{"agent": {"__tensor__": 3}}'},
    "a tensor by a list": {"state": b'{"agent": {"__tensor__": ["a"]}}'},
    "items that are none": {"state": b'{"agent": {"__items__": 3}}'},
    "offsets below zero": {"tensors": packed({"a": entry([1], -8, -4)})},
    "offsets that are none": {"tensors": packed({"a": {"dtype": "F32", "shape": [1], "data_offsets": "ab"}})},
    "items of lists": {"state": b'{"agent": {"__items__": [[[1], 2]]}}'},
}


@pytest.mark.parametrize("contents", FORGED.values(), ids=FORGED)
def test_what_was_forged_is_refused_in_one_line(tmp_path, contents):
    place, _ = whole_run(tmp_path)
    forge(place)
    checkpoint.load(place)
    forge(place, **contents)
    refused(place)
    assert checkpoint.load_newest(tmp_path)[0] == 100


WRONG = [None, "abc", [], {}, -1, math.nan, True, 3, [1, "a"], {"_target_": "os.system"}, {"__tensor__": "agent/actor/theta"}, "${oc.env:HOME}"]  # fmt: skip
EDITS = [pytest.param(40, id="few"), pytest.param(600, id="many", marks=pytest.mark.fuzz)]


def places(node: object, path: tuple = ()) -> list[tuple]:
    items = node.items() if isinstance(node, dict) else enumerate(node[:2]) if isinstance(node, list) else ()
    return [p for key, inner in items for p in ((*path, key), *places(inner, (*path, key)))]


def edited(tree: dict, path: tuple, value: object) -> dict:
    tree = node = copy.deepcopy(tree)
    for key in path[:-1]:
        node = node[key]
    if value == "":
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return tree


@pytest.mark.parametrize("count", EDITS)
@pytest.mark.parametrize("what", ["config.yaml", "state"])
def test_whatever_an_entry_becomes_ends_in_one_line_or_a_run(tmp_path, template, capsys, what, count):
    (place,) = template.glob("checkpoints/step-*")
    if what == "config.yaml":
        tree = yaml.safe_load((template / what).read_text())
    else:
        tree = json.loads(parts(place.read_bytes())[0]["__metadata__"]["state"])
    cases = [(path, value) for path in places(tree) for value in [*WRONG, ""]]
    r = random.Random(1)
    for path, value in r.sample(cases, count):
        new = edited(tree, path, value)
        command = ["eval", "--episodes=1"] if what == "config.yaml" or r.random() < 0.3 else ["resume"]
        run_dir = tmp_path / "run"
        shutil.rmtree(run_dir, ignore_errors=True)
        shutil.copytree(template, run_dir)
        if what == "config.yaml":
            (run_dir / what).write_text(yaml.safe_dump(new))
        else:
            forge(run_dir / "checkpoints" / place.name, state=json.dumps(new).encode())
        code = cli.main([command[0], str(run_dir), *command[1:]])
        said = capsys.readouterr().err
        assert code in (0, 2), (path, value)
        assert code == 0 or (said.startswith("rlopt: ") and len(said.splitlines()) == 1), (path, value, said)

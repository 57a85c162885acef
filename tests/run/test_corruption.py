"""Files of a run that are damaged, foreign or meant to do harm: each is refused in one line, or does no harm.

What a changed file may do is nothing at all: what is loaded is what was saved, to the bit, or there is an error. 150
corruptions by default, 1,000 by `pytest -m fuzz`.
"""

import copy
import hashlib
import io
import json
import math
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save as packed

from rlopt import cli
from rlopt.errors import UserError
from rlopt.run import checkpoint
from tests.run.test_checkpoint import same

CASES = [pytest.param(150, id="few"), pytest.param(1000, id="many", marks=pytest.mark.fuzz)]
NAMES = ("manifest.json", "state.json", "tensors.safetensors")


def example(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    return {
        "agent": {
            "actor": {"theta": torch.randn(40, generator=generator), "parts": {"step": {"lr": 3e-4, "on": True, "k": None}}},
            "critic": {"theta": torch.randn(3, 5, generator=generator, dtype=torch.float64)},
            "observations": {"count": torch.tensor(7.0 + step), "mean": torch.zeros(0)},
        },
        "generator": generator.get_state()[:80],
        "recent": [1.5, -2.0, 1e-300],
        "steps": step,
    }  # fmt: skip


def whole_run(run_dir: Path) -> tuple[Path, dict]:
    """A run with two checkpoints: the newest, and its tree."""
    for step in (100, 200):
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        place = checkpoint.save(run_dir / "checkpoints", step, example(step), keep=2)
    return place, example(200)


def refused(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(place)
    message = str(caught.value)
    assert str(place) in message and "\n" not in message and len(message) < 600
    return message


# --- damage


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


# --- files that are whole, and not the ones that were saved


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


# --- files that somebody forged, with sums that fit


def forge(place: Path, **contents: bytes) -> None:
    """Files under these names, and the manifest that belongs to them."""
    files = {"state.json": (place / "state.json").read_bytes(), "tensors.safetensors": (place / "tensors.safetensors").read_bytes()}  # fmt: skip
    files |= {name.replace("_", "."): content for name, content in contents.items()}
    for name, content in files.items():
        (place / name).write_bytes(content)
    old = json.loads((place / "manifest.json").read_text())
    sums = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    manifest = {"format": old["format"], "step": old["step"], "score": old["score"], "files": sums}
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (place / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest}))


def header(tensors: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def tensor(name: str) -> bytes:
    return json.dumps({"format": 2, "tree": {"__tensor__": name}}).encode()


FORGED: dict[str, dict[str, bytes]] = {
    "a huge header": {"tensors_safetensors": struct.pack("<Q", 2**60) + b"{}"},
    "a negative header": {"tensors_safetensors": struct.pack("<q", -1) + b"{}"},
    "a huge tensor": {"tensors_safetensors": header({"a": entry([2**40], 0, 2**42)})},
    "a shape that overflows": {"tensors_safetensors": header({"a": entry([2**32, 2**32, 2**32], 0, 4)}, b"abcd")},
    "data outside the file": {"tensors_safetensors": header({"a": entry([1], 10**6, 10**6 + 4)}, b"abcd")},
    "data that overlap": {"tensors_safetensors": header({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"abcd")},
    "an unknown type": {"tensors_safetensors": header({"a": entry([1], 0, 8, "OBJECT")}, b"\0" * 8)},
    "a header that is no JSON": {"tensors_safetensors": header(b"\xff\xfe{")},
    "a list for a header": {"tensors_safetensors": header([1, 2])},
    "no tensors": {"tensors_safetensors": packed({})},
    "a tensor too many": {"tensors_safetensors": packed({"more": torch.zeros(2)})},
    "deep JSON": {"state_json": b"[" * 200_000},
    "a deep tree": {"state_json": b'{"a":' * 5_000 + b"1" + b"}" * 5_000},
    "a long number": {"state_json": b"1" * 100_000},
    "a list for a tree": {"state_json": b"[1, 2]"},
    "nothing": {"state_json": b"null"},
    "no text": {"state_json": b"\xff\xfe\x00"},
    "a tensor that is not there": {"state_json": b'{"agent": {"__tensor__": "nowhere"}}'},
    "a tensor by a path": {"state_json": b'{"agent": {"__tensor__": "../../../etc/passwd"}}'},
    "a tensor by a number": {"state_json": b'{"agent": {"__tensor__": 3}}'},
    "a tensor by a list": {"state_json": b'{"agent": {"__tensor__": ["a"]}}'},
    "items that are none": {"state_json": b'{"agent": {"__items__": 3}}'},
    "items of lists": {"state_json": b'{"agent": {"__items__": [[[1], 2]]}}'},
}


@pytest.mark.parametrize("contents", FORGED.values(), ids=FORGED)
def test_what_was_forged_is_refused_in_one_line(tmp_path, contents):
    place, _ = whole_run(tmp_path)
    forge(place)
    checkpoint.load(place)
    forge(place, **contents)
    refused(place)
    assert checkpoint.load_newest(tmp_path)[0] == 100


# --- a run directory in which a file is a pickle that does something when it is read


class Payload:
    """Makes the folder ``ran`` when it is unpickled."""

    def __init__(self, ran: Path):
        self._ran = str(ran)

    def __reduce__(self):
        return os.mkdir, (self._ran,)


def pickled(ran: Path, how: str) -> bytes:
    if how == "torch":
        stream = io.BytesIO()
        torch.save({"agent": Payload(ran)}, stream)
        return stream.getvalue()
    return pickle.dumps(Payload(ran), protocol=int(how))


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A run to go on with, with every file that a run directory may hold."""
    run_dir = tmp_path_factory.mktemp("template") / "run"
    small = ["batch_size=80", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=1"]
    saved = ["checkpoint.every_updates=1", "checkpoint.keep=2"]
    assert cli.main(["train", *small, *saved, "env=cartpole", "total_steps=160", f"run_dir={run_dir}"]) == 0
    shutil.rmtree(run_dir / "checkpoints" / "step-000000000160")
    for name in ("nan_report.json", "error.txt"):
        (run_dir / name).write_text("{}")
    return run_dir


POSITIONS = ["config.yaml", "summary.json", "nan_report.json", "error.txt", "events.out.tfevents*",
             "checkpoints/*/manifest.json", "checkpoints/*/state.json", "checkpoints/*/tensors.safetensors",
             "checkpoints/*/tensors.pt", "model.pkl"]  # fmt: skip
NEEDED = ("config.yaml", "checkpoints/*/manifest.json", "checkpoints/*/state.json", "checkpoints/*/tensors.safetensors")


def plant(run_dir: Path, position: str, content: bytes) -> None:
    folder, _, name = position.rpartition("/")
    found = list(run_dir.glob(position)) or [(next(run_dir.glob(folder)) if folder else run_dir) / name]
    assert len(found) == 1
    (place,) = run_dir.glob("checkpoints/step-*")
    if found[0].name in ("state.json", "tensors.safetensors"):  # with sums that fit, or it would not even be looked at
        forge(place, **{found[0].name.replace(".", "_"): content})
    else:
        found[0].write_bytes(content)


@pytest.mark.parametrize("how", ["0", "5", "torch"])
@pytest.mark.parametrize("position", POSITIONS)
def test_a_pickle_in_the_place_of_any_file_is_never_run(tmp_path, template, capsys, position, how):
    ran = tmp_path / "ran"
    for command in (["eval", "--episodes=1", "--json"], ["resume"]):
        run_dir = tmp_path / command[0]
        shutil.copytree(template, run_dir)
        plant(run_dir, position, pickled(ran, how))
        code = cli.main([command[0], str(run_dir), *command[1:]])
        said = capsys.readouterr().err
        assert not ran.exists()
        assert "Traceback" not in said
        assert code == (2 if position in NEEDED or position.endswith("tensors.pt") else 0), said
        assert code == 0 or (said.startswith("rlopt: ") and len(said.splitlines()) == 1)
    torch.load(io.BytesIO(pickled(ran, how)), weights_only=False) if how == "torch" else pickle.loads(pickled(ran, how))
    assert ran.exists()  # it would have worked


def test_what_reads_many_runs_runs_none_of_their_files(tmp_path, template, capsys):
    pytest.importorskip("matplotlib")
    ran = tmp_path / "ran"
    for i, position in enumerate(POSITIONS):
        shutil.copytree(template, tmp_path / "runs" / str(i))
        plant(tmp_path / "runs" / str(i), position, pickled(ran, "0"))
    for command in (
        ["plot", str(tmp_path / "runs"), f"--out={tmp_path / 'f.png'}"],
        ["report", str(tmp_path / "runs")],
    ):
        assert cli.main(command) in (0, 2)
        assert "Traceback" not in capsys.readouterr().err and not ran.exists()


# --- entries that were changed by hand, in a checkpoint whose sums fit or in config.yaml

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
@pytest.mark.parametrize("what", ["config.yaml", "state.json"])
def test_whatever_an_entry_is_changed_to_ends_in_one_line_or_a_run(tmp_path, template, capsys, what, count):
    (place,) = template.glob("checkpoints/step-*")
    text = ((template if what == "config.yaml" else place) / what).read_text()
    tree = yaml.safe_load(text) if what == "config.yaml" else json.loads(text)
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
            forge(run_dir / "checkpoints" / place.name, state_json=json.dumps(new).encode())
        code = cli.main([command[0], str(run_dir), *command[1:]])
        said = capsys.readouterr().err
        assert code in (0, 2), (path, value)
        assert code == 0 or (said.startswith("rlopt: ") and len(said.splitlines()) == 1), (path, value, said)

"""A pickle that does something when it is read, in the place of any file of a run, is never run."""

import io
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from rlopt.cli import main as cli
from tests.support.spoiling import forge


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

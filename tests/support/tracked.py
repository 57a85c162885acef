"""What the real wandb, mlflow and trackio hold of a run, by their own readers: `python -m tests.support.tracked KIND RUN`.

Prints name -> step -> values. Each package is asked in a process of its own, which has the environment of the run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

Row = tuple[str, int, float]
HEADER, BLOCK = 7, 32768  # bytes of a .wandb file, which is a log as LevelDB writes it


def records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file; a record may lie in several chunks, and ends with a chunk of kind 1 or 4."""
    at, record = HEADER, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # no room for the head of a chunk: filled with zeros
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def wandb(run_dir: Path, id: str, project: str) -> Iterator[Row]:
    from wandb.proto.wandb_internal_pb2 import Record

    for file in sorted(run_dir.glob(f"wandb/offline-run-*/run-{id}.wandb")):
        for data in records(file.read_bytes()):
            items = Record.FromString(data).history.item
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            step = row.pop("step", None)
            yield from ((name, step, value) for name, value in row.items() if not name.startswith("_"))


def mlflow(run_dir: Path, id: str, project: str) -> Iterator[Row]:
    from mlflow import MlflowClient

    client = MlflowClient()
    for name in client.get_run(id).data.metrics:
        yield from ((name, metric.step, metric.value) for metric in client.get_metric_history(id, name))


def trackio(run_dir: Path, id: str, project: str) -> Iterator[Row]:
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs(project) == [id]
    for row in SQLiteStorage.get_logs(project, id):
        yield from ((name, row["step"], value) for name, value in row.items() if name not in ("step", "timestamp"))


READERS = {"wandb": wandb, "mlflow": mlflow, "trackio": trackio}

if __name__ == "__main__":
    kind, run_dir = sys.argv[1], Path(sys.argv[2])
    about = json.loads((run_dir / "tracker.json").read_text())
    found: dict[str, dict[int, list[float]]] = {}
    for name, step, value in READERS[kind](run_dir, about["id"], about["project"]):
        found.setdefault(name, {}).setdefault(step, []).append(value)
    print(json.dumps(found))

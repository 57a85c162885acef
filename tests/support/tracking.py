"""Stand-ins for wandb, mlflow and trackio that keep what they are given in a file, and so over a kill."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class Kept:
    """What a tracker was given: rows of (run, kind, ...), appended to a file."""

    def __init__(self, file: Path):
        self.file = file

    def add(self, *row: Any) -> None:
        with self.file.open("a") as out:
            out.write(json.dumps(row) + "\n")

    def rows(self, kind: str) -> list[list[Any]]:
        found = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []
        return [row for row in found if row[1] == kind]

    def scalars(self) -> dict[str, dict[int, list[float]]]:
        """name -> step -> the values that were sent, which should be one."""
        found: dict[str, dict[int, list[float]]] = {}
        for _, _, values, step in self.rows("scalars"):
            for name, value in values.items():
                found.setdefault(name, {}).setdefault(step, []).append(value)
        return found


def wandb(kept: Kept) -> ModuleType:
    module: Any = ModuleType("wandb")

    def init(**given: Any) -> Any:
        id = given["id"]
        kept.add(id, "init", {k: given[k] for k in ("project", "name", "resume")}, given["config"])

        def log(values: dict[str, Any]) -> None:
            step = values.pop("step")
            if isinstance(next(iter(values.values())), Path):
                kept.add(id, "video", list(values), step)
            else:
                kept.add(id, "scalars", values, step)

        return SimpleNamespace(
            log=log, define_metric=lambda *_, **__: None, summary=SimpleNamespace(update=lambda s: kept.add(id, "summary", s)),
            log_artifact=lambda files: kept.add(id, "policy", [Path(f).name for f in files]),
            finish=lambda exit_code: kept.add(id, "end", exit_code),
        )  # fmt: skip

    class Artifact(list):
        def __init__(self, name: str, type: str):
            super().__init__()

        add_file = list.append

    module.init, module.Settings, module.Artifact = init, lambda **_: None, Artifact
    module.Video = lambda path, format: Path(path)
    return module


def mlflow(kept: Kept) -> ModuleType:
    module: Any = ModuleType("mlflow")
    record = lambda *names: lambda *values: SimpleNamespace(**dict(zip(names, values, strict=True)))  # noqa: E731

    class MlflowClient:
        def get_experiment_by_name(self, name: str) -> Any:
            return None

        def create_experiment(self, name: str) -> str:
            return name

        def create_run(self, experiment: str, run_name: str) -> Any:
            id = f"{experiment}-{run_name}"
            kept.add(id, "init", {"project": experiment, "name": run_name}, {})
            return SimpleNamespace(info=SimpleNamespace(run_id=id))

        def update_run(self, id: str, status: str) -> None:
            kept.add(id, "init", {"resume": status}, {})

        def log_batch(self, id: str, metrics: Any = (), params: Any = ()) -> None:
            if params:
                kept.add(id, "config", {p.key: p.value for p in params})
            if metrics:
                kept.add(id, "scalars", {m.key: m.value for m in metrics}, metrics[0].step)

        def log_artifact(self, id: str, path: str, place: str) -> None:
            kept.add(id, place, [Path(path).name])

        def set_terminated(self, id: str, status: str) -> None:
            kept.add(id, "end", status)

    module.MlflowClient = MlflowClient
    module.entities = SimpleNamespace(Metric=record("key", "value", "timestamp", "step"), Param=record("key", "value"))
    return module


def trackio(kept: Kept) -> ModuleType:
    module: Any = ModuleType("trackio")

    def init(project: str, name: str, config: dict[str, Any], resume: str) -> None:
        module.run = name
        kept.add(name, "init", {"project": project, "name": name, "resume": resume}, config)

    def log(values: dict[str, Any], step: int) -> None:
        kind = "video" if isinstance(next(iter(values.values())), Path) else "scalars"
        kept.add(module.run, kind, list(values) if kind == "video" else values, step)

    module.init, module.log, module.finish = init, log, lambda: kept.add(module.run, "end", 0)
    module.Video = lambda path, format: Path(path)
    return module


MODULES = {"wandb": wandb, "mlflow": mlflow, "trackio": trackio}

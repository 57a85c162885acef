"""Folders of runs, written as a run records them."""

import json
from contextlib import closing

import pytest
import yaml

from rlopt.loggers.tensorboard import TensorBoardWriter


@pytest.fixture
def write_run(tmp_path):
    """Write a run's folder as the recorder does."""

    def write(name, curve, summary=True, algo="trpo", env="CartPole-v1", seed=0, score=1.0, **options):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = {"algo": algo, "seed": seed, "run_dir": str(folder), "total_steps": 100,
                  "env": {"id": env, "name": env}, "solver": {"_target_": f"rlopt.core.solvers.{options.pop('solver', 'cg')}.X"}}  # fmt: skip
        for key, value in options.items():
            *groups, last = key.split(".")
            node = config
            for group in groups:
                node = node.setdefault(group, {})
            node[last] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if curve:
            events(folder, {"episode/return": curve, "time/collect": [(s, 2.0) for s, _ in curve],
                            "time/update": [(s, 1.0) for s, _ in curve]})  # fmt: skip
        if summary:
            (folder / "summary.json").write_text(json.dumps({"evaluation_return": score}))
        return folder

    return write


def events(folder, series, after=None):
    with closing(TensorBoardWriter(folder, after)) as written:
        for name, points in series.items():
            for step, value in points:
                written.scalars({name: value}, step)


LINE = [(10, 0.0), (20, 10.0), (30, 20.0)]

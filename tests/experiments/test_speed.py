"""experiments/speed: the GPU script on the processor at tiny sizes, and tables from what is in results/."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

from experiments.speed import device, loop, parts, report, size

TABLES = {"size": size.table}
SPEED = Path(__file__).parents[2] / "experiments/speed"


def test_the_device_script_runs_on_the_processor(monkeypatch, capsys):
    before = (SPEED / "README.md").read_text()
    monkeypatch.setattr(sys, "argv", ["device.py", "--device", "cpu", "--quick"])
    assert device.main() == 0
    assert "width 16, 256 samples: 9 kinds measured" in capsys.readouterr().out
    assert (SPEED / "README.md").read_text() == before


@torch.no_grad()
def test_the_device_script_counts_the_work_of_a_product():
    """Per sample J v takes one product of matrices in the first layer, two in the others; J^T u likewise."""
    width, count = 16, 32
    layers = [17 * width, width * width, width * 6]
    found = device.work(device.kinds(count, width, "cpu")["Fisher product"], "cpu")
    assert found["flops"] == 2 * count * (4 * sum(layers) - 2 * layers[0])
    activations = 4 * count * (2 * width + 6)
    assert 5 * activations < found["bytes"] < 50 * activations


@torch.no_grad()
def test_every_part_whose_cost_is_measured_can_be_called():
    kinds = parts.kinds()
    assert parts.BOUNDS.keys() <= kinds.keys()
    for name, kind in kinds.items():
        assert all(x.isfinite().all() for x in tree_leaves(kind()) if isinstance(x, torch.Tensor)), name


def test_rows_are_cut_again_after_a_kind_that_takes_all_at_once():
    seen = []
    device.at_once(device.network, lambda: seen.append(device.network._ROWS))()
    assert seen == [device.ALL]
    assert device.network._ROWS < device.ALL


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_device_script_says_that_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["device.py"])
    assert device.main() == 2
    said = capsys.readouterr().err
    assert "no CUDA device" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["run", "parts", "growth", "size", "device", "acktr"])
def test_the_readme_shows_what_is_in_results(name):
    path = SPEED / f"results/{name}.json"
    if not path.exists():
        pytest.skip("not measured")
    lines = TABLES.get(name, getattr(report, name, None))(json.loads(path.read_text()))
    _, _, rest = (SPEED / "README.md").read_text().partition(f"<!-- {name} -->\n")
    assert rest.partition(f"<!-- /{name} -->")[0] == "\n".join([*lines, ""])


def test_a_table_of_costs_on_a_gpu():
    """With the shares of the card's rates, what did not fit left open, and how often the card was waited for."""
    product = {"milliseconds": [1.0, 2.0, 9.0], "flops": 10**9, "bytes": 10**8, "synchronisations": 0}
    data = {
        "machine": "a card",
        "precision": "highest",
        "card": {"product, highest": 1e12, "product, high": 4e12, "copy": 1e11},
        "sizes": [
            {"width": 64, "batch": 2048, "kinds": {"Fisher product": product}},
            {"width": 64, "batch": 4096, "kinds": {}},
        ],
    }
    text = "\n".join(report.device(data))
    assert "| 64 | 2,048 | 2 (50%, 50%) |" in text
    assert "| 64 | 4,096 | - |" in text
    assert "Fisher product 0 to 0" in text


def test_what_a_part_has_no_time_for_is_left_out_and_named(monkeypatch):
    monkeypatch.setattr(loop, "rates", lambda *given: {"simulator": 10.0, "collection": 5.0, "trpo": 1.0})
    clock = loop.Clock(3600)
    parts = loop.loops("cpu", False, clock)
    found = [next(parts) for _ in range(4)]
    assert [name for name, _ in found] == [f"{task}, 1,024 environments" for task in loop.TASKS]
    clock._end = 0.0
    assert all(result is None for _, result in parts)
    text = "\n".join(loop.tables({"loop": dict(found), "left_out": ["whole loop: ant"]}))
    assert "| cartpole, 1,024 environments | 10 | 5 (50%) | - | 1 (10%) | - | - | - |" in text
    assert "Left out, since the time was over: whole loop: ant." in text


@pytest.mark.skipif(find_spec("mujoco_warp") is not None, reason="the extra is installed")
def test_tasks_of_a_missing_extra_are_said_to_be_missing():
    found = dict(loop.learning("cpu", True, loop.Clock(60.0)))
    assert len(found) == 6 and all(f == {"why": "not measured: extra warp missing"} for f in found.values())
    assert loop.rates("ant", 4, "cpu", 1.0) == {"why": "not measured: extra warp missing"}


def test_learning_ends_at_the_bar():
    run = loop.make("cartpole", "trpo", 8, 32, "cpu")
    found = loop.learned(run, 5.0, 60.0)
    assert found["reached"] and found["return"] >= 5.0 and found["steps"] == 256
    text = "\n".join(loop.tables({"learning": {"trpo": found, "ppo": {**found, "reached": False}}}))
    assert "| ppo | not in " in text


def test_updates_at_size_are_measured_and_shown():
    found = [size.measure(size.KINDS["npg"], 16, steps) for steps in (4, 8)]
    assert [f["samples"] for f in found] == [64, 128] and all(f["memory"] > 1 for f in found)
    data = {"machine": "one", "samples": [64, 128], "kinds": {"npg": found}}
    assert any(line.startswith("| npg |") for line in size.table(data))

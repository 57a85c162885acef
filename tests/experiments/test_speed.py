"""experiments/speed: the GPU script on the processor at tiny sizes, and tables from what is in results/."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

from experiments.speed import device, parts, report

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


@pytest.mark.parametrize("name", ["run", "parts", "growth", "device", "acktr"])
def test_the_readme_shows_what_is_in_results(name):
    path = SPEED / f"results/{name}.json"
    if not path.exists():
        pytest.skip("not measured")
    lines = getattr(report, name)(json.loads(path.read_text()))
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

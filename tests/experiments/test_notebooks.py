"""experiments/notebooks: each runs from its first cell to its last, with fewer steps."""

import re
from pathlib import Path
from typing import Any

import pytest

import rlopt

NOTEBOOKS = sorted((Path(__file__).parents[2] / "experiments/notebooks").glob("[!_]*.py"))
pytestmark = pytest.mark.usefixtures("elsewhere")


def cells(path: Path) -> list[str]:
    """The code of every cell; what stands before the first is none."""
    parts = re.split(r"^# %%(.*)\n", path.read_text(), flags=re.MULTILINE)
    assert not parts[0].strip()
    return [code for kind, code in zip(parts[1::2], parts[2::2], strict=True) if "[markdown]" not in kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, capsys):
    import matplotlib

    matplotlib.use("Agg")
    found: dict[str, Any] = {"__name__": "notebook"}
    lines = "\n".join(cells(path))
    assert "run_dir=" not in lines  # a cell can be run again
    assert len(re.findall(r"^STEPS = [\d_]+", lines, re.MULTILINE)) == 1
    for code in cells(path):
        code = re.sub(r"^STEPS = [\d_]+", "STEPS = 4_096", code, flags=re.MULTILINE)
        exec(compile(code, str(path), "exec"), found)
    runs = [value for value in found.values() if isinstance(value, rlopt.api.Trained)]
    assert runs and all(run.summary["steps"] >= 4096 for run in runs)
    if path.stem == "lqr":
        assert found["ends"]["natural gradient"] == pytest.approx(found["system"].optimum(), abs=0.02)
        assert found["ends"]["vanilla gradient"] > found["system"].optimum() + 0.2
        assert Path("lqr.png").stat().st_size > 10_000
    if path.stem == "own_environment":
        assert found["longer"].summary["steps"] == 8192 and found["places"][0] == 0


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["lqr", "own_environment", "own_parts"]

"""Figures of a report: a panel for every axis and environment, and files of known kinds alone."""

from pathlib import Path

import numpy as np
import pytest

from rlopt.errors import UserError
from rlopt.report import figures
from rlopt.report.grouping import groups
from rlopt.report.runs import read_all
from rlopt.report.statistics import Estimate
from tests.support.recorded import LINE


@pytest.fixture
def grouped(write_run, tmp_path):
    for seed in range(2):
        write_run(f"a{seed}", LINE, seed=seed)
        write_run(f"b{seed}", LINE, seed=seed, env="Pendulum-v1")
    runs, _ = read_all([tmp_path], "episode/return", unfinished=False)
    return groups(runs)


@pytest.mark.parametrize("axes", [("steps",), ("steps", "seconds")])
def test_every_environment_has_a_panel_for_every_axis(grouped, axes):
    drawn = figures.curves(grouped, axes, "episode/return", "mean", "t")
    panels = [axes for axes in drawn.axes if axes.lines or axes.collections]
    assert len(panels) == 2 * len(axes)
    for panel in panels:
        x, y = panel.lines[0].get_data()
        assert len(x) == len(y) > 1 and np.all(np.diff(x) > 0)
        assert (y[0], y[-1]) == pytest.approx((0.0, 20.0), abs=0.2)  # means of the first and the last cell


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_figure_is_written_in_known_kinds(grouped, kind, tmp_path):
    path = tmp_path / f"f.{kind}"
    figures.check_name(path)
    figures.write(figures.curves(grouped, ("steps",), "episode/return", "iqm", "bootstrap"), path)
    assert path.stat().st_size > 1000


def test_another_kind_is_refused():
    with pytest.raises(UserError, match=".png, .pdf or .svg"):
        figures.check_name(Path("f.gif"))


NAMES = [r"$\frac{1}$", "$x", "a$b$c", r"\$", "$" * 7, "_^{", "x" * 9000, "a b " * 900, "ü☃漢", "", " ", "\\", "%s{}"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_whatever_a_name_is_it_is_shown_as_text(write_run, tmp_path, name):
    for seed in range(2):
        write_run(f"a{seed}", LINE, seed=seed, env=name)
        write_run(f"b{seed}", LINE, seed=seed, env=name, algo=name)
    runs, _ = read_all([tmp_path], "episode/return", unfinished=False)
    found, scores = groups(runs), [np.zeros(2), np.ones(2)]
    for i, drawn in enumerate((
        figures.curves(found, ("steps", "seconds"), name, "mean", "t"),
        figures.returns(found, scores, "score"),
        figures.improvements({(name, "b"): Estimate(*np.array([[0.5], [0.4], [0.6]])[:, 0])}),
    )):  # fmt: skip
        figures.write(drawn, tmp_path / f"{i}.png")
    assert all(figure.get_figwidth() < 30 for figure in [drawn])

"""The figure of an inspection."""

import json

from rlopt.inspection.figure import draw_figure
from rlopt.inspection.inspect import Direction, Inspection, Spectrum


def test_numbers_not_finite_are_null_and_a_figure_may_be_empty(tmp_path):
    nothing = Direction("fisher", "cg", "why", residual=float("nan"), iterations=float("inf"))
    found = Inspection(3, 4, 0.0, 0.01, 0.5, [nothing], [Spectrum.of("fisher", [])])
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert plain["directions"][0]["residual"] is None and plain["directions"][0]["iterations"] is None
    assert plain["spectra"][0]["failure"] == "M is zero"
    draw_figure(found, "title", tmp_path / "f.png")
    assert (tmp_path / "f.png").exists()

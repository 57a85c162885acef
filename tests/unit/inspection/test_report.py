"""The table of an inspection: a row for every pair, and why numbers are missing."""

import io

from rich.console import Console

from rlopt.inspection.budget import LeftOut
from rlopt.inspection.inspect import Direction, Inspection, Spectrum
from rlopt.inspection.report import LEGEND, print_table

NUMBERS = {
    "cosine_gradient": 0.5, "cosine_exact": 0.25, "damping": 0.1, "improvement_predicted": 2.0, "improvement": 1.5,
    "kl": 0.01, "milliseconds": 1.25, "peak_bytes": 2000,
}  # fmt: skip


def shown(directions: list[Direction], spectra: list[Spectrum], width: int = 200, left_out=()) -> str:
    out = io.StringIO()
    found = Inspection(3, 4, 0.1, 0.01, 0.5, directions, spectra, list(left_out))
    print_table(found, "title", Console(file=out, width=width))
    return out.getvalue()


def test_numbers_stand_in_the_row_of_their_pair():
    text = shown([Direction("fisher", "cg", **NUMBERS)], [Spectrum.of("fisher", [4.0, 2.0])])
    assert text.startswith("title\n") and LEGEND in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("fisher")]
    assert row == ["fisher", "4", "2.0e+00", "cg", "0.5000", "0.2500", "2.00", "1.50", "0.0100", "1.25", "2"]


def test_a_metric_is_named_once_above_its_solvers():
    pairs = [Direction("fisher", solver, **NUMBERS) for solver in ("cg", "dense")]
    text = shown(pairs, [Spectrum.of("fisher", [1.0])])
    assert [line.split()[0] for line in text.splitlines() if " 0.2500 " in line] == ["fisher", "dense"]


def test_what_failed_is_marked_and_explained_below():
    pairs = [Direction("hessian", "cg", failure="it is singular"), Direction("hessian", "dense", **NUMBERS)]
    text = shown(pairs, [Spectrum.of("hessian", [2.0, -1.0])])
    assert "cg (failed)" in text and "metric=hessian solver=cg: it is singular\n" in text
    assert "metric=hessian: 1 of the 2 eigenvalues found are below 0, down to -1\n" in text


def test_a_damping_that_was_raised_is_told():
    raised = Direction("fisher", "dense", **{**NUMBERS, "damping": 0.4})
    assert "metric=fisher: lambda was raised to 0.4 by dense\n" in shown([raised], [Spectrum.of("fisher", [1.0])])
    assert "lambda was raised" not in shown([Direction("fisher", "cg", **NUMBERS)], [Spectrum.of("fisher", [1.0])])


def test_a_narrow_terminal_breaks_no_row():
    pairs = [Direction("fisher", "cg", **NUMBERS)], [Spectrum.of("fisher", [1.0])]
    assert shown(*pairs, width=40) == shown(*pairs, width=120)


def test_what_was_left_out_is_one_line_with_its_option():
    dense = [LeftOut(metric, "dense", seconds) for metric, seconds in (("fisher", 1.25), ("ggn", 1234.0))]
    many = [LeftOut(f"m{i}", "power", 2.0) for i in range(5)]
    whole = [LeftOut("history", solver, None) for solver in ("cg", "dense")]
    text = shown([], [], left_out=[*dense, *many, *whole])
    assert (
        "\nleft out, too slow: solver=dense with fisher, ggn (1.2 to 1,234 s a solve), solver=power with 5 metrics "
        "(2.0 s a solve), metric=history, whose matrix is large; --pairs all brings them back\n"
    ) in text
    assert "--exact" not in text and "--pairs" not in shown([], [])


def test_an_exact_solution_that_is_missing_names_the_option():
    text = shown([], [], left_out=[LeftOut("fisher", None, None), LeftOut("ggn", None, None)])
    assert "\nno exact solution by conjugate gradient: metric=fisher,ggn; --exact factorises the matrix\n" in text
    assert "--pairs" not in text

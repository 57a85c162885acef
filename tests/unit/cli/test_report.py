"""rlopt report: which page it writes, and the ranges that it is given."""

from pathlib import Path

import pytest

from rlopt.cli.report import _parse_range
from rlopt.errors import UserError
from tests.support.recorded import LINE


def test_the_page_and_its_tables_are_written_where_it_is_said(run, write_run, tmp_path):
    write_run("a", LINE)
    code, out, err = run("report", str(tmp_path))
    assert (code, err) == (0, "") and (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.md").read_text() in out
    assert run("report", str(tmp_path), "--out", str(tmp_path / "mine.htm"))[0] == 0
    assert (tmp_path / "mine.htm").is_file() and (tmp_path / "mine.md").is_file()


def test_a_range_changes_the_normalised_scores(run, write_run, tmp_path):
    for seed in range(2):
        write_run(f"a{seed}", LINE, seed=seed, score=100.0)
        write_run(f"b{seed}", LINE, seed=seed, score=5.0, env="Pendulum-v1")
    assert run("report", str(tmp_path), "--range", "CartPole-v1=0,500")[0] == 0
    assert "CartPole-v1 0 and 500 (given)" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("text", "wanted"), [("A-v1=0,5", ("A-v1", (0, 5))), ("a=b=-1.5,2e3", ("a=b", (-1.5, 2000)))])
def test_a_range_is_an_environment_and_two_numbers(text, wanted):
    assert _parse_range(text) == wanted


@pytest.mark.parametrize("text", ["A-v1", "A-v1=5", "A-v1=5,1", "A-v1=a,b", "=0,1"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="--range takes ENV=LOW,HIGH"):
        _parse_range(text)


def test_a_page_cannot_be_of_another_kind(run, write_run, tmp_path):
    write_run("a", LINE)
    code, out, err = run("report", str(tmp_path), "--out", "x.pdf")
    assert code == 2 and "--out must end in .html; got x.pdf" in err and not out and not Path("x.pdf").exists()

from importlib import metadata

import pytest

from rlopt.errors import first_line, in_one_line, needs_extra


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n one\ntwo"), "one"), (KeyError(), "KeyError"), (RuntimeError("  "), "RuntimeError"),
     (Unprintable(), "(its text cannot be shown; Unprintable)")],
)  # fmt: skip
def test_an_error_in_one_line(error, line):
    assert first_line(error) == line


def test_an_error_without_line_breaks():
    assert in_one_line(ValueError("one\n  two")) == "one two"
    assert in_one_line(Unprintable()) == "(its text cannot be shown; Unprintable)"


def test_an_extra_is_installed_by_the_distributions_name():
    """On the public index rlopt is another project."""
    assert metadata.metadata("rlopt-geometry")["Name"] == "rlopt-geometry"
    assert needs_extra("x needs scipy", "plot") == (
        "x needs scipy: pip install 'rlopt-geometry[plot]', or scripts/bootstrap plot for a clone's .venv"
    )

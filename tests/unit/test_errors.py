import pytest

from rlopt.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n one\ntwo"), "one"), (KeyError(), "KeyError"), (RuntimeError("  "), "RuntimeError")],
)
def test_an_error_in_one_line(error, line):
    assert first_line(error) == line

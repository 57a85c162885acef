"""The page of options: every option of every file, with its value and its comment."""

from pathlib import Path

import pytest

from rlopt.config.choices import conf_dir, file, groups
from rlopt.guide import options as page_of_options
from rlopt.guide.options import options


@pytest.fixture
def page() -> str:
    return page_of_options.__doc__ or ""


def test_options_are_named_with_dots_and_keep_their_comments(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text("# about\na: 1   # one, > 0\nb:\n  c: [2]\n  d: null  # none\n")
    found = {name: (value, comment) for name, value, comment in options(path)}
    assert found["a"] == ("1", "one, > 0") and found["b.d"] == ("null", "none") and found["b.c"][0] == "[2]"


def test_a_comment_of_several_lines_is_of_one_option(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "workers: auto   # one for every\n                # core\n"
        "noise:          # of actions\n  # 0 to 2,\n  # or more\n  color: 0.0\n  block: 8\n"
        "last: 1\n"
    )
    assert options(path) == [
        ("workers", "auto", "one for every core"),
        ("noise", "", "of actions"),
        ("noise.color", "0.0", "0 to 2, or more"),
        ("noise.block", "8", ""),
        ("last", "1", ""),
    ]


@pytest.mark.parametrize("path", sorted(conf_dir().rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_comments_stand_below_one_or_above_an_option(path):
    """In one column with the comment of the line before, or with the key of the next line."""
    lines = path.read_text("utf-8").splitlines()
    for i, line in enumerate(lines):
        if line.startswith(" ") and line.strip().startswith("#"):
            following = next(each for each in lines[i:] if not each.strip().startswith("#"))
            column = line.index("#")
            assert column in (lines[i - 1].find("#"), len(following) - len(following.lstrip())), line


def test_every_choice_is_on_the_page(page):
    for group, names in groups().items():
        assert all(f"`{group}={name}`" in page for name in names)


def test_every_option_of_a_part_is_on_the_page(page):
    assert all(f"| `{name}` |" in page for name, _, _ in options(conf_dir() / "config.yaml"))
    assert all(f"| `solver.{name}` |" in page for name, _, _ in options(file("solver", "cg")))

"""The guide names modules that exist, and explains the words that the README uses in a special sense."""

import re
from importlib import import_module, resources

import pytest

from rlopt import guide
from rlopt.guide import words

PAGES = sorted(p.name.removesuffix(".py") for p in resources.files(guide).iterdir() if p.name.endswith(".py"))
WORDS = [
    "geometry", "metric M", "lambda", "preset", "recipe", "tape", "head", "mode", "nats", "compatible critic", "IQM",
]  # fmt: skip


def page(name: str) -> str:
    return import_module("rlopt.guide" if name == "__init__" else f"rlopt.guide.{name}").__doc__ or ""


def exists(name: str) -> bool:
    """True if it is a module, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
    except ImportError:
        return hasattr(import_module(module), attribute)
    return True


@pytest.mark.parametrize("name", PAGES)
def test_every_module_that_a_page_names_exists(name):
    for found in re.findall(r"`(rlopt(?:\.\w+)+)`", page(name)):
        assert exists(found), found


def test_the_first_page_has_all_others():
    assert set(re.findall(r"`rlopt\.guide\.(\w+)`", page("__init__"))) == set(PAGES) - {"__init__"}


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_readme_is_explained(word):
    assert re.search(rf"\*{word}", words.__doc__ or ""), word


def test_every_line_fits():
    for name in set(PAGES) - {"options", "comparison", "choices", "presets"}:
        assert [line for line in page(name).splitlines() if len(line) > 120] == []

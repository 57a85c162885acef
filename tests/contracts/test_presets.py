"""Every preset's file says its equation, its source, and where it departs from it."""

import re

import pytest

from rlopt.config.choices import choices, described, file


@pytest.mark.parametrize("algo", choices("algo"))
def test_a_preset_states_equation_source_and_deviations(algo):
    comments = [line.lstrip("# ") for line in file("algo", algo).read_text().splitlines() if line.startswith("#")]
    assert len(described("algo", algo)) > 20
    assert any(re.search(r"theta|maximise", line) and re.search("[+<=]", line) for line in comments), "equation"
    assert any(re.search(r"\b(19|20)\d\d\b", line) for line in comments[2:]), "source"
    _, mark, deviations = " ".join(comments).partition("Deviations")
    assert mark and len(deviations) > 60, "deviations"

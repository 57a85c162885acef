"""The files of conf/ as choices: their names, their variants, and what is near to a name that there is none of."""

import pytest

from rlopt.config import choices
from rlopt.config.choices import GROUPS, PARTS, described, environment_with_id, file, is_variant, nearest, stands_for


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_has_a_file_and_a_first_comment(group):
    names = choices.choices(group)
    assert names == sorted(names) and (names or group == "experiment")
    for name in names:
        assert file(group, name).is_file() and described(group, name), name


@pytest.mark.parametrize("group", PARTS)
def test_parts_are_the_choices_that_are_no_variants(group):
    assert set(choices.parts(group)) == {n for n in choices.choices(group) if not is_variant(group, n)}
    assert choices.parts(group)


def test_a_file_that_begins_from_another_is_a_variant(tmp_path):
    (tmp_path / "solver").mkdir()
    for name, text in {"own": "_target_: a.B\n", "other": "# words\ndefaults:\n  - own\n  - _self_\nx: 1\n"}.items():
        (tmp_path / "solver" / f"{name}.yaml").write_text(text)
    choices.set_extra_dirs((tmp_path,))
    try:
        assert not is_variant("solver", "own") and is_variant("solver", "other")
        assert {"own", "other"} <= set(choices.choices("solver"))
        assert not {"own", "other"} & set(choices.own_choices("solver"))
        assert described("solver", "other") == "words" and described("solver", "own") == ""
    finally:
        choices.set_extra_dirs(())
    assert "own" not in choices.choices("solver")


def test_an_environment_is_found_by_its_id():
    assert environment_with_id("CartPole-v1") == "cartpole" and environment_with_id("Nothing-v0") is None


def test_a_class_stands_for_the_choice_of_its_module():
    from rlopt.core.solvers.cg import CG

    assert stands_for(CG) == stands_for("rlopt.core.solvers.cg.CG") == "cg"


@pytest.mark.parametrize(("typed", "wanted"), [("tpro", " (did you mean trpo?)"), ("zzzzzz", "")])
def test_what_is_near_is_offered(typed, wanted):
    assert nearest(typed, ["ppo", "trpo"]) == wanted

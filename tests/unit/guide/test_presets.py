"""The presets' pages: made from the heads of the files, with nothing lost."""

import re

import pytest
import yaml

from rlopt.config.choices import choices, described, file
from rlopt.config.compose import compose
from rlopt.guide import presets

PRESETS = choices("algo")


def words(text: str) -> list[str]:
    return re.findall(r"[\w.=/-]+", re.sub(r"[`\\]", "", text).lower())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_page_has_every_word_of_the_files_head(preset):
    page = words(getattr(presets, preset))
    comments = [line.lstrip("# ") for line in file("algo", preset).read_text().splitlines() if line.startswith("#")]
    head = words(" ".join(line for line in comments if "@package" not in line))
    assert [word for word in head if word not in page and word not in ("deviations", "source")] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_part_of_the_head_is_there(preset):
    head = presets.head(preset)
    assert head.title == described("algo", preset)
    assert "theta" in head.equation or "maximise" in head.equation or "policy:" in head.equation
    assert re.search(r"\d{4}", head.source) and len(head.deviations) > 100


def test_points_of_a_list_stay_points():
    assert presets.head("acktr").deviations.count("\n- ") == 6
    assert "\n" not in presets.head("trpo").deviations


def test_options_are_code_and_underscores_no_emphasis():
    assert "`critic=shared`" in presets.head("a2c").deviations and "`step=fixed`" in presets.head("enac").deviations
    assert r"step.accept\_ratio" in presets.head("trpo").deviations


@pytest.mark.parametrize("preset", PRESETS)
def test_the_parts_are_those_that_are_composed(preset):
    config, parts = compose([f"algo={preset}"]), presets.parts(preset)
    for group in ("objective", "metric", "solver", "step"):
        target = yaml.safe_load(file(group, parts[group]).read_text()).get("_target_")
        assert target in (None, config[group]["_target_"]), group


def test_the_table_has_every_preset_and_names_variants():
    assert all(f"[{preset}](presets/{preset}.html)" in (presets.__doc__ or "") for preset in PRESETS)
    assert "| ppo (optimizer) | ppo (minibatch) |" in (presets.__doc__ or "")
    found = presets.recipes("acktr")
    assert {"acktr-ant", "acktr-hopper"} <= set(found) and all(name.startswith("acktr-") for name in found)


def test_what_is_no_preset_has_no_page():
    with pytest.raises(AttributeError, match="dqn"):
        presets.dqn  # noqa: B018

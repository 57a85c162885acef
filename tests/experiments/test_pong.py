"""Pong's options can be typed; the runs themselves take hours."""

import pytest

from experiments._shared.building import resolve
from experiments.pong import __main__ as pong


@pytest.mark.parametrize("name", pong.PLAN)
def test_what_is_asked_for_is_what_a_run_has(name):
    config = resolve(["env=atari", *pong.ENV, *pong.PLAN[name][0]])
    assert config["algo"] == name and config["env"]["id"] == "ALE/Pong-v5"
    assert config["env"]["wrappers"] == ["frame_stack:4", "atari:84"] and config["objective"]["entropy"] == 0.01

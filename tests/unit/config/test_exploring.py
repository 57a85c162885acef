"""What intrinsic rewards refuse before a run begins; tests/unit/training/test_exploring.py types it."""

from dataclasses import replace

import pytest

from rlopt.config import exploring
from rlopt.config.exploring import check_exploration
from rlopt.config.options import RunConfig
from rlopt.errors import UserError
from tests.support.building import resolve


def config(*typed: str) -> RunConfig:
    return RunConfig.parse(resolve(["exploration=rnd", *typed]))


def test_a_critic_of_its_own_is_enough():
    check_exploration(config())
    check_exploration(RunConfig.parse(resolve([])))


def test_games_and_reused_batches_are_refused():
    found = config()
    game = replace(found, env=replace(found.env, agents=("one", "other")))
    for each, says in ((game, "for one agent"), (replace(found, reuse=replace(found.reuse, batches=2)), "reuse")):
        with pytest.raises(UserError, match=says):
            check_exploration(each)


def test_several_ranks_are_refused(monkeypatch):
    monkeypatch.setattr(exploring, "world_size", lambda: 2)
    with pytest.raises(UserError, match="run without torchrun"):
        check_exploration(config())

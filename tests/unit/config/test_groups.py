"""The small groups of options refuse values out of their ranges, by their full names."""

import pytest

from rlopt.config import read_config
from rlopt.errors import UserError

REFUSED = {
    "observations.clip=0": "observations.clip must be .*above 0; got 0",
    "rewards.clip=-1": "rewards.clip must be .*above 0; got -1",
    "evaluation.episodes=2000000": "evaluation.episodes must be 0 or above, at most 1,000,000",
    "evaluation.max_steps=0": "evaluation.max_steps must be .*1 or above",
    "evaluation.episodes=0 evaluation.every_updates=2": "evaluation.every_updates must be 1 or above, with",
    "checkpoint.keep=0": "checkpoint.keep must be .*1 or above",
    "checkpoint.every_seconds=-1": "checkpoint.every_seconds must be .*0 or above",
    "record.histograms_every=0": "record.histograms_every must be .*1 or above",
    "init.from=a init.actor=b": "init.from and init.actor both give the policy's parameters",
    "noise.color=3": "noise.color must be .*0 .* 2",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_values_out_of_their_ranges_are_refused(typed):
    with pytest.raises(UserError, match=REFUSED[typed]):
        read_config(typed.split())


def test_a_run_starts_from_something_only_where_that_is_given():
    assert not read_config([]).init.given
    assert read_config(["init.from=runs/first"]).init.folder == "runs/first"
    assert read_config(["init.actor=a.safetensors"]).init.given

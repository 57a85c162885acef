"""Room for contacts and constraints, of a dry run in C."""

from itertools import combinations

import numpy as np
import pytest

from rlopt.envs.warp.sizes import Sizes, dry_run, roomy
from tests.support.warp import simulation


def pairs(one):
    """All pairs of geoms: more than may collide."""
    return np.array(list(combinations(range(one.model.ngeom), 2)))


def test_room_is_twice_what_was_needed_and_a_few_more():
    assert [roomy(n) for n in (0, 1, 4, 5, 100)] == [8, 16, 16, 24, 208]


@pytest.mark.parametrize("task", ["InvertedPendulum", "Hopper"])
def test_the_same_model_gives_the_same_sizes(task):
    one = simulation(task)
    assert dry_run(one, pairs(one)) == dry_run(simulation(task), pairs(one))


def test_bodies_that_touch_need_more():
    none = np.zeros((0, 2), int)
    hopper, pendulum = simulation("Hopper"), simulation("InvertedPendulum")
    found = dry_run(hopper, none)
    assert dry_run(pendulum, none) == Sizes(8, 16)  # no contact, and a limit of the slider
    assert found.nconmax > 8 and found.njmax > 16
    assert dry_run(hopper, pairs(hopper)).nconmax > found.nconmax  # bounding spheres meet first

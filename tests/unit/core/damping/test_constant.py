"""A damping that is one number for ever."""

import pytest

from rlopt.core.damping.constant import Constant


def test_it_is_its_value_whatever_happens():
    damping = Constant(0.25)
    state = damping.init()
    assert damping.current(state) == 0.25
    assert damping.adapt(state, {"step/accepted": 0.0, "damping/agreement": -3.0}) == state == {}
    assert not damping.measures


@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf")])
def test_a_value_below_0_or_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="value must be"):
        Constant(value)

"""The parts of flat observations are where gymnasium flattens them, and come back as they were."""

import numpy as np

from rlopt.policy.parts import parts_of, unflatten
from tests.support.choices import PARTS, flat_samples

NAMES = ["camera", "inner.0", "inner.1", "stack", "switches"]


def test_parts_are_where_gymnasium_flattens_them():
    seen, flat = flat_samples(4)
    parts = list(parts_of(PARTS))
    assert [part.name for part in parts] == NAMES
    assert parts[-1].at.stop == flat.shape[1]
    found = unflatten(PARTS, flat)
    assert np.array_equal(found["camera"], [one["camera"] for one in seen])
    assert np.array_equal(found["inner"][0].argmax(1) + 2, [one["inner"][0] for one in seen])
    assert np.allclose(found["inner"][1], [one["inner"][1] for one in seen])
    assert np.array_equal(found["stack"], [one["stack"] for one in seen])

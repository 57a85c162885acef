"""The parts of flat observations are where gymnasium flattens them, and come back as they were."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlopt.envs.observations import as_image, flat_space
from rlopt.policy.parts import keys_of, narrowed, parts_of, pick, unflatten
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


NESTED = spaces.Dict(
    [("z", spaces.Discrete(3)), ("a", spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "y": spaces.MultiBinary(2)}))]
)


@pytest.mark.parametrize("keys", [["z"], ["a.y"], ["a"], ["a.y", "z"], ["z", "a.x", "a.y"]])
def test_narrowed_rows_are_those_of_the_narrowed_space(keys):
    """In the space's order, whatever that of the keys, and of a Dict whose keys are not sorted too."""
    NESTED.seed(0)
    assert list(keys_of(NESTED)) == ["z", "a", "a.x", "a.y"]
    space, columns = narrowed(flat_space(NESTED), keys)
    for seen in (NESTED.sample() for _ in range(5)):
        row = spaces.flatten(NESTED, seen)[columns]
        assert np.array_equal(row, spaces.flatten(space.declared, pick(space.declared, seen)))


def test_images_stay_images_where_keys_are_chosen():
    space, columns = narrowed(as_image(flat_space(PARTS), "auto"), ["stack", "switches"])
    assert space.pixels == ((slice(0, 60 * 3), 15.0),) and len(columns) == space.shape[0] == 182
    assert torch.equal(columns[-2:], torch.tensor([len(spaces.flatten(PARTS, PARTS.sample())) - i for i in (2, 1)]))


@pytest.mark.parametrize(
    ("space", "keys", "says"),
    [
        (NESTED, ["x"], "keys must be a list of some of z, a, a.x, a.y"),
        (NESTED, [], "keys must be null or a list of some of z"),
        (spaces.Tuple([NESTED]), ["0"], "keys names keys of a Dict"),
    ],
)
def test_keys_that_are_not_there_are_refused(space, keys, says):
    with pytest.raises(ValueError, match=says):
        narrowed(flat_space(space), keys)


def test_an_observation_without_a_key_is_named():
    with pytest.raises(ValueError, match="a dictionary of z, a; got one without 'a'"):
        pick(NESTED, {"z": 1})
    with pytest.raises(ValueError, match="got int"):
        pick(NESTED, 3)

"""Observations: every part is checked against its own space, and flattened as Gymnasium has it."""

import numpy as np
import pytest
from gymnasium import spaces

from rlopt.envs.observations import InvalidOutput, check_box, check_observation_space, flattener, indicators
from rlopt.errors import UserError

NESTED = spaces.Dict({  # which sorts its keys
    "b": spaces.Discrete(3, start=1), "a": spaces.Box(-9, 9, (2, 2)),
    "c": spaces.Tuple([spaces.MultiBinary(2), spaces.Box(-9, 9, ()), spaces.MultiDiscrete([2, 3], start=[0, -1])]),
})  # fmt: skip


@pytest.mark.parametrize(
    ("space", "observation", "numbers", "indicated"),
    [
        (spaces.Box(-9, 9, (2, 2)), [[1, 2], [3, 4]], [1, 2, 3, 4], []),
        (spaces.Box(0, 255, (3,), np.uint8), [1, 2, 255], [1, 2, 255], []),
        (spaces.Discrete(3), 2, [0, 0, 1], [0, 1, 2]),
        (spaces.Discrete(3, start=-1), -1, [1, 0, 0], [0, 1, 2]),
        (spaces.MultiDiscrete([2, 3], start=[4, -1]), np.array([5, 0]), [0, 1, 0, 1, 0], [0, 1, 2, 3, 4]),
        (spaces.MultiBinary((2, 2)), np.array([[1, 0], [0, 1]]), [1, 0, 0, 1], [0, 1, 2, 3]),
        (NESTED, {"a": [[1, 2], [3, 4]], "b": 3, "c": (np.array([0, 1]), 7.0, np.array([1, 1]))},
         [1, 2, 3, 4, 0, 0, 1, 0, 1, 7, 0, 1, 0, 0, 1], [4, 5, 6, 7, 8, 10, 11, 12, 13, 14]),
    ],
    ids=["box", "bytes", "discrete", "discrete_start", "multi_discrete", "multi_binary", "nested"],
)  # fmt: skip
def test_observations_are_flattened_as_gymnasium_has_them(space, observation, numbers, indicated):
    flat = flattener(space)(observation)
    assert (flat.tolist(), list(indicators(space))) == (numbers, indicated)
    theirs = spaces.flatten(space, observation)
    assert flat.dtype == spaces.flatten_space(space).dtype and flat.tobytes() == theirs.astype(flat.dtype).tobytes()


def test_samples_of_any_space_are_flattened_as_in_gymnasium():
    for i, space in enumerate([NESTED, spaces.Discrete(4, start=-2), spaces.MultiDiscrete([[2, 3], [4, 1]])]):
        space.seed(i)
        for observation in (space.sample() for _ in range(30)):
            theirs = spaces.flatten(space, observation)
            assert np.array_equal(flattener(space)(observation), theirs)


INNER = {"a": np.zeros((2, 2), np.float32), "b": 1, "c": (np.array([0, 1]), 7.0, np.array([0, -1]))}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"a": np.zeros(4)}, r"observation\['a'\] of shape \(4,\) where its space has \(2, 2\)"),
        ({"a": np.zeros((4, 1))}, r"observation\['a'\] of shape \(4, 1\)"),
        ({"a": [["x", "y"], ["z", ""]]}, r"observation\['a'\] of type <U1"),
        ({"b": 0}, r"observation\['b'\] of 0 where its space has 1 to 3"),
        ({"b": -1}, r"observation\['b'\] of -1 where"),
        ({"b": 4}, r"observation\['b'\] of 4 where"),
        ({"b": np.array([2])}, r"observation\['b'\] of shape \(1,\) where its space has \(\)"),
        ({"b": 2.0}, r"observation\['b'\] of type float64 where its space has whole numbers"),
        ({"b": None}, r"observation\['b'\] of type object"),
        ({"c": (np.array([0, 2]), 7.0, np.array([0, -1]))}, r"\['c'\]\[0\] of 2, number 1 of them, .* has 0 to 1"),
        ({"c": (np.array([0, 1]), 7.0, np.array([0, -2]))}, r"\['c'\]\[2\] of -2, number 1 of them, .* has -1 to 1"),
        ({"c": (np.array([0, 1]), 7.0)}, r"\['c'\] of 2 parts where its space has 3"),
        ({"c": 5}, r"\['c'\] of int where its space has 3 parts"),
        ({"c": (np.array([0, 1]), np.zeros(1), np.array([0, -1]))}, r"\['c'\]\[1\] of shape \(1,\)"),
    ],
)
def test_a_part_that_is_not_in_its_space_is_named(change, says):
    with pytest.raises(InvalidOutput, match=says):
        flattener(NESTED)({**INNER, **change})


def test_parts_that_are_missing_are_named():
    with pytest.raises(InvalidOutput, match="^an observation without 'a', which its space has"):
        flattener(NESTED)({key: value for key, value in INNER.items() if key != "a"})
    for observation in (None, 3, np.zeros(15), [1, 2]):
        with pytest.raises(InvalidOutput, match="without 'a'"):
            flattener(NESTED)(observation)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.Discrete(3, start=5), spaces.Discrete(3, start=-9)], ids=str
)
@pytest.mark.parametrize("off", [-1, 3, -4, 10**9])
def test_a_category_outside_of_its_space_is_refused(space, off):
    with pytest.raises(
        InvalidOutput, match=f"^an observation of {space.start + off} where its space has {space.start} to"
    ):
        flattener(space)(int(space.start) + off)


@pytest.mark.parametrize(("kind", "number"), [(np.uint8, 256), (np.uint8, -1), (np.int8, 128), (np.int32, 2**31)])
def test_whole_numbers_that_would_wrap_round_are_refused(kind, number):
    space = spaces.Box(0, 100, (2,), kind)
    assert check_box(space, np.array([1, 2])).tolist() == [1, 2]
    with pytest.raises(
        InvalidOutput, match=f"an observation with {number}, which {np.dtype(kind)} of its space cannot"
    ):
        check_box(space, np.array([1, number]))


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (spaces.Text(4), "Text are"),
        (spaces.Sequence(spaces.Discrete(3)), "Sequence are"),
        (spaces.Graph(spaces.Discrete(3), None), "Graph are"),
        (spaces.OneOf([spaces.Discrete(3)]), "OneOf are"),
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Text(3)])), r"Text \(within Dict\) are"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unserved_observations_are_refused_with_what_is_served(space, names):
    with pytest.raises(
        UserError, match=f"observations of {names} not served; rlopt serves Box, Discrete, MultiDiscrete"
    ):
        check_observation_space(space)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (0,)), spaces.Box(-1, 1, (3, 0)), spaces.Dict()], ids=str)
def test_observations_without_a_number_are_refused(space):
    with pytest.raises(UserError, match="hold no number"):
        check_observation_space(space)


@pytest.mark.parametrize(
    ("thing", "says"), [(None, "is None,"), (5, "is a builtins.int,"), (spaces.Box, "is a builtins.type")]
)
def test_what_is_no_space_is_named(thing, says):
    with pytest.raises(UserError, match=f"its observation_space {says}"):
        check_observation_space(thing)

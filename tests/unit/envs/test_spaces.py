import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate

from rlopt.core.heads import (
    GSDE,
    Bernoulli,
    Beta,
    Categorical,
    DiagonalGaussian,
    FullGaussian,
    MultiCategorical,
    Product,
)
from rlopt.envs.observations import Image, as_image, describe_space, image, observation_dtype
from rlopt.envs.spaces import ActionTransform, HeadOptions, MixedTransform, head_for
from rlopt.errors import UserError
from rlopt.rollout.buffer import allocate_buffer
from tests.support.acting import equal

GAUSSIAN = HeadOptions(head="gaussian", scale="sigma", initial_sigma=0.3, squash=True, noise_features=3, noise_hold=5)
BETA = HeadOptions(head="beta", scale="sigma", initial_sigma=0.3, squash=False, noise_features=3, noise_hold=5)
FULL = HeadOptions(head="full_gaussian", scale="sigma", initial_sigma=0.3, squash=False, noise_features=3, noise_hold=5)
GSDE_OPTIONS = HeadOptions(head="gsde", scale="sigma", initial_sigma=0.3, squash=False, noise_features=3, noise_hold=5)


def door(space: gym.Space, *actions: list[float], squash: bool = False) -> np.ndarray:
    return ActionTransform(space, squash)(torch.tensor(actions, dtype=torch.float64))


def test_policy_actions_are_mapped_affinely_to_finite_bounds():
    space = spaces.Box(np.array([-2, 0, 10], np.float32), np.array([2, 1, 30], np.float32))
    out = door(space, [-1, -1, -1], [0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5])
    assert out.tolist() == [[-2, 0, 10], [0, 0.5, 20], [2, 1, 30], [1, 0.75, 25]]
    assert out.dtype == np.float32


def test_actions_beyond_the_bounds_are_clipped():
    assert door(spaces.Box(-2, 2, (1,), np.float32), [-7], [1.01], [1e30]).tolist() == [[-2], [2], [2]]


def test_infinite_and_half_infinite_bounds_only_clip():
    space = spaces.Box(np.array([-np.inf, -np.inf, -1.5]), np.array([np.inf, 0.5, np.inf]), dtype=np.float64)
    assert door(space, [7, 7, 7], [-7, -7, -7], [0.25, 0.25, 0.25]).tolist() == [
        [7, 0.5, 7],
        [-7, -7, -1.5],
        [0.25, 0.25, 0.25],
    ]


@pytest.mark.parametrize("bound", [1e6 + 1, 1e38, np.finfo(np.float32).max])
def test_bounds_beyond_a_million_count_as_none_but_still_clip(bound):
    wide, none = spaces.Box(-bound, bound, (2,), np.float32), spaces.Box(-np.inf, np.inf, (2,), np.float32)
    for actions in ([0.5, -7.0], [30.0, 1e6]):
        assert np.array_equal(door(wide, actions), door(none, actions))
    assert np.abs(door(wide, [np.inf, -np.inf])).max() <= np.float32(bound)


def test_bounds_of_a_million_are_bounds():
    assert door(spaces.Box(-1e6, 1e6, (1,), np.float32), [0.5]).tolist() == [[5e5]]


def test_mixed_bounds_are_each_treated_as_their_own():
    space = spaces.Box(np.array([-4, -np.inf, 0]), np.array([4, np.inf, np.inf]), dtype=np.float64)
    assert door(space, [0.5, 9, -1]).tolist() == [[2, 9, 0]]


def test_squashing_sends_tanh_of_the_action():
    out = door(spaces.Box(-2, 2, (2,), np.float64), [0.3, -40], squash=True)
    np.testing.assert_allclose(out, [[2 * np.tanh(0.3), -2]], rtol=1e-15)


def test_actions_take_the_shape_of_the_space():
    out = door(spaces.Box(-1, 1, (2, 3), np.float32), list(np.linspace(-1, 1, 6)))
    assert out.shape == (1, 2, 3)
    np.testing.assert_allclose(out[0].ravel(), np.linspace(-1, 1, 6), atol=1e-7)


def test_squashed_actions_of_any_size_stay_within_the_bounds():
    space = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 0.3], np.float32))
    out = door(space, [1e30, 1e30], [-1e30, -1e30], [8, -8], [0, 0], squash=True)
    assert all(space.contains(a) for a in out)
    np.testing.assert_allclose(out, [[2, 0.3], [-2, 0], [2, 0], [0, 0.15]], atol=1e-6)


@pytest.mark.parametrize("start", [0, 5, -1])
def test_discrete_actions_begin_at_the_start_of_the_space(start):
    space = spaces.Discrete(3, start=start)
    out = ActionTransform(space, False)(torch.tensor([0, 1, 2]))
    assert out.tolist() == [start, start + 1, start + 2]
    assert all(space.contains(a) for a in out)


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([2, 3, 4]),
        spaces.MultiDiscrete([2, 3], start=[-1, 7]),
        spaces.MultiDiscrete([[2, 3], [4, 1]], dtype=np.int32, start=[[0, 5], [-2, 9]]),
        spaces.MultiBinary(3),
        spaces.MultiBinary((2, 2)),
    ],
    ids=str,
)
def test_actions_of_many_parts_reach_the_space_one_to_one(space):
    head = head_for(space, GAUSSIAN)
    z = torch.randn(500, head.network_outputs, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(500, head.noise_size, generator=torch.Generator().manual_seed(1))
    actions = head.sample(z, noise)
    out = ActionTransform(space, False)(actions)
    assert all(space.contains(a) for a in out)
    start = np.asarray(getattr(space, "start", 0))
    assert np.array_equal((out - start).reshape(500, -1), actions.numpy())
    assert len(np.unique(actions.numpy(), axis=0)) == np.prod([*getattr(space, "nvec", np.full(space.shape, 2)).flat])


def test_the_head_fits_the_space():
    assert head_for(spaces.Discrete(4), GAUSSIAN) == Categorical(4)
    assert head_for(spaces.MultiDiscrete([[2, 3], [4, 5]]), GAUSSIAN) == MultiCategorical((2, 3, 4, 5))
    assert head_for(spaces.MultiBinary((2, 3)), GAUSSIAN) == Bernoulli(6)
    box = spaces.Box(-1, 1, (2, 3), np.float32)
    assert head_for(box, GAUSSIAN) == DiagonalGaussian(6, scale="sigma", initial_sigma=0.3, squash=True)
    assert head_for(box, BETA) == Beta(6, 0.3)
    assert head_for(box, FULL) == FullGaussian(6, 0.3)
    assert head_for(box, GSDE_OPTIONS) == GSDE(6, 3, 5, 0.3)
    by_state = HeadOptions("gaussian", "network_softplus", 0.3, False, 3, 5)
    assert head_for(box, by_state) == DiagonalGaussian(6, "softplus", 0.3, per_state=True)
    assert head_for(spaces.Box(np.array([-1, 250]), np.array([1, 255]), dtype=np.int16), BETA) == MultiCategorical(
        (3, 6)
    )


MIXED = spaces.Dict(
    z=spaces.Discrete(3, start=4),
    a=spaces.Tuple([spaces.MultiBinary((2, 1)), spaces.Box(-2, 2, (), np.float32)]),
    m=spaces.Dict(d=spaces.MultiDiscrete([2, 3], start=[-1, 7]), i=spaces.Box(-1, 1, (2, 1), np.int8)),
    f=spaces.Box(np.array([-np.inf, 0]), np.array([np.inf, np.inf]), dtype=np.float64),
)


def test_a_mixed_space_has_the_heads_of_its_parts_in_their_order():
    gaussian = HeadOptions("gaussian", "log_sigma", 0.3, False, 3, 5)
    one, two = (DiagonalGaussian(size, initial_sigma=0.3) for size in (1, 2))
    parts = (Categorical(3), Bernoulli(2), one, MultiCategorical((2, 3)), MultiCategorical((3, 3)), two)
    assert head_for(MIXED, gaussian) == Product(parts)
    assert head_for(spaces.Tuple([spaces.Discrete(2)]), BETA) == Product((Categorical(2),))


def test_rows_reach_a_mixed_space_for_one_and_for_many():
    head = head_for(MIXED, HeadOptions("gaussian", "log_sigma", 3.0, False, 3, 5))
    z = torch.randn(200, head.network_outputs + head.constants, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200, head.noise_size, generator=torch.Generator().manual_seed(1))
    rows = head.sample(z, noise)
    transform = MixedTransform(MIXED, False)
    each, stacked = transform(rows), transform.stacked(rows.numpy())
    assert all(MIXED.contains(action) for action in each) and batch_space(MIXED, 200).contains(stacked)
    for one, other in zip(each, iterate(batch_space(MIXED, 200), stacked), strict=True):
        assert equal(one, other)
    category, bits, free, number, which, whole, half = np.split(rows.numpy(), [1, 3, 4, 5, 6, 8], 1)
    np.testing.assert_array_equal(stacked["z"], category[:, 0] + 4)
    np.testing.assert_array_equal(stacked["a"][0][..., 0], bits)
    np.testing.assert_allclose(stacked["a"][1], np.clip(2 * free[:, 0], -2, 2), rtol=1e-6)
    np.testing.assert_allclose(stacked["f"], np.stack([half[:, 0], np.maximum(half[:, 1], 0)], 1), rtol=1e-6)
    np.testing.assert_array_equal(stacked["m"]["d"], np.concatenate([number - 1, which + 7], 1))
    np.testing.assert_array_equal(stacked["m"]["i"][..., 0], whole - 1)
    assert transform(rows[:0]) == []


def test_beta_actions_reach_the_bounds_through_tanh():
    head, space = Beta(1), spaces.Box(0, 6, (1,), np.float64)
    actions = head.mode(torch.tensor([[0.0, 0.0], [60.0, -60.0], [-60.0, 60.0]], dtype=torch.float64))
    np.testing.assert_allclose(ActionTransform(space, head.squash)(actions)[:, 0], [3, 6, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("space", "options", "says"),
    [
        (spaces.Box(-1, np.inf, (1,)), BETA, r"policy.head=beta needs finite bounds; .* type policy.head=gaussian"),
        (spaces.Box(-1, 1, (9,)), FULL, "full_gaussian is for at most 8 numbers; .* type policy.head=gaussian"),
        (spaces.Box(0, 1000, (2,), np.int32), BETA, "have numbers of 1,001 values; .* of at most 256 values each"),
        (spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64), BETA, "have numbers of 18,446,744,073,709,551,616 values"),
        (spaces.Dict(), BETA, "hold no number"),
        (MIXED, GSDE_OPTIONS, "policy.head=gsde is for a Box alone"),
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(3)), BETA, r"actions of Text\(.*\) are not served"),
    ],
    ids=["half-infinite", "many", "values", "all whole numbers", "empty", "parts", "within"],
)
def test_what_a_head_cannot_serve_is_refused_with_advice(space, options, says):
    with pytest.raises(UserError, match=says):
        head_for(space, options)


@pytest.mark.parametrize(
    "space",
    [spaces.Text(4), spaces.Sequence(spaces.Discrete(2))],
    ids=str,
)  # fmt: skip
def test_actions_that_are_not_served_are_refused_with_what_is(space):
    with pytest.raises(
        UserError, match="are not served; rlopt serves Discrete, MultiDiscrete, MultiBinary, Box, and Dict"
    ) as info:
        head_for(space, GAUSSIAN)
    assert describe_space(space) in str(info.value) and "\n" not in str(info.value)


@pytest.mark.parametrize("bound", [np.inf, 1e38])
def test_squashing_without_finite_bounds_is_refused(bound):
    space = spaces.Box(np.array([-1, -bound]), np.array([1, bound]), dtype=np.float64)
    with pytest.raises(UserError, match=r"finite bounds; those of the actions, Box\(2,\) of float64, are infinite"):
        head_for(space, GAUSSIAN)


def pixels(*shape: int, order: str = "auto", high: int = 255) -> Image | None:
    return image(as_image(spaces.Box(0, high, shape, np.uint8), order))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((8, 9), Image(8, 9, 1, False)), ((8, 9, 3), Image(8, 9, 3, True)), ((3, 8, 9), Image(8, 9, 3, False)),
        ((8, 8, 8), Image(8, 8, 8, True)), ((7, 7, 20), Image(7, 7, 20, True)), ((20, 7, 7), Image(7, 7, 20, False)),
        ((84, 84, 4), Image(84, 84, 4, True)), ((4, 84, 84), Image(84, 84, 4, False)),
        ((210, 160, 3), Image(210, 160, 3, True)), ((1, 8, 9), Image(8, 9, 1, False)), ((8, 9, 1), Image(8, 9, 1, True)),
    ],
)  # fmt: skip
def test_the_axis_of_channels_is_told_from_the_others(shape, wanted):
    assert pixels(*shape) == wanted


def test_an_order_that_was_typed_holds_for_any_shape():
    assert pixels(7, 7, 20, order="channels_first") == Image(7, 20, 7, False)
    assert pixels(3, 8, 9, order="channels_last") == Image(3, 8, 9, True)
    assert pixels(8, 9, order="channels_last") == Image(8, 9, 1, True)
    assert pixels(8, 9, 3, order="none") is None
    assert pixels(8, 9, high=4) == Image(8, 9, 1, False, 4.0) and pixels(8, 9, high=0) == Image(8, 9, 1, False, 1.0)


def test_a_shape_that_tells_nothing_is_refused():
    with pytest.raises(UserError, match="type observations.image=channels_last or observations.image=channels_first"):
        pixels(7, 9, 7)
    assert pixels(7, 9, 7, order="channels_first") == Image(9, 7, 7, False)


NO_IMAGES = [spaces.Box(0, 255, (8,), np.uint8), spaces.Box(0, 1, (8, 9, 3)), spaces.MultiBinary((8, 9, 3)),
             spaces.Box(0, 255, (2, 8, 9, 3), np.uint8)]  # fmt: skip


@pytest.mark.parametrize("space", NO_IMAGES, ids=describe_space)
def test_images_are_boxes_of_bytes_in_two_or_three_dimensions(space):
    assert as_image(space, "auto") is space and image(space) is None
    for order in ("channels_first", "channels_last"):
        with pytest.raises(UserError, match=f"observations.image={order} is for Boxes of uint8 in 2 or 3 dimensions"):
            as_image(space, order)


def test_images_are_stored_as_bytes_and_numbers_as_numbers():
    space = spaces.Box(0, 255, (8, 9), np.uint8)
    assert observation_dtype(as_image(space, "auto"), torch.float32) == torch.uint8
    assert observation_dtype(space, torch.float32) == torch.float32
    storage = allocate_buffer(3, 2, as_image(space, "auto"), Categorical(2), torch.float64)
    assert storage["inputs"].dtype == storage["observations"].dtype == torch.uint8
    assert storage["inputs"].shape == (4, 2, 72) and storage["rewards"].dtype == torch.float64

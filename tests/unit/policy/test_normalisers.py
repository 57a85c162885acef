import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlopt.policy.normalisers import ObservationNormaliser, RewardScaler, empty_moments, merge_moments

NORMALISER = ObservationNormaliser(enabled=True, clip=10.0)
SCALER = RewardScaler(enabled=True, clip=10.0)
BAD = [float("nan"), float("inf"), float("-inf")]


def draw(*shape: int, seed: int = 0, offset: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return offset + scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def copied(state: dict) -> dict:
    return {k: v.clone() for k, v in state.items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(-100, 100), st.floats(0.01, 100), st.integers(0, 99)
)
def test_merged_moments_are_those_of_all_data_together(sizes, offset, scale, seed):
    data = draw(sum(sizes), 3, seed=seed, offset=offset, scale=scale)
    state = empty_moments((3,))
    for chunk in data.split(sizes):
        state = merge_moments(state, chunk, "data")
    assert state["count"] == len(data)
    np.testing.assert_allclose(state["mean"], data.numpy().mean(0), rtol=1e-11, atol=1e-11 * scale)
    tolerance = 1e-13 * (offset**2 + scale**2)  # the first chunk is taken about 0
    np.testing.assert_allclose(state["variance"], data.numpy().var(0), rtol=1e-10, atol=tolerance)


def test_a_chunk_far_from_those_before_is_merged_exactly():
    chunks = [draw(50, 2), draw(7, 2, seed=1, offset=1e3), draw(100, 2, seed=2, offset=-50, scale=9)]
    state = empty_moments((2,))
    for chunk in chunks:
        state = merge_moments(state, chunk, "data")
    together = torch.cat(chunks).numpy()
    np.testing.assert_allclose(state["mean"], together.mean(0), rtol=1e-12)
    np.testing.assert_allclose(state["variance"], together.var(0), rtol=1e-12)


def test_constant_data_have_variance_0_and_never_less():
    state = empty_moments((1,))
    for _ in range(5):
        state = merge_moments(state, torch.full((33, 1), 0.1, dtype=torch.float32), "data")
    assert 0 <= state["variance"] < 1e-16
    assert NORMALISER.apply(state, torch.full((1, 1), 0.1)).isfinite().all()


def test_merging_leaves_the_old_state_as_it_was():
    before = merge_moments(empty_moments((2,)), draw(9, 2), "data")
    kept = copied(before)
    after = merge_moments(before, draw(9, 2, seed=1), "data")
    assert equal(before, kept)
    assert not equal(before, after)


@pytest.mark.parametrize("bad", BAD)
def test_data_not_finite_are_refused_by_name_and_change_nothing(bad):
    state = NORMALISER.merge(NORMALISER.init(2), draw(5, 2))
    kept, data = copied(state), draw(5, 2, seed=1)
    data[3, 1] = bad
    with pytest.raises(FloatingPointError, match="an observation is not finite"):
        NORMALISER.merge(state, data)
    assert equal(state, kept)

    rewards = draw(5, 2)
    rewards[0, 0] = bad
    state = SCALER.merge(SCALER.init(2), draw(5, 2), torch.zeros(5, 2, dtype=torch.bool), 0.9)
    kept = copied(state)
    with pytest.raises(FloatingPointError, match="a reward is not finite"):
        SCALER.merge(state, rewards, torch.zeros(5, 2, dtype=torch.bool), 0.9)
    assert equal(state, kept)


def test_infinities_of_both_signs_do_not_cancel():
    with pytest.raises(FloatingPointError):
        merge_moments(empty_moments(()), torch.tensor([1.0, np.inf, -np.inf]), "data")


def test_finite_data_whose_sum_overflows_are_taken():
    state = merge_moments(empty_moments(()), torch.full((4,), 3e38), "data")
    assert state["mean"].item() == pytest.approx(3e38, rel=1e-6)


def test_observations_are_0_until_the_first_merge():
    normaliser, new = ObservationNormaliser(True, 10.0, indicators=(1,)), NORMALISER.init(3)
    observations = draw(4, 3, offset=500, scale=100)
    observations[:, 1] = torch.tensor([0, 1, 0, 1])
    out = normaliser.apply(new, observations)
    assert out.tolist() == [[0, bit, 0] for bit in (0, 1, 0, 1)]
    assert normaliser.is_new(new) and not normaliser.is_new(normaliser.merge(new, observations))


UNITS = [1e-30, 1e-12, 1e-6, 1e6, 1e12]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_normalised_observations_do_not_depend_on_the_unit(unit, offset):
    data = draw(400, 3, offset=offset, scale=torch.tensor([1.0, 10.0, 1000.0]))
    found = []
    for one in (data, data * unit):
        state = NORMALISER.merge(NORMALISER.init(3), one)
        found.append(NORMALISER.apply(state, one))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-8)
    assert abs(found[0].std(0) - 1).max() < 0.02


def test_what_only_rounding_changes_is_normalised_to_nearly_0():
    """A constant with a float32's rounding, and a 0 with the rounding of a number of size 1,000 beside it."""
    noise = draw(400, 1)
    data = torch.cat([3 + 1e-8 * noise, 1e-13 * noise, 1000 * noise], 1)
    out = NORMALISER.apply(NORMALISER.merge(NORMALISER.init(3), data), data)
    assert (out[:, :2].abs().max() < 0.1) and abs(out[:, 2].std() - 1) < 0.01
    constant = torch.zeros(9, 2)
    assert NORMALISER.apply(NORMALISER.merge(NORMALISER.init(2), constant), constant + 1).tolist() == [[1, 1]] * 9


@pytest.mark.parametrize("unit", UNITS)
def test_scaled_rewards_do_not_depend_on_the_unit(unit):
    rewards, ends, found = draw(40, 2, offset=1.0), torch.rand(40, 2) < 0.2, []
    for one in (rewards, rewards * unit):
        found.append(SCALER.apply(SCALER.merge(SCALER.init(2), one, ends, 0.9), one))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def test_rewards_that_are_all_equal_are_clipped():
    rewards, ends = torch.full((8, 1), 0.3), torch.ones(8, 1, dtype=torch.bool)
    assert set(SCALER.apply(SCALER.merge(SCALER.init(1), rewards, ends, 0.9), rewards).flatten().tolist()) == {10}


def test_normalised_observations_have_mean_0_and_deviation_1():
    data = draw(400, 3, offset=7, scale=torch.tensor([0.1, 1.0, 50.0]))
    state = NORMALISER.merge(NORMALISER.init(3), data)
    out = NORMALISER.apply(state, data).numpy()
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(out.std(0), 1, atol=1e-9)
    expected = (data.numpy() - data.numpy().mean(0)) / data.numpy().std(0)
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-12)


def test_normalised_observations_are_clipped_on_both_sides():
    normaliser = ObservationNormaliser(enabled=True, clip=1.5)
    state = normaliser.merge(normaliser.init(1), draw(100, 1))
    out = normaliser.apply(state, torch.tensor([[-1e9], [0.0], [1e9]], dtype=torch.float64))
    assert out[[0, 2]].tolist() == [[-1.5], [1.5]]
    assert abs(out[1]) < 1


def test_observations_keep_their_dtype_moments_are_float64():
    state = NORMALISER.merge(NORMALISER.init(2), draw(9, 2).float())
    assert {v.dtype for v in state.values()} == {torch.float64}
    assert NORMALISER.apply(state, draw(3, 2).float()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hots_and_bits_stay_as_they_are_even_if_never_seen(dtype):
    normaliser = ObservationNormaliser(enabled=True, clip=10.0, indicators=(0, 2))
    numbers = draw(50, 3, offset=4, scale=3)
    numbers[:, [0, 2]] = 0
    state = normaliser.merge(normaliser.init(3), numbers)
    before = copied(state)
    assert normaliser.apply(state, torch.tensor([[1, 4, 1]], dtype=dtype))[0, [0, 2]].tolist() == [1, 1]
    plain = NORMALISER.apply(state, numbers.to(dtype))
    assert torch.equal(normaliser.apply(state, numbers.to(dtype))[:, 1], plain[:, 1])
    assert equal(state, before)


def test_switched_off_nothing_is_normalised_or_kept():
    off = ObservationNormaliser(enabled=False, clip=1.0)
    assert off.merge(off.init(2), draw(9, 2)) == off.init(2) == {}
    assert torch.equal(off.apply({}, 100 * draw(3, 2)), 100 * draw(3, 2))
    rewards, ends = draw(3, 2), torch.zeros(3, 2, dtype=torch.bool)
    scaler = RewardScaler(enabled=False, clip=1.0)
    assert scaler.merge(scaler.init(2), rewards, ends, 0.9) == scaler.init(2) == {}
    assert torch.equal(scaler.apply({}, 100 * rewards), 100 * rewards)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("cls", [ObservationNormaliser, RewardScaler])
def test_the_clip_must_be_a_finite_number_above_0(cls, clip):
    with pytest.raises(ValueError, match="clip must be a finite number above 0"):
        cls(enabled=True, clip=clip)


def test_rewards_are_divided_by_the_discounted_returns_deviation():
    gamma, envs = 0.9, 3
    state, running, seen = SCALER.init(envs), np.zeros(envs), []
    for seed in range(4):
        rewards = draw(11, envs, seed=seed, offset=2.0, scale=5.0)
        ends = torch.rand(11, envs, generator=torch.Generator().manual_seed(seed)) < 0.2
        for t in range(11):
            for e in range(envs):
                running[e] = gamma * running[e] + rewards[t, e].item()
                seen.append(running[e])
                if ends[t, e]:
                    running[e] = 0.0
        state = SCALER.merge(state, rewards, ends, gamma)
        np.testing.assert_allclose(state["returns"], gamma * running, rtol=1e-12)
        np.testing.assert_allclose(state["variance"], np.var(seen), rtol=1e-12)
        expected = np.clip(rewards.numpy() / np.std(seen), -10, 10)
        np.testing.assert_allclose(SCALER.apply(state, rewards), expected, rtol=1e-11)


def test_scaled_rewards_are_clipped_and_not_centred():
    state = SCALER.merge(SCALER.init(1), draw(50, 1, offset=3), torch.ones(50, 1, dtype=torch.bool), 0.9)
    out = SCALER.apply(state, torch.tensor([[1e9], [-1e9], [0.0]], dtype=torch.float64))
    assert out.flatten().tolist() == [10, -10, 0]


def test_the_scaler_leaves_rewards_and_old_state_unchanged():
    before = SCALER.merge(SCALER.init(2), draw(9, 2), torch.zeros(9, 2, dtype=torch.bool), 0.9)
    kept, rewards = copied(before), draw(9, 2, seed=1)
    SCALER.apply(before, rewards)
    SCALER.merge(before, rewards, torch.zeros(9, 2, dtype=torch.bool), 0.9)
    assert equal(before, kept)
    assert torch.equal(rewards, draw(9, 2, seed=1))

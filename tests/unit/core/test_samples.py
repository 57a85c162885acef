"""Samples: weighted means, and epochs of minibatches that hold every sample once."""

import pytest
import torch

from rlopt.core.samples import Samples, to_device

B = 11


def samples(weight: torch.Tensor | None = None) -> Samples:
    return Samples(
        inputs=torch.arange(2.0 * B).reshape(B, 2),
        actions=torch.arange(B),
        weight=torch.ones(B) if weight is None else weight,
        advantages=torch.arange(B) / B,
        time=torch.arange(B),
        episode=torch.zeros(B, dtype=torch.long),
    )


def test_means_are_weighted_and_masked_samples_do_not_count():
    weight = torch.tensor([0.0, 2.0, 1.0] + [0.0] * (B - 3))
    given, values = samples(weight), torch.arange(B, dtype=torch.float32)
    assert float(given.share.sum()) == pytest.approx(1) and float(given.share[0]) == 0
    assert float(given.mean(values)) == pytest.approx((2 * 1 + 1 * 2) / 3)


def test_take_keeps_the_order_asked_for_and_what_is_absent():
    taken = samples().take(torch.tensor([4, 1]))
    assert taken.actions.tolist() == [4, 1] and taken.inputs[:, 0].tolist() == [8.0, 2.0] and len(taken) == 2
    assert taken.old_outputs is None and taken.episode.tolist() == [0, 0]


@pytest.mark.parametrize(("size", "sizes"), [(4, [4, 7]), (5, [5, 6]), (10, [11]), (11, [11]), (None, [11])])
def test_an_epoch_holds_every_sample_once(size, sizes):
    parts = list(samples().minibatches(size, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == sizes
    assert sorted(int(a) for part in parts for a in part.actions) == list(range(B))
    for part in parts:
        assert torch.equal(part.inputs[:, 0], 2.0 * part.actions)


def test_only_the_whole_batch_keeps_what_is_about_episodes():
    assert all(p.time is None and p.episode is None for p in samples().minibatches(4, torch.Generator()))
    (whole,) = samples().minibatches(None, torch.Generator())
    assert whole.time is not None


def test_the_generator_alone_decides_the_order():
    def orders(seed: int) -> list[list[int]]:
        return [p.actions.tolist() for p in samples().minibatches(3, torch.Generator().manual_seed(seed))]

    assert orders(0) == orders(0) != orders(1)


def test_a_device_that_they_are_on_already_changes_nothing():
    given = samples()
    assert given.to(torch.device("cpu")) is given
    assert to_device(given.weight, torch.device("cpu")) is given.weight


def normalised(advantages: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    weight = torch.ones_like(advantages) if weight is None else weight
    return Samples(advantages, advantages, weight, advantages).with_normalised_advantages().advantages


def test_normalised_advantages_have_weighted_mean_0_deviation_1():
    generator = torch.Generator().manual_seed(1)
    advantages = 3 + 20 * torch.randn(500, generator=generator, dtype=torch.float64)
    weight = torch.rand(500, generator=generator, dtype=torch.float64)
    out, share = normalised(advantages, weight), weight / weight.sum()
    assert abs(share @ out) < 1e-14
    assert share @ out**2 == pytest.approx(1, abs=1e-12)
    assert out.mean().abs() > 1e-3  # the unweighted mean is another


def test_advantages_of_weight_0_do_not_count():
    generator = torch.Generator().manual_seed(2)
    advantages = torch.randn(50, generator=generator, dtype=torch.float64)
    weight = (torch.arange(50) % 3 > 0).to(torch.float64)
    kept = weight > 0
    spoilt = torch.where(kept, advantages, 1e6)
    expected = normalised(advantages[kept], weight[kept])
    torch.testing.assert_close(normalised(spoilt, weight)[kept], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-9, 1e-6, 1e3, 1e9])
def test_normalised_advantages_do_not_depend_on_the_unit(unit):
    advantages = torch.randn(100, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(normalised(unit * advantages), normalised(advantages), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 9, 128, 2048, 100_003])
def test_equal_advantages_become_0(count, dtype):
    for value in (0.3, -1 / 3, 2.5, 1e-20, 1e20, 0.0):
        assert not normalised(torch.full((count,), value, dtype=dtype)).any()
    weight = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=dtype) + 0.1
    assert not normalised(torch.full((count,), 0.3, dtype=dtype), weight).any()


def test_advantages_that_differ_by_their_last_bit_become_0():
    few = torch.full((2048,), 0.3)
    few[::3] = torch.nextafter(few[0], torch.tensor(1.0))
    assert not normalised(few).any()
    few[::3] = 0.3001
    assert abs(normalised(few).std() - 1) < 0.01

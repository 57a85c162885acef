"""Episodes: their returns and lengths across rollouts."""

import torch

from rlopt.rollout.buffer import Rollout
from rlopt.rollout.episodes import EpisodeTracker
from tests.support.batches import batch


def random_batches(count: int, steps: int, envs: int) -> list[Rollout]:
    generator = torch.Generator().manual_seed(5)

    def draw() -> Rollout:
        u = torch.rand(steps, envs, generator=generator)
        rewards = torch.randn(steps, envs, generator=generator)
        mask = (torch.rand(steps, envs, generator=generator) < 0.8).float()
        return batch(rewards, u < 0.15, (u > 0.1) & (u < 0.3), mask)

    return [draw() for _ in range(count)]


def test_episodes_are_summed_across_rollouts_and_reported_once():
    counter, returns, lengths = EpisodeTracker(3), [0.0] * 3, [0] * 3
    ended = 0
    for one in random_batches(4, 9, 3):
        expected = []
        for t in range(9):
            for e in range(3):
                if one.mask[t, e]:
                    returns[e] += one.rewards[t, e].item()
                    lengths[e] += 1
                if one.done[t, e]:
                    expected.append((returns[e], lengths[e]))
                    returns[e], lengths[e] = 0.0, 0
        told = counter.take(one)
        assert told.lengths == [length for _, length in expected]
        torch.testing.assert_close(
            torch.tensor(told.returns, dtype=torch.float64),
            torch.tensor([r for r, _ in expected], dtype=torch.float64),
            rtol=1e-12, atol=1e-12,
        )  # fmt: skip
        ended += len(expected)
    assert ended > 10


def test_an_episode_that_ends_with_the_rollout_is_not_carried_on():
    counter, ends = EpisodeTracker(1), torch.tensor([[False], [True]])
    one = batch(torch.ones(2, 1), ends, ~ends & False)
    assert counter.take(one).returns == [2.0]
    assert counter.take(one).returns == [2.0]

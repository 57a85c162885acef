import torch
from torch import Tensor

from rlopt.rollout.buffer import Rollout
from rlopt.rollout.episodes import EpisodeTracker

NONE = torch.zeros(0)


def batch(
    rewards: Tensor, terminated: Tensor, truncated: Tensor, mask: Tensor | None = None, **given: Tensor
) -> Rollout:
    values = {
        "inputs": NONE,
        "observations": NONE,
        "actions": NONE,
        "outputs": NONE,
        "time": torch.zeros_like(rewards),
        "episode": NONE,
        "final": NONE,
        "final_index": (NONE.long(), NONE.long()),
        "mask": torch.ones_like(rewards) if mask is None else mask,
    }
    return Rollout(rewards=rewards, terminated=terminated, truncated=truncated, **(values | given))


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


def test_next_values_are_the_following_values_unless_truncated():
    values = torch.arange(8.0).view(4, 2)
    no = torch.zeros(3, 2, dtype=torch.bool)
    place = (torch.tensor([0, 2]), torch.tensor([1, 0]))
    out = batch(torch.zeros(3, 2), no, no, final_index=place).next_values(values, torch.tensor([-1.0, -2.0]))
    assert out.tolist() == [[2, -1], [4, 5], [-2, 7]]
    assert values.tolist() == torch.arange(8.0).view(4, 2).tolist()


def test_states_weigh_their_mask_times_their_discount():
    no = torch.zeros(2, 2, dtype=torch.bool)
    mask, time = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0, 7], [1, 8]])
    one = batch(torch.zeros(2, 2), no, no, mask, time=time)
    assert one.steps == 3
    assert one.weight(None).tolist() == [1, 1, 0, 1]
    torch.testing.assert_close(one.weight(0.9), torch.tensor([1, 0.9**7, 0, 0.9**8]))

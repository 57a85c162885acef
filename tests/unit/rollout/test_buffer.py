import torch

from tests.support.batches import batch


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

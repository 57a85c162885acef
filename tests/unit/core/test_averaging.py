import pytest
import torch

from rlopt.core.averaging import Averaging


def run(averaging, thetas):
    state = averaging.init(torch.full((3,), 7.0, dtype=torch.float64))
    for theta in thetas:
        state = averaging.update(state, theta)
    return state["theta"]


@pytest.fixture
def thetas():
    return list(torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def test_uniform_is_the_mean_of_all_updates_without_the_start(thetas):
    assert torch.allclose(run(Averaging("uniform", 0.0), thetas), torch.stack(thetas).mean(0), atol=1e-14)


def test_ema_is_a_normalised_geometric_mean_from_update_one(thetas):
    weights = torch.tensor([0.8 ** (len(thetas) - 1 - k) for k in range(len(thetas))], dtype=torch.float64)
    expected = (weights[:, None] * torch.stack(thetas)).sum(0) / weights.sum()
    assert torch.allclose(run(Averaging("ema", 0.8), thetas), expected, atol=1e-14)
    assert torch.equal(run(Averaging("ema", 0.8), thetas[:1]), thetas[0])


def test_the_state_given_is_left_as_it_was(thetas):
    averaging = Averaging("ema", 0.5)
    state = averaging.update(averaging.init(thetas[0]), thetas[1])
    before = state["theta"].clone()
    averaging.update(state, thetas[2])
    assert torch.equal(state["theta"], before)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="kind must be none, uniform or ema"):
        Averaging("mean", 0.0)
    with pytest.raises(ValueError, match="decay must be 0 or above"):
        Averaging("ema", 1.0)

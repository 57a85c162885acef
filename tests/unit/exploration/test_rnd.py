"""Random network distillation against numpy: errors of two networks, scaled by intrinsic returns, and what Adam learns."""

import dataclasses

import numpy as np
import pytest
import torch

from rlopt.config.saved import read_choice
from rlopt.exploration.rnd import RND
from tests.support.oracles import seeded

YAML = {k: tuple(v) if isinstance(v, list) else v for k, v in read_choice("exploration", "rnd").items()}
USUAL = RND(**{name: value for name, value in YAML.items() if name != "_target_"})
SMALL = dataclasses.replace(USUAL, hidden=(5,), predictor=(6, 7), features=3, gamma=0.9, minibatch=8, epochs=2)
RAW = 3 + 50 * np.random.default_rng(0).normal(size=(40, 2)) * [1, 0.01]


def novelty(options=SMALL):
    return options.of(2, torch.float64, torch.device("cpu"), seeded(1))


def tensor(x):
    return torch.from_numpy(np.array(x))


def by_hand(network, theta, x, hidden):
    """A perceptron with relu, (N, D) -> (N, K)."""
    views = [view.numpy() for view in network.layout.views(theta).values()]
    for i in range(hidden + 1):
        x = x @ views[2 * i].T + views[2 * i + 1]
        x = np.maximum(x, 0) if i < hidden else x
    return x


def test_an_error_is_the_mean_square_of_what_was_not_predicted():
    made = novelty()
    state = made.see(made.init(2), tensor(RAW))
    x = ((RAW - RAW.mean(0)) / RAW.std(0)).clip(-5, 5)
    assert np.allclose(made.whitened(state, tensor(RAW)), x, atol=1e-5)
    f, t = by_hand(made.predictor, state["predictor"], x, 2), by_hand(made.target, state["target"], x, 1)
    assert np.allclose(made.errors(state, tensor(x)), ((f - t) ** 2).mean(1))
    far = made.whitened(state, tensor([[1e6, 3.0]]))
    assert far[0, 0] == 5  # clipped


def test_rewards_are_errors_over_the_deviation_of_returns():
    made, errors = novelty(), np.random.default_rng(1).random((2, 6, 3))
    state, seen, running = made.init(3), [], np.zeros(3)
    for rollout in errors:
        state, rewards = made.scaled(state, tensor(rollout))
        for row in rollout:
            running = 0.9 * running + row
            seen.append(running)
        assert np.allclose(rewards, rollout / np.std(seen), rtol=1e-5)
    assert np.allclose(state["returns"]["returns"], 0.9 * running)


def test_the_predictor_learns_by_adam_from_its_share():
    """The gradient is autograd's, the steps are torch.optim's, over two batches; the target stays."""
    made = novelty(dataclasses.replace(SMALL, share=0.5, lr=1e-2))
    state, x = made.init(1), tensor(RAW)
    theta = state["predictor"].clone().requires_grad_()
    adam = torch.optim.Adam([theta], lr=1e-2)
    mine, theirs = seeded(3), seeded(3)
    for _ in range(2):
        before, kept = state, state["predictor"].clone()
        state = made.learn(state, x, mine)
        assert torch.equal(before["predictor"], kept)  # a state is never changed
        rows = torch.randperm(40, generator=theirs)[:20]
        for _ in range(2):
            for at in torch.randperm(20, generator=theirs).split(8):
                views = list(made.predictor.layout.views(theta).values())
                z = x[rows][at]
                for i in range(3):
                    z = torch.nn.functional.linear(z, views[2 * i], views[2 * i + 1])
                    z = z.relu() if i < 2 else z
                wanted = made.target.outputs(state["target"], x[rows][at])
                adam.zero_grad()
                ((z - wanted) ** 2).mean().backward()
                adam.step()
    assert torch.allclose(state["predictor"], theta.detach(), atol=1e-10)
    assert float(state["adam"]["step"]) == 12 and torch.equal(state["target"], made.init(1)["target"])


def test_what_was_seen_is_less_new_than_what_was_not():
    made = novelty(dataclasses.replace(SMALL, lr=1e-2, share=1.0))
    state, x = made.init(1), tensor(np.random.default_rng(2).normal(size=(200, 2)))
    before, generator = made.errors(state, x).mean(), seeded(0)
    for _ in range(40):
        state = made.learn(state, x[:, :1] * torch.tensor([[1.0, 0.0]]), generator)
    old, new = (made.errors(state, x * torch.tensor(mask)).mean() for mask in ([1.0, 0.0], [0.0, 1.0]))
    assert old < 0.1 * before and new > 5 * old


@pytest.mark.parametrize(
    ("option", "value"),
    [("coefficient", -1.0), ("gamma", 1.1), ("hidden", (0,)), ("features", 0), ("clip", 0.0), ("lr", 0.0),
     ("share", 0.0), ("share", 1.1), ("activation", "sine"), ("epochs", 0)],
)  # fmt: skip
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be"):
        dataclasses.replace(USUAL, **{option: value})


def test_an_observation_that_is_not_finite_is_refused():
    made = novelty()
    with pytest.raises(FloatingPointError, match="an observation is not finite"):
        made.see(made.init(1), tensor([[1.0, np.nan]]))

"""simple_spread as tensors is mpe2's game."""

import numpy as np
import pytest
import torch

from experiments.several_agents.parts.env.spread import AGENTS, STEPS, Spread

simple_spread = pytest.importorskip("mpe2.simple_spread_v3", reason="wants the extra pettingzoo")


@pytest.mark.parametrize("scale", [1.0, 0.1], ids=["apart", "touching"])
def test_the_copy_plays_the_same_game(scale):
    game, copy = simple_spread.parallel_env(), Spread(AGENTS, torch.device("cpu"), torch.float64)
    contacts = 0
    for seed in range(4):
        game.reset(seed=seed)
        copy.reset(seed)
        world, generator = game.unwrapped.world, np.random.default_rng(seed)
        for agent in world.agents:
            agent.state.p_pos = agent.state.p_pos * scale
        copy.at = torch.tensor(np.array([[agent.state.p_pos for agent in world.agents]]))
        copy.marks = torch.tensor(np.array([[mark.state.p_pos for mark in world.landmarks]]))
        for t in range(STEPS):
            actions = generator.integers(5, size=AGENTS)
            seen, rewards, _, over, _ = game.step(dict(zip(game.agents, map(int, actions), strict=True)))
            found = copy.step(torch.tensor(actions))
            contacts += int((copy._apart()[1] < 0.3).sum()) if t < STEPS - 1 else 0
            np.testing.assert_allclose(found.last.numpy(), np.stack(list(seen.values())), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found.reward.numpy(), list(rewards.values()), rtol=1e-9, atol=1e-9)
            assert found.truncated.tolist() == list(over.values())
    game.close()
    assert scale == 1.0 or contacts > 0


def test_a_copy_goes_on_from_its_state():
    torch.manual_seed(0)
    first, other = (Spread(2 * AGENTS, torch.device("cpu"), torch.float32) for _ in range(2))
    first.reset(3)
    other.reset(3)
    for actions in torch.randint(5, (30, 2 * AGENTS)):
        first.step(actions)
    other.restore(first.state())
    for actions in torch.randint(5, (30, 2 * AGENTS)):
        for one, two in zip(first.step(actions), other.step(actions), strict=True):
            assert torch.equal(one, two)

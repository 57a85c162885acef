"""Whole games with one policy for all agents: their returns, and that a game depends on its number alone."""

import numpy as np
import pytest
import torch

from rlopt.evaluation.episodes import evaluate, make_player
from rlopt.evaluation.games import GamePlayer
from rlopt.evaluation.video import Video
from rlopt.rollout.seeding import Purpose, integer
from tests.support.games import Fading, make_trainer

pytestmark = pytest.mark.usefixtures("elsewhere")
SMALL = ("algo=ppo", "env.num_envs=4", "batch_size=120", "total_steps=480", "policy.hidden=[8]", "critic.hidden=[8]")


@pytest.fixture(scope="module")
def run():
    return make_trainer(Fading, *SMALL)


def played(run, episodes: int, deterministic: bool = True, **more):
    policy = run.agent.evaluated_policy(run.state)
    return evaluate(run.config.env, policy, run.agent.head, episodes, 5, deterministic, **more)


def test_a_return_is_the_mean_over_the_agents_of_a_game(run):
    """Against the game itself, stepped with the policy's most probable actions."""
    policy, found = run.agent.evaluated_policy(run.state), played(run, 4)
    for number in range(4):
        game, own = Fading(), integer(5, Purpose.EVALUATION_ENVIRONMENT, number)
        seed = int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(own))).integers(2**31))
        seen, _ = game.reset(seed=seed)
        total, steps = 0.0, 0
        while game.agents:
            rows = torch.from_numpy(np.stack([seen[a] for a in game.agents]))
            said = policy.outputs(policy.normalise(rows, out=torch.empty_like(rows))).argmax(1).tolist()
            seen, rewards, *_ = game.step(dict(zip(game.agents, said, strict=True)))
            total, steps = total + sum(rewards.values()), steps + 1
        assert found.returns[number] == pytest.approx(total / 3) and found.lengths[number] == steps


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_game_depends_on_its_number_alone(run, deterministic):
    whole, part = played(run, 40, deterministic), played(run, 17, deterministic)
    assert whole.returns[:17] == part.returns and whole.lengths[:17] == part.lengths
    assert len(set(whole.returns)) > 10


def test_a_game_can_be_cut_off(run, capsys):
    found = played(run, 20, max_steps=2)
    assert max(found.lengths) == 2 and 0 < found.cut < 20
    assert f"{found.cut} of 20 episodes were cut off after 2" in capsys.readouterr().err


def test_a_policy_with_memory_forgets_between_games():
    run = make_trainer(Fading, *SMALL, "policy=gru", "policy.size=4", "policy.last_gain=1.0", "schedule.minibatch=60")
    whole, part = played(run, 30), played(run, 3)
    assert whole.returns[:3] == part.returns


def test_an_agent_that_never_came_does_not_count():
    run = make_trainer(Fading, *SMALL, "env.kwargs={late: 9}")  # after all others have ended
    policy = run.agent.evaluated_policy(run.state)
    player = make_player(run.config.env, policy, run.agent.head, 1, 5, True)
    assert isinstance(player, GamePlayer)
    for _ in player.play():
        pass
    assert player._there.tolist() == [[True, True, False]]
    assert player.describe().startswith("copy 0 of the evaluation, at its first reset") and player.progress()
    player.close()


def test_a_game_can_be_filmed(run):
    video = Video(run.config.env, run.agent.evaluated_policy(run.state), run.agent.head, 5)
    frames = list(video)
    assert len(frames) == video.length + 1 and frames[0].shape == (8, 8, 3)
    assert video.total == played(run, 1).returns[0]
    assert frames[0].max() == 30 and frames[-1].max() == 0  # how many agents are left
    video.close()

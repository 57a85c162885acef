import pytest
import torch
from torch import Tensor

from rlopt.training.trainer import Trainer
from tests.support.building import trainer
from tests.support.probes import GAMMA, resolved

pytestmark = pytest.mark.usefixtures("probe_environments")

ALGOS = ["vpg", "npg", "trpo", "ppo"]
COMMON = [
    "env.num_envs=8", f"gamma={GAMMA}", "batch_size=256", "policy.hidden=[16]", "critic.hidden=[16]", "dtype=float64",
    "observations.normalise=false", "rewards.scale=false", "critic.optimizer.lr=0.01", "critic.schedule.epochs=10",
    "critic.schedule.minibatch=64", "evaluation.episodes=20", "checkpoint.every_seconds=null",
]  # fmt: skip
FASTER = {
    "vpg": ["optimizer.lr=0.05"],
    "npg": ["step.radius=0.1"],
    "trpo": ["step.radius=0.1"],
    "ppo": ["optimizer.lr=0.005", "scheduler=constant", "critic.scheduler=constant"],
}


@pytest.fixture(params=ALGOS)
def train(request: pytest.FixtureRequest, tmp_path):
    """A function that trains on a probe and returns the run and its summary."""

    def run(probe: str, updates: int) -> tuple[Trainer, dict]:
        algo = request.param
        config = resolved(f"algo={algo}", "env.id=probe/Constant-v0", *COMMON, *FASTER[algo])
        config["env"]["id"] = f"probe/{probe}-v0"
        config |= {"total_steps": 256 * updates, "run_dir": str(tmp_path / "run")}
        made = trainer(config)
        return made, made.run()

    return run


def column(*observations: float) -> Tensor:
    return torch.tensor(observations, dtype=torch.float64)[:, None]


def values(run: Trainer, *observations: float) -> list[float]:
    network = run.agent.critic.update.network
    return network.outputs(run.state["critic"]["theta"], column(*observations)).flatten().tolist()


def probabilities(run: Trainer, *observations: float) -> list[float]:
    """Of action 1."""
    network = run.agent.actor.update.network
    return network.outputs(run.state["actor"]["theta"], column(*observations)).softmax(1)[:, 1].tolist()


def test_the_critic_learns_a_constant_reward(train):
    run, summary = train("Constant", 5)
    assert values(run, 0) == pytest.approx([1], abs=0.05)
    assert summary["evaluation_return"] == summary["return_mean"] == 1


def test_the_critic_learns_what_the_observation_tells(train):
    run, _ = train("Observation", 5)
    assert values(run, -1, 1) == pytest.approx([-1, 1], abs=0.1)


def test_the_critic_discounts_what_comes_one_step_later(train):
    run, _ = train("Discounted", 8)
    assert values(run, 0, 1) == pytest.approx([GAMMA, 1], abs=0.05)


def test_a_truncated_episode_is_worth_its_last_observation(train):
    run, _ = train("Truncated", 12)
    last = 1 / (1 - GAMMA)
    assert values(run, 0, 1) == pytest.approx([-1 + GAMMA * last, last], abs=0.1)


def test_the_policy_learns_the_action_that_is_rewarded(train):
    run, summary = train("Action", 8)
    assert probabilities(run, 0)[0] > 0.9
    assert summary["evaluation_return"] == 1


def test_the_policy_learns_an_action_for_every_observation(train):
    run, summary = train("ActionObservation", 10)
    low, high = probabilities(run, -1, 1)
    assert low < 0.1 and high > 0.9
    assert summary["evaluation_return"] == 1
    assert summary["sampled_evaluation_return"] > 0.5


def test_the_gaussian_policy_learns_a_target_per_observation(train):
    """The best actions are 2 and 4 in [0, 6], that is -1/3 and 1/3 for the policy."""
    run, summary = train("Target", 30)
    network = run.agent.actor.update.network
    means = network.outputs(run.state["actor"]["theta"], column(-1, 1))[:, 0].tolist()
    assert means == pytest.approx([-1 / 3, 1 / 3], abs=0.15)
    assert summary["evaluation_return"] > -0.2

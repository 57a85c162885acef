import numpy as np
import pytest
import torch

from rlopt.core.heads import Head
from rlopt.envs.spaces import ActionTransform
from rlopt.envs.spec import EnvSpec
from rlopt.errors import EnvironmentFault
from rlopt.evaluation import episodes as module
from rlopt.evaluation.episodes import evaluate
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.seeding import Purpose, integer, sequence
from rlopt.training.trainer import Trainer
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments")
ENVS = ["env.id=probe/Seeded-v0", "env=cartpole"]


@pytest.fixture
def trained(request: pytest.FixtureRequest):
    """A run after two updates, so that policy and normaliser have moved."""

    def start(*overrides: str) -> Trainer:
        run = make_trainer("dtype=float64", "batch_size=160", "policy.last_gain=1.0", *overrides)
        request.addfinalizer(run.collector.close)
        for _ in range(2):
            batch = run.collector.collect(run.agent.policy(run.state))
            run.state, lesson = run.agent.learn(run.state, batch, run.minibatches)
            assert lesson.failure is None
        return run

    return start


def play(environment: EnvSpec, policy: FrozenPolicy, head: Head, seed: int, episode: int, mode: bool):
    """(return, length) of one episode, by itself in an environment of its own."""
    env = environment.make()
    door = ActionTransform(env.action_space, getattr(head, "squash", False))
    generator = np.random.default_rng(sequence(seed, Purpose.EVALUATION_ACTION, episode))
    observation, _ = env.reset(seed=integer(seed, Purpose.EVALUATION_ENVIRONMENT, episode))
    total, length, over = 0.0, 0, False
    while not over:
        raw = torch.as_tensor(np.asarray(observation, np.float64)).reshape(1, -1)
        z = policy.outputs(policy.normalise(raw, torch.empty_like(raw)))
        draw = generator.standard_normal if head.noise == "normal" else generator.random
        action = head.mode(z) if mode else head.sample(z, torch.as_tensor(draw((1, head.noise_size))))
        observation, reward, terminated, truncated, _ = env.step(door(action)[0])
        total, length, over = total + float(reward), length + 1, terminated or truncated
    env.close()
    return total, length


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("mode", [True, False])
def test_every_episode_counts_once_with_seeds_of_its_own(trained, env, mode):
    run = trained(env)
    environment, head, policy = run.config.env, run.agent.head, run.agent.policy(run.state)
    result = evaluate(environment, policy, head, 21, seed=3, deterministic=mode)
    expected = [play(environment, policy, head, 3, i, mode) for i in range(21)]
    assert result.lengths == [length for _, length in expected]
    assert result.returns == [total for total, _ in expected]
    assert len(set(result.returns)) > 2
    assert result.mean == pytest.approx(np.mean(result.returns))
    assert result.std == pytest.approx(np.std(result.returns))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("env", ENVS)
def test_how_many_play_side_by_side_changes_nothing(trained, monkeypatch, env, mode):
    run, results = trained(env), []
    for side_by_side in (1, 3, 16, 64):
        monkeypatch.setattr(module, "_SIDE_BY_SIDE", side_by_side)
        results.append(evaluate(run.config.env, run.agent.policy(run.state), run.agent.head, 20, 0, mode))
    assert all(result == results[0] for result in results)


def test_more_episodes_begin_with_the_same_ones(trained):
    run = trained(ENVS[0])
    few, many = (evaluate(run.config.env, run.agent.policy(run.state), run.agent.head, n, 0, False) for n in (5, 40))
    assert many.returns[:5] == few.returns


def test_the_mode_and_the_samples_are_different_policies(trained):
    run = trained(ENVS[0])
    mode, again, sampled = (
        evaluate(run.config.env, run.agent.policy(run.state), run.agent.head, 20, 0, mode)
        for mode in (True, True, False)
    )
    assert mode == again
    assert mode.lengths == sampled.lengths  # the environment's alone
    assert mode.returns != sampled.returns


def test_another_seed_gives_other_episodes(trained):
    run = trained(ENVS[0])
    a, b = (evaluate(run.config.env, run.agent.policy(run.state), run.agent.head, 20, s, True) for s in (0, 1))
    assert a != b


def test_evaluation_seeds_are_none_of_training(trained):
    training = {integer(0, Purpose.ENVIRONMENT, e) for e in range(1000)}
    assert training.isdisjoint(integer(0, Purpose.EVALUATION_ENVIRONMENT, e) for e in range(1000))


def test_evaluation_changes_neither_normaliser_nor_policy(trained):
    run = trained(ENVS[0])
    state = run.state["observations"]
    kept, theta = {k: v.clone() for k, v in state.items()}, run.state["actor"]["theta"].clone()
    assert state["count"] == 320
    normalised = evaluate(run.config.env, run.agent.policy(run.state), run.agent.head, 20, 0, True)
    assert all(torch.equal(run.state["observations"][k], kept[k]) for k in kept)
    assert torch.equal(run.state["actor"]["theta"], theta)

    raw = {**run.state, "observations": run.agent.observations.init(3)}
    assert evaluate(run.config.env, run.agent.policy(raw), run.agent.head, 20, 0, True) != normalised


def test_environments_are_closed_even_when_one_fails(trained, monkeypatch):
    run, closed = trained(ENVS[0]), []
    make = EnvSpec.make

    def breaking(self: EnvSpec):
        env = make(self)
        env.step = lambda action: 1 / 0
        env.close = lambda: closed.append(env)
        return env

    monkeypatch.setattr(EnvSpec, "make", breaking)
    with pytest.raises(EnvironmentFault, match="raised ZeroDivisionError: division by zero"):
        evaluate(run.config.env, run.agent.policy(run.state), run.agent.head, 5, 0, True)
    assert len(closed) == 5


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_an_episode_is_cut_off_where_it_is_asked_for(trained, limit, capsys):
    """The others count whole, with the seeds that they have in any case."""
    run = trained(ENVS[0])
    given = run.config.env, run.agent.policy(run.state), run.agent.head, 40, 0, True
    whole, cut = evaluate(*given), evaluate(*given, max_steps=limit)
    assert cut.lengths == [min(length, limit) for length in whole.lengths]
    kept = [i for i, length in enumerate(whole.lengths) if length <= limit]
    assert [cut.returns[i] for i in kept] == [whole.returns[i] for i in kept]
    longer = sum(length > limit for length in whole.lengths)
    assert cut.cut == longer > 0 == whole.cut
    assert f"{longer} of 40 episodes were cut off after {limit} transitions" in capsys.readouterr().err


def test_a_time_limit_of_its_own_is_not_cut(trained, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 5)
    run = trained(ENVS[1])
    found = evaluate(run.config.env, run.agent.policy(run.state), run.agent.head, 5, 0, True)
    assert min(found.lengths) > 5 and found.cut == 0

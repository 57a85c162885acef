import copy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlopt.policy.normalisers import ObservationNormaliser
from rlopt.rollout.buffer import Rollout
from rlopt.training.trainer import Trainer
from tests.support.batches import FIELDS, same
from tests.support.probes import Counter

pytestmark = pytest.mark.usefixtures("probe_environments")


@pytest.fixture
def started(started):
    return partial(started, "dtype=float64")


def copied(batch: Rollout) -> Rollout:
    """The batch apart from the collector's buffers."""
    return copy.deepcopy(batch)


def collect(run: Trainer) -> Rollout:
    return copied(run.collector.collect(run.agent.policy(run.state)))


def learn(run: Trainer) -> None:
    batch = run.collector.collect(run.agent.policy(run.state))
    run.state, lesson = run.agent.learn(run.state, batch, run.minibatches)
    assert lesson.failure is None


def expected_course(steps: int, env: int, envs: int) -> list[tuple[int, int, bool, bool, int]]:
    """(episode of this environment, t, terminated, truncated, identifier) of each step of a Counter."""
    course, episode, t = [], 0, 0
    for _ in range(steps):
        over = t + 1 == Counter.length(episode)
        cut = Counter.truncates(episode)
        course.append((episode, t, over and not cut, over and cut, env + episode * envs))
        episode, t = (episode + 1, 0) if over else (episode, t + 1)
    return course


def test_time_and_ends_follow_every_environment_over_rollouts(started):
    run = started("env.id=probe/Counter-v0", "env.num_envs=3", "batch_size=21", "observations.normalise=false")
    rollouts = [collect(run) for _ in range(4)]
    for e in range(3):
        course = expected_course(28, e, 3)
        told = [
            (int(b.observations[t, e, 0]), int(b.observations[t, e, 1]), bool(b.terminated[t, e]),
             bool(b.truncated[t, e]), int(b.episode[t, e]))
            for b in rollouts for t in range(7)
        ]  # fmt: skip
        assert told == course
        assert [int(b.time[t, e]) for b in rollouts for t in range(7)] == [t for _, t, *_ in course]
        assert [float(b.rewards[t, e]) for b in rollouts for t in range(7)] == [t for _, t, *_ in course]
    assert all(b.steps == 21 for b in rollouts)


@pytest.mark.parametrize("reuses", [False, True])
def test_final_observations_are_those_of_the_truncated_episodes(started, reuses):
    run = started("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", "observations.normalise=false",
                  f"env.kwargs.reuses={reuses}")  # fmt: skip
    batch = collect(run)
    places = list(zip(*(x.tolist() for x in batch.final_index), strict=True))
    assert sorted(places) == sorted(map(tuple, batch.truncated.nonzero().tolist()))
    assert len(places) >= 4
    for (t, e), final in zip(places, batch.final.tolist(), strict=True):
        episode = batch.observations[t, e, 0].item()
        assert final == [episode, Counter.length(int(episode))]
        assert batch.inputs[t + 1, e].tolist() == [episode + 1, 0]

    number = 100 * batch.inputs[..., 0] + batch.inputs[..., 1]  # a value that tells the observation
    following = batch.next_values(number, 100 * batch.final[:, 0] + batch.final[:, 1])
    led_to = 100 * batch.observations[..., 0] + batch.time + 1
    bootstrapped = ~batch.terminated
    assert torch.equal(following[bootstrapped], led_to[bootstrapped].to(following.dtype))


def test_final_observations_are_normalised_like_all_others(started):
    run = started("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", "observations.clip=1.2")
    learn(run)
    normaliser, state = run.agent.observations, run.state["observations"]
    batch = collect(run)
    places = batch.final_index
    episode = batch.observations[(*places, torch.zeros_like(places[0]))]
    raw = torch.stack([episode, 3 + episode % 3], 1)
    assert torch.equal(batch.final, normaliser.apply(state, raw))
    assert torch.equal(batch.inputs[:-1], normaliser.apply(state, batch.observations))
    assert batch.inputs.abs().max() == 1.2
    assert not torch.equal(batch.inputs[:-1], batch.observations)


def test_the_next_rollout_starts_where_the_last_one_ended(started):
    run = started("env=pendulum", "env.num_envs=2", "batch_size=10", "observations.normalise=false")
    first, second = collect(run), collect(run)
    assert torch.equal(first.inputs[-1], second.inputs[0])
    assert torch.equal(second.inputs[0], second.observations[0])


def test_pendulum_gets_actions_times_2_and_the_batch_those_drawn(started, monkeypatch):
    run = started("env=pendulum", "env.num_envs=4", "batch_size=80", "policy.initial_sigma=0.8")
    received, step = [], run.collector.envs.step
    monkeypatch.setattr(run.collector.envs, "step", lambda a: (received.append(a.copy()), step(a))[1])
    drawn = collect(run).actions.numpy()
    assert (np.abs(drawn) > 1).any() and (np.abs(drawn) < 1).any()
    assert np.array_equal(np.stack(received), np.clip(2 * drawn, -2, 2).astype(np.float32))


@pytest.mark.parametrize(
    "overrides",
    [
        ("env=cartpole", "algo=ppo", "optimizer.lr=3e-3"),
        ("env=pendulum", "algo=trpo", "step.radius=0.05"),
        ("env=pendulum", "algo=trpo", "policy.scale=sigma", "policy.squash=true"),
        ("env=pendulum", "algo=trpo", "policy.activation=silu"),
    ],
    ids=" ".join,
)
def test_stored_outputs_recompute_to_kl_0_in_every_update(started, overrides):
    run = started("batch_size=160", *overrides)
    start = run.state["actor"]["theta"].clone()
    network, head = run.agent.actor.update.network, run.agent.head
    for update in range(4):
        normaliser_state = run.state["observations"]
        batch = collect(run)
        samples = batch.actor_samples(head, torch.zeros(160), batch.weight(None))
        outputs = network.tape(run.state["actor"]["theta"], samples.inputs).outputs
        assert samples.old_outputs.shape == outputs.shape
        assert head.kl(samples.old_outputs, outputs).max() <= 1e-12
        again = head.log_prob(outputs, samples.actions)
        torch.testing.assert_close(again, samples.old_log_prob, rtol=1e-12, atol=1e-12)
        if update:  # all of this means something only once policy and normaliser have moved
            assert not torch.equal(run.state["actor"]["theta"], start)
            assert not torch.equal(batch.inputs[:-1], batch.observations)
        run.state, _ = run.agent.learn(run.state, batch, run.minibatches)
        assert run.state["observations"] is not normaliser_state
        assert not torch.equal(run.state["observations"]["mean"], normaliser_state["mean"])


def test_the_actor_learns_from_the_inputs_it_acted_on(started, monkeypatch):
    run, merged = started("env=pendulum", "batch_size=80"), []
    learn(run)
    batch = collect(run)
    merge = ObservationNormaliser.merge
    monkeypatch.setattr(ObservationNormaliser, "merge", lambda *a: (merged.append("merge"), merge(*a))[1])
    seen, train = [], run.agent.actor.run

    def spy(theta, state, samples, *rest):
        seen.append(samples.inputs.clone())
        return train(theta, state, samples, *rest)

    monkeypatch.setattr(run.agent.actor, "run", spy)
    run.agent.learn(run.state, batch, run.minibatches)
    assert torch.equal(seen[0], batch.inputs[:-1].flatten(0, 1))
    assert merged == ["merge"]


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_the_same_seed_gives_the_same_batches_bit_for_bit(started, env):
    runs = [started(f"env={env}", "batch_size=400", "seed=7") for _ in range(2)]
    for _ in range(3):
        a, b = (collect(run) for run in runs)
        assert [name for name in FIELDS if not same(a, b, name)] == []
        for run in runs:
            learn(run)


def test_another_seed_gives_another_batch(started):
    a, b = (collect(started("env=pendulum", "batch_size=400", f"seed={seed}")) for seed in (7, 8))
    assert not torch.equal(a.observations, b.observations)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("env", ["cartpole", "pendulum", "halfcheetah", "any"])
def test_what_an_environment_sees_ignores_how_many_there_are(started, env, dtype):
    if env == "halfcheetah":
        pytest.importorskip("mujoco")
    batches, id_ = {}, ["env.id=probe/Seeded-v0"] if env == "any" else []
    for count in (1, 3, 8, 24):
        run = started(f"env={env}", *id_, f"env.num_envs={count}", f"batch_size={40 * count}", f"dtype={dtype}")
        batches[count] = [collect(run) for _ in range(2)]
    for count, rollouts in batches.items():
        for few, many in zip(rollouts, batches[24], strict=True):
            for name in ("observations", "inputs", "outputs", "actions", "rewards", "terminated", "truncated", "time"):
                assert torch.equal(getattr(few, name), getattr(many, name)[:, :count]), f"{name} of {count}"


def test_environments_have_seeds_and_noise_of_their_own(started):
    batch = collect(started("env=pendulum", "env.num_envs=24", "batch_size=240"))
    starts = {tuple(row) for row in batch.observations[0].tolist()}
    noise = (batch.actions - batch.outputs[..., :1])[0].flatten().tolist()
    assert len(starts) == len(set(noise)) == 24


def test_the_batch_has_no_next_step_resets_of_gymnasium(started):
    envs = started("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=20").collector.envs
    assert envs.metadata["autoreset_mode"] is gym.vector.AutoresetMode.SAME_STEP

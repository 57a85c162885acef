import copy
import dataclasses
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlopt.errors import UserError
from rlopt.rollout.advantages import gae
from rlopt.rollout.buffer import Rollout
from rlopt.rollout.collector import Collector
from rlopt.rollout.episodes import EpisodeTracker
from rlopt.training.trainer import Trainer
from tests.support.probes import Counter, make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments")


@pytest.fixture
def started(started):
    return partial(started, "dtype=float64")


@pytest.fixture
def resets_later(started):
    """The same, with Gymnasium's environments that reset on the next step."""

    def start(*overrides: str) -> Trainer:
        run = started(*overrides)
        run.collector.close()
        makers = [run.config.env.make] * run.config.env.num_envs
        envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
        run.collector = Collector(envs, run.agent.head, 40, 0, torch.float64)
        return run

    return start


def collect(run: Trainer) -> Rollout:
    return copy.deepcopy(run.collector.collect(run.agent.policy(run.state)))


# environments that reset on the next step


def test_rows_of_a_mere_reset_are_masked_and_not_counted(resets_later):
    run = resets_later("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=80", "observations.normalise=false")
    counter, ended, happened = EpisodeTracker(2), [], 0
    for _ in range(3):
        batch = collect(run)
        happened += batch.steps
        ended += list(zip(*dataclasses.astuple(counter.take(batch))[:2], strict=True))
        for e in range(2):
            for t in range(40):
                episode, step = batch.observations[t, e].int().tolist()
                over = step == Counter.length(episode)  # the last observation, from which there is only a reset
                assert batch.mask[t, e] == (not over)
                assert batch.time[t, e] == (0 if over else step)
                assert batch.episode[t, e] == e + 2 * (episode + over)
                assert not over or (batch.rewards[t, e] == 0 and not batch.done[t, e])
        assert batch.steps < 80
    assert len(ended) > 40
    lengths = [Counter.length(i // 2) for i in range(len(ended))]  # two environments, step by step alike
    assert ended == [(length * (length - 1) / 2, length) for length in lengths]


def test_advantages_bootstrap_from_the_true_last_observation(resets_later):
    run = resets_later("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=80", "observations.normalise=false")
    batch = collect(run)
    assert len(batch.final) == 0
    value = torch.sin(100 * batch.inputs[..., 0] + batch.inputs[..., 1])
    next_values = batch.next_values(value, torch.zeros(0, dtype=torch.float64))
    found, targets = gae(batch.rewards, value[:-1], next_values, batch.terminated, batch.done, 0.9, 0.8)
    checked = 0
    for e in range(2):
        for t in range(40):
            if batch.mask[t, e]:
                episode, step = batch.observations[t, e].int().tolist()
                expected, weight = 0.0, 1.0
                for s in range(step, Counter.length(episode)):
                    if t + s - step == 40:
                        break
                    last = s + 1 == Counter.length(episode)
                    following = 0.0 if last and not Counter.truncates(episode) else np.sin(100 * episode + s + 1)
                    expected += weight * (s + 0.9 * following - np.sin(100 * episode + s))
                    weight *= 0.9 * 0.8
                assert found[t, e].item() == pytest.approx(expected, abs=1e-12)
                assert targets[t, e].item() == pytest.approx(expected + value[t, e].item(), abs=1e-12)
                checked += 1
    assert checked == batch.steps


def test_masked_rows_teach_nobody_anything(resets_later):
    run = resets_later("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=80", "step.radius=0.1")
    run.state, _ = run.agent.learn(run.state, collect(run), torch.Generator().manual_seed(0))
    count, mean = run.state["observations"]["count"], run.state["observations"]["mean"]
    batch = collect(run)
    idle = batch.mask == 0
    spoilt = dataclasses.replace(batch, **{k: getattr(batch, k).clone() for k in ("observations", "inputs", "rewards")})
    spoilt.observations[idle] += 7
    spoilt.rewards[idle] += 3
    states = []
    for taught in (batch, spoilt):
        state, lesson = run.agent.learn(copy.deepcopy(run.state), taught, torch.Generator().manual_seed(0))
        assert lesson.failure is None
        states.append(state)
    clean, other = states
    assert torch.equal(clean["actor"]["theta"], other["actor"]["theta"])
    assert torch.equal(clean["critic"]["theta"], other["critic"]["theta"])
    assert not torch.equal(clean["actor"]["theta"], run.state["actor"]["theta"])
    for name in ("count", "mean", "variance"):
        assert torch.equal(clean["observations"][name], other["observations"][name])
    assert clean["observations"]["count"] == clean["rewards"]["count"] == count + batch.steps
    total = mean * count + batch.observations[~idle].sum(0)
    torch.testing.assert_close(clean["observations"]["mean"], total / (count + batch.steps))


def test_a_run_counts_the_steps_that_happened(resets_later, tmp_path):
    run = resets_later("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=80", "total_steps=200",
                       "evaluation.episodes=0", f"run_dir={tmp_path}")  # fmt: skip
    summary = run.run()
    assert 200 <= summary["steps"] < 280 and summary["steps"] % 80
    assert run.updates == 4


# EnvPool


@pytest.fixture
def envpool():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("envpool")


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_envpool_masks_rows_after_an_end_and_uses_global_numbers(envpool, started, env):
    few, many = (
        started(f"env={env}", "env.backend=envpool", f"env.num_envs={n}", f"batch_size={250 * n}") for n in (3, 8)
    )
    ends = 0
    for _ in range(2):
        a, b = collect(few), collect(many)
        for name in ("observations", "actions", "rewards", "terminated", "truncated", "time", "mask"):
            assert torch.equal(getattr(a, name), getattr(b, name)[:, :3]), name
        assert torch.equal(b.mask[1:] == 0, b.done[:-1])
        assert torch.equal(
            b.time[1:][b.mask[1:] == 1], (b.time[:-1] + 1)[b.mask[1:] == 1] * (b.mask[:-1] == 1)[b.mask[1:] == 1]
        )
        ends += int(b.done.sum())
    assert ends > 5
    assert (b.truncated.any() and not b.terminated.any()) == (env == "pendulum")


def test_envpool_trains(envpool, tmp_path):
    run = make_trainer("env=cartpole", "env.backend=envpool", "algo=ppo", "batch_size=400", "total_steps=1000",
                       "evaluation.episodes=2", f"run_dir={tmp_path}")  # fmt: skip
    summary = run.run()
    assert 1000 <= summary["steps"] < 1400 and summary["return_mean"] > 5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("env.id=probe/Counter-v0",), "EnvPool has no env.id=probe/Counter-v0; choose env.backend=sync"),
        (("env=pendulum", "env.kwargs.g=9.0"), "EnvPool cannot make env.id=Pendulum-v1"),
    ],
)
def test_what_envpool_lacks_is_told(envpool, overrides, said):
    with pytest.raises(UserError, match=said):
        make_trainer(*overrides, "env.backend=envpool")


def test_envpool_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError, match=r"env.backend=envpool needs .* pip install 'rlopt-geometry\[envpool\]'"):
        make_trainer("env=cartpole", "env.backend=envpool")


def test_the_loop_is_gymnasium_s_own_for_one_who_looks_at_it(started):
    """Spaces, metadata, seeds given as one number, calls to the environments, sampled actions."""
    own = started("env=pendulum", "env.num_envs=3", "batch_size=30").collector.envs
    theirs = SyncVectorEnv([started("env=pendulum").config.env.make] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    assert own.observation_space == theirs.observation_space and own.action_space == theirs.action_space
    assert own.metadata == theirs.metadata
    actions = own.action_space.sample()
    assert np.array_equal(own.reset(seed=5)[0], theirs.reset(seed=5)[0])
    for _ in range(205):
        (o, r, t, c, i), (o2, r2, t2, c2, i2) = own.step(actions), theirs.step(actions)
        assert all(map(np.array_equal, (o, r, t, c), (o2, r2, t2, c2)))
        assert ("final_obs" in i) == ("final_obs" in i2)
        if "final_obs" in i:
            assert np.array_equal(np.stack(i["final_obs"]), np.stack(i2["final_obs"]))
    assert own.get_attr("max_speed") == theirs.get_attr("max_speed")
    theirs.close()

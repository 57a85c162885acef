"""A rollout that never leaves the device."""

import copy

import numpy as np
import pytest
import torch

from rlopt.core.heads import GSDE, Categorical, DiagonalGaussian
from rlopt.envs.spec import EnvSpec
from rlopt.envs.tensor.adapter import VectorEnvTensors
from rlopt.envs.tensor.task import TaskEnvs
from rlopt.errors import EnvironmentFault
from rlopt.rollout.buffer import Rollout
from rlopt.rollout.tensors import TensorCollector
from tests.support.probes import make_trainer
from tests.support.tensors import CPU, Course, Drift, NoWaiting, Seen, Simulator, course, policy_for

TASKS = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCarContinuous-v0", "rlopt/LQR-v0"]
FIELDS = [name for name in Rollout.__dataclass_fields__ if name not in ("final_index", "first", "total", "memory")]
FLOAT = torch.float64


def collector(envs, head=None, steps=6, seed=5, **options):
    head, policy = policy_for(int(np.prod(envs.observation_space.shape)), head, envs.device)
    return TensorCollector(envs, head, steps, seed, FLOAT, **options), policy


def drift(count, steps=6, first=0, total=None, head=None, **options):
    envs = Drift.envs(count, CPU, FLOAT, max_episode_steps=4, **options)
    return collector(envs, head or DiagonalGaussian(1), steps, first=first, total=total)


def collected(made, times=1):
    collect, policy = made
    return [copy.deepcopy(collect.collect(policy)) for _ in range(times)]


def test_time_episodes_and_ends_follow_every_environment():
    rollouts = collected(collector(course(30), total=50), 4)
    rows = {name: torch.cat([getattr(r, name) for r in rollouts]) for name in ("time", "episode", "done")}
    time, episode = torch.zeros(30), torch.arange(30)
    for t in range(24):
        assert torch.equal(rows["time"][t], time.long()) and torch.equal(rows["episode"][t], episode)
        time, episode = (time + 1) * ~rows["done"][t], episode + 50 * rows["done"][t]
    observations = torch.cat([r.observations for r in rollouts])
    assert torch.equal(observations[..., 0], rows["time"].double())
    assert torch.equal(torch.cat([r.rewards for r in rollouts]), observations[..., 0])


def test_final_observations_are_those_of_truncated_episodes():
    (rollout,) = collected(collector(course(40), steps=12))
    t, e = rollout.final_index
    assert len(t) > 20 and torch.equal(torch.stack([t, e]), torch.stack(sorted_pairs(t, e)))
    cut = torch.zeros_like(rollout.truncated)
    cut[t, e] = True
    assert torch.equal(cut, rollout.truncated & ~rollout.terminated)
    assert torch.equal(rollout.raw_final, rollout.observations[t, e] + torch.tensor([1.0, 0.0]))


def sorted_pairs(t, e):
    order = np.lexsort((e.numpy(), t.numpy()))
    return [t[order], e[order]]


def test_the_next_rollout_starts_where_the_last_one_ended():
    first, second = collected(drift(5), 2)
    assert torch.equal(first.inputs[-1], second.inputs[0])
    assert torch.equal(first.following[0], second.observations[0])
    assert not torch.equal(first.actions, second.actions)


def test_stored_outputs_and_actions_are_the_policys():
    made = drift(7)
    (rollout,) = collected(made)
    policy = made[1]
    inputs = policy.normalise(rollout.observations, out=torch.empty_like(rollout.observations))
    assert torch.equal(inputs, rollout.inputs[:-1])
    torch.testing.assert_close(policy.outputs(inputs.flatten(0, 1)), rollout.outputs.flatten(0, 1))
    noise = (rollout.actions - rollout.outputs[..., :1]) / rollout.outputs[..., 1:].exp()
    assert noise.unique().numel() == 42 and abs(noise.mean()) < 0.7


@pytest.mark.parametrize("id", TASKS)
def test_no_step_waits_for_the_device(id):
    envs = EnvSpec("a task", id, 8, "tensor", None, {}).make_tensors(CPU, FLOAT)
    discrete = {"CartPole-v1": 2, "Acrobot-v1": 3}
    head = Categorical(discrete[id]) if id in discrete else DiagonalGaussian(1)
    collect, policy = collector(envs, head, steps=20)
    collect._begin(1)
    with NoWaiting() as counted:
        collect._step(policy)
    assert counted.count > 20 * 20


@pytest.mark.parametrize("id", TASKS)
def test_every_step_is_on_the_device(id):
    """Tensors of the meta device have no numbers, and none can be mixed with one of the host."""
    meta = torch.device("meta")
    envs = EnvSpec("a task", id, 8, "tensor", None, {}).make_tensors(meta, FLOAT)
    discrete = {"CartPole-v1": 2, "Acrobot-v1": 3}
    head = Categorical(discrete[id]) if id in discrete else DiagonalGaussian(1)
    collect, policy = collector(envs, head, steps=20)
    collect._begin(1)
    collect._step(policy)
    assert all(x.is_meta for x in collect._buffer.values()) and collect._observation.is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("id", TASKS)
def test_no_step_waits_for_a_gpu(id):
    envs = EnvSpec("a task", id, 8, "tensor", None, {}).make_tensors(torch.device("cuda"), FLOAT)
    discrete = {"CartPole-v1": 2, "Acrobot-v1": 3}
    head = Categorical(discrete[id]) if id in discrete else DiagonalGaussian(1)
    collect, policy = collector(envs, head, steps=20)
    collect._begin(1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        collect._step(policy)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert collect._observation.is_cuda and bool(collect._observation.isfinite().all())


def test_a_step_that_waits_is_found():
    class Waits(Drift):
        def step(self, state, actions, noise):
            if bool((state > 9).any()):
                state = state * 0
            return super().step(state, actions, noise)

    collect, policy = collector(Waits.envs(3, CPU, FLOAT), DiagonalGaussian(1))
    collect._begin(1)
    with pytest.raises(EnvironmentFault, match="_local_scalar_dense waits"), NoWaiting():
        collect._step(policy)


@pytest.mark.parametrize("head", [None, GSDE(1, 3, 4, 0.5), GSDE(1, 3, None, 0.5)])
def test_parts_of_the_environments_give_parts_of_the_rollout(head):
    (whole,) = collected(drift(12, head=head))
    parts = [collected(drift(4, first=first, total=12, head=head))[0] for first in (0, 4, 8)]
    for name in ("observations", "actions", "rewards", "truncated", "terminated", "time", "episode", "outputs"):
        joined = torch.cat([getattr(part, name) for part in parts], 1)
        torch.testing.assert_close(joined, getattr(whole, name), rtol=1e-12, atol=1e-12)


def test_a_held_draw_lasts_as_long_as_the_head_says():
    made = drift(5, head=GSDE(1, 3, 4, 0.5), steps=10)
    noise = made[0]._draw_noise()
    assert noise.shape == (10, 5, 4)
    assert all(torch.equal(noise[t], noise[t - t % 4]) for t in range(10)) and not (noise[0] == noise[4]).any()


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.float16])
def test_observations_stay_in_their_type(kind):
    task = Drift(kind)
    envs = Seen(task, 5, CPU, FLOAT, 4, task.observation_space, task.action_space)
    (rollout,) = collected(collector(envs, DiagonalGaussian(1)))
    dtype = getattr(torch, np.dtype(kind).name)
    assert (rollout.observations.dtype, rollout.following.dtype, rollout.raw_final.dtype) == (dtype,) * 3
    assert (rollout.inputs.dtype, rollout.final.dtype) == (FLOAT, FLOAT) and rollout.observations.any()


@pytest.mark.parametrize("ranks", [[(0, 6)], [(0, 3), (3, 6)]])
def test_a_restored_collector_goes_on_to_the_bit(ranks):
    """From the entries of one rank and of two, in float32 as the checkpoint's file has them."""
    returns, lengths = torch.arange(6.0), torch.arange(6)
    entries, expected = [], []
    for start, stop in ranks:
        made = drift(stop - start, first=start, total=6)
        collected(made, 3)
        entries += made[0].boundary.entries(returns[start:stop], lengths[start:stop])
        expected += collected(made)
    again = drift(6)
    begun, sums, steps = again[0].restore([*entries], 9)
    assert begun == [] and torch.equal(sums, returns) and torch.equal(steps, lengths)
    (found,) = collected(again)
    for name in ("observations", "actions", "rewards", "time", "episode", "truncated"):
        whole = torch.cat([getattr(r, name) for r in expected], 1)
        if len(ranks) == 1:
            assert torch.equal(getattr(found, name), whole), name
        else:
            torch.testing.assert_close(getattr(found, name), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lost", ["an entry", "the state", "another rank's", "the methods"])
def test_what_cannot_be_restored_begins_anew(lost):
    made = drift(3, total=6)
    collected(made, 2)
    entries = made[0].boundary.entries(torch.ones(3), torch.ones(3))
    again = drift(3, total=6)
    if lost == "an entry":
        entries = [None, *entries]
        again = drift(3, first=3, total=6)
    elif lost == "the state":
        entries[0]["saved"] = None
    elif lost == "the methods":
        again = collector(VectorEnvTensors(Simulator(num_envs=3), CPU), DiagonalGaussian(1), total=3)
    else:  # those of another rank, whose environments begin anew
        assert drift(3, first=0, total=6)[0].restore(entries, 9)[0] == [0, 1, 2]
        assert drift(3, first=3, total=6)[0].restore(entries, 9)[0] == [3, 4, 5]
    begun, returns, lengths = again[0].restore(entries, 9)
    assert len(begun) == 3 and not returns.any() and not lengths.any()
    assert again[0].counter.step == 12
    collected(again)


@pytest.mark.parametrize(("wrong", "said"), [
    ("reward", r"reward of \(3, 1\) on cpu where a tensor \(3,\) on cpu is wanted"),
    ("last", r"last of \(3, 2\) on cpu where a tensor \(3, 1\)"),
    ("tuple", "tuple from step where a Stepped is wanted"),
])  # fmt: skip
def test_a_wrong_step_names_what_was_wanted(monkeypatch, wrong, said):
    step = TaskEnvs.step

    def spoiled(self, actions):
        found = step(self, actions)
        if wrong == "tuple":
            return found[:4]
        return found._replace(**{wrong: found.reward[:, None].expand(3, 1 + (wrong == "last"))})

    monkeypatch.setattr(TaskEnvs, "step", spoiled)
    with pytest.raises(EnvironmentFault, match=f"the environment, at its step 1, gave {said}"):
        collected(drift(3))


@pytest.mark.parametrize(("wrong", "said"), [
    ({"last": torch.zeros(3, 2)}, "raised RuntimeError: shape"),
    ({"reward": torch.zeros(2)}, "raised RuntimeError: "),
    ({"observation": None}, "raised AttributeError: "),
])  # fmt: skip
def test_a_step_that_is_wrong_later_is_the_environments_fault(monkeypatch, wrong, said):
    step, calls = TaskEnvs.step, []

    def spoiled(self, actions):
        calls.append(0)
        found = step(self, actions)
        return found._replace(**wrong) if len(calls) == 3 else found

    monkeypatch.setattr(TaskEnvs, "step", spoiled)
    with pytest.raises(EnvironmentFault, match=f"the environment, at its step 3, {said}"):
        collected(drift(3))


@pytest.mark.parametrize("options", [
    ("env=cartpole", "algo=trpo"), ("env=pendulum", "algo=acktr"), ("env=acrobot", "algo=ppo", "critic=shared"),
    ("env=mountain_car_continuous", "algo=a2c"), ("env=lqr", "algo=nac"), ("env=cartpole", "algo=npg"),
    ("env=pendulum", "algo=ppo", "reuse.batches=3"),
])  # fmt: skip
def test_presets_learn_from_tensors(tmp_path, options):
    run = make_trainer(
        *options, "env.backend=tensor", "env.num_envs=16", "batch_size=320", "policy.hidden=[8]", "dtype=float64",
        *([] if "algo=nac" in options or "critic=shared" in options else ["critic.hidden=[8]"]), f"run_dir={tmp_path}",
    )  # fmt: skip
    network, head, start = run.agent.actor.update.network, run.agent.head, run.state["actor"]["theta"].clone()
    for update in range(3):
        batch = copy.deepcopy(run.collector.collect(run.agent.policy(run.state)))
        if update and "critic=shared" not in options:  # the first policy saw zeros, as on the host
            samples = batch.actor_samples(head, torch.zeros(320), batch.weight(None))
            outputs = network.outputs(run.state["actor"]["theta"], samples.inputs)
            assert head.kl(samples.old_outputs, outputs).max() <= 1e-12
        run.state, result = run.agent.learn(run.state, batch, run.minibatches)
        assert result.failure is None
    assert not torch.equal(start, run.state["actor"]["theta"])


def test_course_is_a_course():
    """The environment of these tests ends by its length and by its limit."""
    (rollout,) = collected(collector(course(200), steps=10))
    assert rollout.terminated.any() and (rollout.truncated & ~rollout.terminated).any()
    assert (rollout.truncated & rollout.terminated).any() and Course.limit == 4

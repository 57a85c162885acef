"""A rollout as one CUDA graph: the bits of one that is stepped. On the processor a stand-in records operations."""

import copy
from itertools import product

import pytest
import torch

from rlopt.core.heads import Categorical, DiagonalGaussian
from rlopt.envs.spec import EnvSpec
from rlopt.envs.tensor import configure
from rlopt.errors import UserError
from rlopt.rollout.recorded import Recorded, cuda_graph
from tests.support.tensors import CPU, course, recorded
from tests.unit.rollout.test_tensors import FIELDS, FLOAT, TASKS, collected, collector


@pytest.mark.parametrize("id", TASKS)
def test_a_recorded_rollout_is_the_same_to_the_bit(id):
    """Policies whose theta and normaliser change; the third rollout and those after it are replays."""
    rollouts = []
    for record in (None, recorded):
        envs = EnvSpec("a task", id, 8, "tensor", None, {}).make_tensors(CPU, FLOAT)
        discrete = {"CartPole-v1": 2, "Acrobot-v1": 3}
        made, policy = collector(
            envs, Categorical(discrete[id]) if id in discrete else DiagonalGaussian(1), record=record
        )
        shift, scale = torch.zeros(2, *envs.observation_space.shape, dtype=FLOAT)
        found = []
        for k in range(5):
            changed = (policy.theta + 0.1 * k, shift + 0.01 * k, scale + 1 + 0.1 * k)
            found.append(copy.deepcopy(made.collect(policy.holding(changed))))
        rollouts.append((found, made.boundary, made.counter.step))
    (plain, at, steps), (again, there, counted) = rollouts
    assert steps == counted == 30 and torch.equal(at.observation, there.observation)
    assert all(torch.equal(x, there.saved[name]) for name, x in at.saved.items())
    for k, name in product(range(5), FIELDS):
        one, other = getattr(plain[k], name), getattr(again[k], name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, (k, name)


def test_a_replay_reads_what_is_given_now():
    """The stand-in for CUDA's graph shows what Python did once: numbers that were read are those of the recording."""
    calls = []

    def function(x):
        calls.append(1)
        return (x * len(calls),)

    made = Recorded(function, recorded)
    assert [made(torch.tensor(float(k)))[0].item() for k in (1, 2, 3, 4)] == [1, 4, 6, 8]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("id", TASKS)
def test_a_cuda_graph_gives_the_same_rollouts(id):
    device, rollouts = torch.device("cuda"), []
    for graph in (False, True):
        envs = EnvSpec("a task", id, 8, "tensor", None, {}, graph=graph).make_tensors(device, FLOAT)
        discrete = {"CartPole-v1": 2, "Acrobot-v1": 3}
        head = Categorical(discrete[id]) if id in discrete else DiagonalGaussian(1)
        rollouts.append(collected(collector(envs, head, record=cuda_graph if graph else None), 5))
    for plain, again in zip(*rollouts, strict=True):
        assert torch.equal(plain.inputs, again.inputs) and torch.equal(plain.rewards, again.rewards)


def test_a_graph_on_a_processor_is_refused():
    with pytest.raises(UserError, match="env.graph=true records CUDA's kernels, and device=cpu has none"):
        configure(course(3), False, True)
    with pytest.raises(ValueError, match="graph must be false, but for env.backend=tensor"):
        EnvSpec("a task", "CartPole-v1", 8, "sync", None, {}, graph=True)

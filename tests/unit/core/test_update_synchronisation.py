"""How often an update reads the device, which on a GPU waits for all that was asked of it; counted without a GPU.

On the meta device tensors have shapes and no numbers, so whatever reads one there fails. On the CPU a dispatch mode
counts the operations that read.
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rlopt.core import heads
from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule, host
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.network import Network
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.samples import Samples
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from rlopt.core.update import Update

aten = torch.ops.aten
READING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2}
COUNT = 32


class Reads(TorchDispatchMode):
    """Counts what would wait for a GPU: numbers and truth values taken, lists, results whose size depends on values."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.count = 0
        tolist = torch.Tensor.tolist

        def counted(x):
            self.count += 1
            return tolist(x)

        monkeypatch.setattr(torch.Tensor, "tolist", counted)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func.overloadpacket
        masks = packet in (aten.index, aten.index_put, aten.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.count += packet in READING or masks
        return func(*args, **(kwargs or {}))


def problem(device="cpu"):
    head = heads.DiagonalGaussian(2)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, head.network_outputs))
    network = Network(module, head.constants)
    theta = network.layout.flatten(module, head.initial_constants())
    inputs = torch.randn(COUNT, 3, generator=generator)
    z = network.outputs(theta, inputs).detach()
    actions = head.sample(z, torch.randn(COUNT, head.noise_size, generator=generator))
    samples = Samples(
        inputs,
        actions,
        torch.ones(COUNT),
        advantages=torch.randn(COUNT, generator=generator),
        old_outputs=z,
        old_log_prob=head.log_prob(z, actions),
    )
    return head, network, theta.detach().to(device), samples.to(torch.device(device))


@pytest.mark.parametrize(
    "read",
    [float, bool, int, torch.Tensor.item, lambda x: x[None].tolist(), lambda x: x[None].nonzero(),
     lambda x: x[None][x[None] > 0], lambda x: torch.equal(x, x)],
)  # fmt: skip
def test_every_way_to_read_is_counted_and_fails_without_numbers(read, monkeypatch):
    with Reads(monkeypatch) as reads:
        read(torch.ones(()))
    assert reads.count == 1
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.ones((), device="meta"))


# with an inner solver that reads signals, a metric of several factors looks once which of them reach the network
@pytest.mark.parametrize(
    ("metric", "inner"),
    [(Fisher(None, 0), None), (EmpiricalFisher(), None), (EmpiricalFisher(), Diagonal("exact", 1, 0, 256))],
    ids=["analytic", "empirical", "preconditioned"],
)
@pytest.mark.parametrize("start", ["cold", "warm"])
@torch.no_grad()
def test_conjugate_gradient_reads_nothing(metric, inner, start):
    head, network, theta, samples = problem(device="meta")
    cg = CG(5, 0.1, inner, start, 0.9)
    tape = network.tape(theta, samples.inputs)
    curvature, _ = metric.bind({}, tape, head, samples, Surrogate(0.0))
    state = cg.init()
    if start == "warm":
        state = {**state, "x": torch.empty_like(theta)}
    solution = cg.prepare(state, curvature, 0.1)[0](torch.empty_like(theta))
    assert solution.x.device.type == "meta"
    assert solution.x.shape == theta.shape


def test_a_minibatch_of_ppo_is_read_once(monkeypatch):
    """As tensors, which is what a device takes."""
    monkeypatch.setattr(Update, "takes_arrays", lambda *_: False)
    head, network, theta, samples = problem()
    adam = Optimizer(
        {"_target_": "torch.optim.Adam", "lr": 0.01},
        {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0},
        0.5,
    )
    update = Update(network, head, Clipped(0.2, 0.01), IdentityMetric(), Identity(), Constant(0.0), adam)
    learner = Learner(update, Schedule(epochs=2, minibatch=8, target_kl=None))
    state = learner.init(theta)
    before = theta.clone()
    with Reads(monkeypatch) as reads:
        theta, state, outcome = learner.run(theta, state, samples, torch.Generator().manual_seed(0), 2)
    assert outcome.steps == 2 * COUNT // 8
    assert reads.count == outcome.steps  # that all is finite
    assert not theta.equal(before)


STEPS = {"npg": TrustRegion(0.01, 100.0), "trpo": KLLineSearch(0.01, 0.8, 10, 0.0, 100.0)}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_natural_gradient_step_is_read_twice(step, monkeypatch):
    """That all is finite, and whether the candidate will do; on the CPU conjugate gradient looks once an iteration."""
    head, network, theta, samples = problem()
    cg = CG(4, 0.0, None, "cold", 0.0)
    update = Update(network, head, Surrogate(0.0), Fisher(None, 0), cg, Constant(0.1), step)
    state = update.init(theta)
    with Reads(monkeypatch) as reads:
        _, _, report = update(theta, state, samples)
    assert report.scalars["solver/iterations"] == 4
    assert reads.count - 4 == 2 + report.scalars.get("step/backtracks", 0)


def test_scalars_are_read_together(monkeypatch):
    scalars = {"a": torch.tensor(1.5), "b": 2.0, "c": torch.tensor([True])[0], "d": 3, "e": torch.ones(1, 1)}
    with Reads(monkeypatch) as reads:
        found = host(scalars)
    assert found == {"a": 1.5, "b": 2.0, "c": 1.0, "d": 3.0, "e": 1.0}
    assert list(found) == list(scalars)
    assert reads.count == 1

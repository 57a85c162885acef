"""What updates and whole runs cost on a GPU, beside what the card can do: scripts/bench --only device [--quick]

17-w-w-6 tanh Gaussian policy, float32, B samples that are on the device already; analytic Fisher metric (K = 6 in the
network). Times are from CUDA events, after a warm-up, medians; they hold the gaps in which the card waits for Python.
A PPO epoch is 32 minibatches, of a policy and of a critic alike, gradient and fused Adam. "Graph" is the same work
captured once as a CUDA graph and replayed: a solve by conjugate gradient reads nothing, so all of it can be.
"At once" is without the slices of rows that keep work in a processor's cache, which a card may not need.

Share of rate: floating-point operations of the matrix products over the time, as a share of one large product's rate.
Share of bandwidth: bytes that each operation reads and writes over the time, as a share of a large copy's.
Synchronisations are counted by torch.cuda.set_sync_debug_mode("warn"). Then the whole loop, see `loop`. With
``--device cpu`` the same runs on the processor, without graphs, to try the script. Every result is written as soon as
it is there; a part whose seconds are over is left out and named, so that all takes about 8 minutes.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from experiments.speed import loop, report
from experiments.speed.parts import DAMPING, adam
from experiments.speed.setting import INPUTS, Setting, machine
from rlopt.core import curvature, network
from rlopt.core.damping.constant import Constant
from rlopt.core.heads import Value
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.identity import Identity
from rlopt.core.network import Network
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.value import Value as ValueObjective
from rlopt.core.samples import Samples
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.identity import Identity as NoSolver
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.kronecker import factors as kronecker
from rlopt.core.update import Update
from rlopt.parallel.processes import matmul_precision, use_one_thread

WIDTHS, BATCHES = (64, 256, 1024, 4096), (2048, 16384, 131072, 1048576)
SECONDS = 120.0  # of products, CG-10, K-FAC and epochs at all sizes
MINIBATCHES = 32
ALL = 2**40  # rows: more than there are
GRAPHED = ("Fisher product", "CG-10")
LONG = 100.0  # milliseconds, in which the gaps that a graph closes no longer count
Kind = Callable[[], object]


def kinds(count: int, width: int, device: str) -> dict[str, Kind]:
    at = Setting(count, width, device)
    fisher = Fisher(None, 0).bind({}, at.tape, at.head, at.samples, None)[0]  # type: ignore[arg-type]
    cg, kfac = CG(10, 0.0, None, "cold", 0.0), KFAC("exact", 0.0, 1, 1)
    made: dict[str, Any] = {}

    def kfac_of() -> Any:
        if not made:
            made["apply"], made["state"] = kfac.prepare(kfac.init(), fisher, DAMPING)
        return made

    def outputs() -> Tensor:
        return at.network.outputs(at.theta, at.samples.inputs)

    def factors() -> object:
        return kronecker.statistics(fisher, kronecker.factors)

    return {
        "outputs": outputs,
        "outputs, at once": at_once(network, outputs),
        "Fisher product": lambda: fisher.product(at.v),
        "CG-10": lambda: cg.prepare({}, fisher, DAMPING)[0](at.v),
        "K-FAC factors": factors,
        "K-FAC factors, at once": at_once(curvature, factors),
        "K-FAC eigendecompositions": lambda: kronecker.decompose({**kfac_of()["state"], "age": 0}, 1),
        "K-FAC apply": lambda: kfac_of()["apply"](at.v),
        "PPO epoch": ppo_epoch(at, width),
    }


def at_once(module: Any, f: Kind) -> Kind:
    """``f`` with all rows in one slice, where ``module`` would cut them."""

    def whole() -> object:
        before = {name: getattr(module, name) for name in ("_ROWS", "_ROWS_ELSEWHERE") if hasattr(module, name)}
        vars(module).update(dict.fromkeys(before, ALL))
        try:
            return f()
        finally:
            vars(module).update(before)

    return whole


def ppo_epoch(at: Setting, width: int) -> Kind:
    device = at.theta.device
    critic = nn.Sequential(nn.Linear(INPUTS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
    values = Network(critic.to(device))
    targets = torch.randn(len(at.samples), 1).to(device)
    learning: list[tuple[Learner, Tensor, Any, Samples]] = []
    for net, head, objective, theta, samples in (
        (at.network, at.head, Clipped(0.2, 0.0), at.theta.clone(), at.samples),
        (values, Value(), ValueObjective(), values.layout.flatten(critic),
         Samples(at.samples.inputs, targets, at.samples.weight)),
    ):  # fmt: skip
        update = Update(net, head, objective, Identity(), NoSolver(), Constant(0.0), adam())  # type: ignore[arg-type]
        learner = Learner(update, Schedule(1, max(len(samples) // MINIBATCHES, 1), None))
        learning.append((learner, theta, learner.init(theta), samples))
    generator = torch.Generator().manual_seed(0)
    return lambda: [learner.run(*what, generator, 1) for learner, *what in learning]


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, out)) if isinstance(x, Tensor)]
            self.bytes += sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
        return out


def work(f: Kind, device: str) -> dict[str, int]:
    """Of one call: the matrix products' floating-point operations, bytes moved, how often it waits for the card."""
    flops = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product_flops})
    with flops:
        f()
    with nullcontext([]) if device == "cpu" else watched() as caught, Traffic() as traffic:
        f()
    found = {"flops": flops.get_total_flops(), "bytes": traffic.bytes}
    if device != "cpu":
        found["synchronisations"] = sum("synchroniz" in str(warning.message) for warning in caught)
    return found


def product_flops(_self: Any, a: Any, b: Any, **_: Any) -> int:
    return 2 * a[0] * a[1] * b[1]


def milliseconds(f: Kind, device: str, repeats: int, budget: float = 2.0) -> list[float]:
    """Of single calls of what is warm; fewer than ``repeats`` once ``budget`` seconds are spent."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < repeats and (not times or time.perf_counter() - begun < budget):
        times.append(one(f, device))
    return times


def one(f: Kind, device: str) -> float:
    if device == "cpu":
        start = time.perf_counter()
        f()
        return 1e3 * (time.perf_counter() - start)
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    f()
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def graphed(f: Kind) -> Kind:
    """``f`` captured as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            f()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        f()
    graph.replay()
    return graph.replay


@contextmanager
def watched() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings, to which belong those of operations that make the processor wait for the card."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    finally:
        torch.cuda.set_sync_debug_mode("default")


def card(device: str, quick: bool) -> dict[str, float]:
    """Rates of one large float32 product, without and with TF32, flop/s, and bytes/s of a large copy."""
    n, size = (256, 2**20) if quick else (8192, 2**28)
    a, source = torch.randn(n, n).to(device), torch.zeros(size, device=device)
    b, target = torch.empty_like(a), torch.empty_like(source)
    found = {}
    for precision in ("highest", "high"):
        with matmul_precision(precision):
            times = milliseconds(lambda: torch.mm(a, a, out=b), device, 11)
            found[f"product, {precision}"] = 2e3 * n**3 / statistics.median(times[1:])
    times = milliseconds(lambda: target.copy_(source), device, 11)
    found["copy"] = 8e3 * size / statistics.median(times[1:])
    return found


def measure(count: int, width: int, device: str, repeats: int) -> dict[str, dict[str, Any]]:
    """By kind what `work` finds and milliseconds; a kind that does not fit the memory is left out."""
    found: dict[str, dict[str, Any]] = {}
    try:
        every = kinds(count, width, device)
    except torch.OutOfMemoryError:
        every = {}
    for name, kind in every.items():
        try:
            counted = work(kind, device)
            times = milliseconds(kind, device, repeats)
            found[name] = {"milliseconds": times, **counted}
            if device != "cpu" and name in GRAPHED and statistics.median(times) < LONG:
                found[f"{name}, graph"] = {"milliseconds": milliseconds(graphed(kind), device, repeats), **counted}
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    torch.cuda.empty_cache()
    return found


@torch.no_grad()
def main() -> int:
    parser = report.parser("device", "Costs of an update on a GPU, beside the card's own rates.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tf32", action="store_true", help="let products round to TF32; rlopt itself does not")
    options = parser.parse_args()
    if options.draw:
        report.again("device")
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("device.py: there is no CUDA device here; type --device cpu --quick to try the script", file=sys.stderr)
        return 2
    use_one_thread()
    quick, cuda = options.quick, options.device == "cuda"
    widths, batches, repeats = ((16, 32), (256,), 2) if quick else (WIDTHS, BATCHES, 11)
    precision = "high" if options.tf32 else "highest"
    data: dict[str, Any] = {
        "machine": f"{torch.cuda.get_device_name()}, torch {torch.__version__}" if cuda else machine(),
        "precision": precision,
        "card": card(options.device, quick),
        "sizes": [],
        "left_out": [],
    }

    def keep(name: str, there: bool = True) -> None:
        """What was measured is written, or ``name`` noted as left out."""
        data["left_out"] += [] if there else [name]
        print(f"{name}{'' if there else ': left out'}", flush=True)
        if not quick:
            report.keep("device", data)

    with matmul_precision(precision):
        clock = loop.Clock(SECONDS)
        for count, width in product(batches, widths):
            name = f"width {width}, {count:,} samples"
            if clock.left > 0:
                found = measure(count, width, options.device, repeats)
                data["sizes"].append({"width": width, "batch": count, "kinds": found})
                name += f": {len(found)} kinds measured"
            keep(name, clock.left > 0 or name.endswith("measured"))
        for part, (title, measured, seconds) in loop.PARTS.items():
            for name, result in measured(options.device, quick, loop.Clock(seconds)):
                if result is not None:
                    data.setdefault(part, {})[name] = result
                keep(f"{title}: {name}", result is not None)
    print("\n".join(report.device(data)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

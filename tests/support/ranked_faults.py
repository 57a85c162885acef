"""What test_ranks runs on two ranks, of which one fails, or is refused something, or says another thing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlopt.core import spectrum
from rlopt.core.checks import NumericalFailure
from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.parts import Solution
from rlopt.core.samples import Samples
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from rlopt.errors import EnvironmentFault, UserError
from rlopt.parallel import ranks as processes
from rlopt.parallel.collectives import all_ranks, broadcast_theta, gather, local_slice, rank
from rlopt.policy.normalisers import empty_moments, merge_moments
from rlopt.rollout.episodes import Episodes, gather_episodes
from rlopt.training.failure_policy import NAN_REPORT, write_report
from tests.support.building import resolve, trainer
from tests.support.oracles import randn
from tests.support.ranked import LINE_SEARCH, SMALL, given, part


@dataclass(frozen=True)
class FailsOnRank1(IdentityMetric):
    supplies: ClassVar[frozenset[str]] = IdentityMetric.supplies

    def bind(self, *arguments: Any) -> Any:
        if rank() == 1:
            raise NumericalFailure("nothing")
        return super().bind(*arguments)


def skipped(metric: Any, bad: str | None) -> dict[str, Any]:
    """An update where something is not finite on rank 1 alone."""
    case, samples, theta = given("log_sigma", torch.float64)
    if bad and rank() == 1:
        values = getattr(samples, bad).clone()
        values[3] = torch.nan
        samples = samples.replacing(**{bad: values, "weight": torch.ones_like(samples.weight)})
    update = Update(case.network, case.head, part("objective", "surrogate"), metric, Identity(), Constant(0.0),
                    Fixed(0.1))  # fmt: skip
    after, _, report = update(theta, update.init(theta), samples)
    return {"failure": report.failure, "same": bool((after == theta).all())}


def out_of_domain() -> dict[str, Any]:
    """A step of a length at which sigma falls below 0 for a sample of one rank, and for none of the other."""
    case, samples, theta = given("sigma_per_state", torch.float64, weights="uniform")
    update = Update(case.network, case.head, part("objective", "log_prob"), IdentityMetric(), Identity(), Constant(0.0),
                    Fixed(1.0))  # fmt: skip

    def inside(rate: float) -> list[bool]:
        z = case.network.outputs(theta + rate * direction, samples.inputs)
        return gather(bool(case.head.in_domain(z)))

    moved, _, _ = replace(update, step=Fixed(1e-6))(theta, update.init(theta), samples)
    direction = (moved - theta) / 1e-6
    low, rate = 0.0, next(r for r in (0.01 * 1.5**i for i in range(100)) if inside(r) == [False, False])
    while inside(rate) == [False, False]:
        middle = (low + rate) / 2
        low, rate = (middle, rate) if inside(middle) == [True, True] else (low, middle)
    after, _, report = replace(update, step=Fixed(rate))(theta, update.init(theta), samples)
    line = LINE_SEARCH.step({}, theta, *_problem(update, theta, samples, direction, rate))
    return {"inside": inside(rate), "accepted": float(report.scalars["step/accepted"]),
            "same": bool((after == theta).all()), "line": float(line[2]["step/accepted"])}  # fmt: skip


def _problem(update: Update, theta: Tensor, samples: Samples, x: Tensor, rate: float) -> Any:
    """What a line search is given, of whose first candidates the first is ``rate`` x."""
    from rlopt.core.problem import Problem

    tape = update.network.tape(theta, samples.inputs)
    value = samples.mean(update.objective.values(update.head, tape.outputs, samples))
    solution = Solution(x, 0.0, 0.0, torch.dot(x, x), 0.0)
    return solution, torch.dot(x, x), Problem(update.network, update.head, update.objective, samples, tape, value)


def leaving_cg() -> dict[str, Any]:
    """Conjugate gradient that by its own residual would leave sooner on rank 0, as where processors round unalike."""
    found = _solved(part("solver", "cg", iterations=30, tolerance=(1e-1, 1e-12)[rank()]))
    return {"iterations": float(found.iterations), "x": found.x}


def closing_lanczos() -> dict[str, Any]:
    """Lanczos on a space that closes after fewer products than asked for, which rank 1 does not see by itself."""
    kept, spectrum._CLOSED = spectrum._CLOSED, 0 if rank() else 100
    try:
        return {"x": _solved(part("solver", "low_rank", rank=12, products=20), count=3).x}
    finally:
        spectrum._CLOSED = kept


def _solved(solver: Any, count: int = 40) -> Solution:
    """A solve by the Fisher matrix of the first ``count`` samples."""
    case, samples, theta = given("log_sigma", torch.float64, weights="uniform")
    samples = samples.replacing(weight=samples.weight * (samples.time < count))
    metric = part("metric", "fisher")
    tape = case.network.tape(theta, samples.inputs)
    curvature, _ = metric.bind(metric.init(), tape, case.head, samples, part("objective", "surrogate"))
    return solver.prepare(solver.init(), curvature, 0.1)[0](randn(len(theta), seed=3))


def told(make: Callable[[], Any]) -> str:
    """The error that ``make`` ends with."""
    try:
        return f"none: {make()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def on_rank_1(error: Exception) -> str:
    if rank() == 1:
        raise error
    return "fine"


def differing(scale: float) -> list[float]:
    """rank 1's theta is off by ``scale`` of the move."""
    return broadcast_theta(torch.ones(3) * (1 + scale * rank()), torch.zeros(3)).tolist()


def merge_bad() -> Any:
    data = torch.ones(4, 2)
    if rank() == 1:
        data[2, 1] = torch.inf
    return merge_moments(empty_moments((2,)), data, "an observation")


def refusal(*overrides: str) -> str:
    return told(lambda: trainer(resolve([*SMALL, *overrides]), Path("unused")))


def learn_bad() -> dict[str, Any]:
    """A reward that is no number on rank 1."""
    made = trainer(resolve(SMALL), Path("unused"))
    batch = made.collector.collect(made.agent.policy(made.state))
    if rank() == 1:
        batch.rewards[3, 1] = torch.nan
    after, lesson = made.agent.learn(made.state, batch, made.minibatches)
    made.collector.close()
    return {"failure": lesson.failure, "same": after is made.state}


def reported() -> dict[str, Any] | None:
    """What rank 0 writes of a reward that is no number on rank 1."""
    made = trainer(resolve(SMALL), Path("unused"))
    batch = made.collector.collect(made.agent.policy(made.state))
    if rank() == 1:
        batch.rewards[3, 1] = torch.nan
    _, lesson = made.agent.learn(made.state, batch, made.minibatches)
    made.collector.close()
    with tempfile.TemporaryDirectory() as folder:
        write_report(Path(folder), {"step": 128}, made.agent.learners, lesson.quantities, batch.first)
        file = Path(folder) / NAN_REPORT
        return json.loads(file.read_text()) if file.exists() else None


FAULTS: dict[str, Callable[[], Any]] = {
    "advantage": lambda: skipped(IdentityMetric(), "advantages"),
    "input": lambda: skipped(IdentityMetric(), "inputs"),
    "metric": lambda: skipped(FailsOnRank1(), None),
    "reward": learn_bad,
    "report": reported,
    "domain": out_of_domain,
    "moments": lambda: told(merge_bad),
    "everywhere": lambda: (all_ranks(rank() == 1), all_ranks(True)),
    "rounding": lambda: differing(1e-6),
    "another update": lambda: told(lambda: differing(0.5)),
    "user": lambda: told(lambda: processes.on_all_ranks(lambda: on_rank_1(UserError("no such thing")))),
    "environment": lambda: told(lambda: processes.on_all_ranks(lambda: on_rank_1(EnvironmentFault("it fell")))),
    "first": lambda: processes.broadcast_from_first(lambda: f"rank {rank()}"),
    "first's": lambda: told(
        lambda: processes.broadcast_from_first(lambda: 1 / 0 if rank() else on_rank_1(UserError("x")))
    ),
    "tally": lambda: vars(gather_episodes(Episodes([1.0 + rank(), 3.0 + rank()], [10, 20], [4, 7], [0, 1]))),
    "gram": lambda: refusal("solver=gram"),
    "critic's gram": lambda: refusal("critic.metric=fisher", "critic.solver=gram", "critic.step=fixed"),
    "environments": lambda: refusal("env.num_envs=5", "batch_size=125"),
    "own": lambda: list(local_slice(6)),
    "conjugate gradient": leaving_cg,
    "lanczos": closing_lanczos,
}

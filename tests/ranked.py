"""What test_ranks runs on one rank and on two: `python -m tests.ranked FOLDER` is one rank of torch.distributed.

Every case gives plain values and tensors. Those of CASES must be the same on one rank with all samples and on each of
two; those of FAULTS are about what happens on two.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlopt.assemble import trainer
from rlopt.build import load, resolve
from rlopt.catalogue import conf_dir
from rlopt.construct import construct_part
from rlopt.core.damping.constant import Constant
from rlopt.core.damping.levenberg_marquardt import LevenbergMarquardt
from rlopt.core.distributed import adopted, everywhere, gather, own, rank, ranks
from rlopt.core.failure import NumericalFailure
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.samples import Samples
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.update import Update
from rlopt.errors import EnvironmentFault, UserError
from rlopt.policy.normaliser import RewardScaler, empty_moments, merge_moments
from rlopt.rollout.batch import Episodes
from rlopt.rollout.returns import normalised
from rlopt.run import nan_report
from rlopt.run import ranks as processes
from rlopt.run.tally import together
from tests.oracles import make_case, randn, seeded

LINE_SEARCH = KLLineSearch(radius=0.01, shrink=0.8, backtracks=10, accept_ratio=0.0, largest=1e6)
SMALL = ["dtype=float64", "env.num_envs=4", "batch_size=128", "total_steps=384", "evaluation.episodes=0",
         "checkpoint.every_seconds=null", "policy.hidden=[8]", "critic.hidden=[8]"]  # fmt: skip
COUNT = 40


def part(group: str, name: str, **options: Any) -> Any:
    return construct_part({**load(conf_dir() / group / f"{name}.yaml"), **options}, group)


def mine(samples: Samples, how: str) -> Samples:
    """This rank's samples: the first 11 and the rest, or those of rows of 4 that are this rank's two; all alone."""
    index = torch.arange(len(samples))
    if ranks() == 1:
        return samples
    chosen = (index < 11) == (rank() == 0) if how == "uneven" else (index % 4 // 2) == rank()
    here = samples.take(chosen)
    return here if how == "uneven" else here.replacing(index=index[chosen])


def given(head: str, dtype: torch.dtype, how: str = "uneven", weights: str = "masked") -> tuple[Any, Samples, Tensor]:
    """A case, this rank's samples of it and theta."""
    case = make_case(head, weights=weights, count=COUNT, moved=0.01)
    case.module.to(dtype)
    values = {name: value.to(dtype) if value is not None and value.is_floating_point() else value
              for name, value in vars(mine(case.samples, how)).items()}  # fmt: skip
    return case, Samples(**values), case.theta.to(dtype)


def first_updates(metric: Any, solver: Any, adaptive: bool, head: str, dtype: torch.dtype) -> dict[str, Any]:
    """Two updates, so that what the solver keeps of the first counts too."""
    case, samples, theta = given(head, dtype)
    damping = LevenbergMarquardt(0.1, 0.25, 0.75, 1.5, 0.9, 1e-8, 1e8) if adaptive else Constant(0.1)
    update = Update(case.network, case.head, part("objective", "surrogate"), metric, solver, damping, LINE_SEARCH)
    state = update.init(theta)
    found = {}
    for i in range(2):
        theta, state, report = update(theta, state, samples)
        assert not report.failure, report.failure
        found |= {f"theta{i}": theta, f"size{i}": torch.as_tensor(report.scalars["step/size"])}
    measured = Learner(update, Schedule(1, None)).measure(theta, state, samples)
    return {**found, **{name: torch.as_tensor(value) for name, value in measured.items()}}


def minibatches(size: int, how: str, dtype: torch.dtype) -> dict[str, Any]:
    """Two epochs of Adam. Rank after rank, the samples are in the order in which one rank has them."""
    case, samples, theta = given("log_sigma", dtype, how)
    step = Optimizer({"name": "Adam", "lr": 0.02}, {"name": "ConstantLR", "factor": 1.0}, max_norm=0.5)
    update = Update(case.network, case.head, part("objective", "clipped"), IdentityMetric(), Identity(), Constant(0.0),
                    step)  # fmt: skip
    learner = Learner(update, Schedule(2, size))
    state = learner.init(theta)
    theta, state, outcome = learner.run(theta, state, samples, seeded(3), epochs=2)
    return {"theta": theta, "steps": outcome.steps, "skipped": outcome.skipped}


def moments() -> dict[str, Any]:
    data = randn(COUNT, 3)[mine(make_case(count=COUNT).samples, "uneven").time]
    state = merge_moments(merge_moments(empty_moments((3,)), data, "data"), 2 * data, "data")
    weight = randn(COUNT, seed=1).abs()[: len(data)] if ranks() == 1 else randn(COUNT, seed=1).abs()[place(len(data))]
    return {**state, "normalised": torch.cat(gather(normalised(data[:, 0], weight)))}


def place(count: int) -> slice:
    return slice(0, count) if rank() == 0 else slice(COUNT - count, COUNT)


def reward_scale() -> dict[str, Any]:
    scaler, columns = RewardScaler(True, 10.0), own(4)
    state = scaler.init(4)
    for i in range(3):
        rewards, done = randn(6, 4, seed=i), randn(6, 4, seed=9 + i) > 1
        here = slice(columns.start, columns.stop)
        state = scaler.merge(state, rewards[:, here], done[:, here], 0.9)
    return state


def hutchinson() -> dict[str, Any]:
    case, samples, theta = given("log_sigma", torch.float64)
    solver = Diagonal("hutchinson", draws=3, seed=1, chunk=8)
    tape = case.network.tape(theta, samples.inputs)
    metric = part("metric", "fisher")
    curvature, _ = metric.bind(metric.init(), tape, case.head, samples, part("objective", "surrogate"))
    solve, _ = solver.prepare(solver.init(), curvature, 0.1)
    return {"x": solve(torch.ones_like(theta)).x, "dense": curvature.dense()}


def whole_run(*overrides: str) -> dict[str, Any]:
    """Three updates of a whole run, nothing written."""
    made = trainer(resolve([*SMALL, *overrides]), Path("unused"))
    try:
        found: dict[str, Any] = {}
        for i in range(3):
            batch = made.collector.collect(made.agent.policy(made.state))
            if i == 0:
                found["rewards"] = torch.cat(gather(batch.rewards.clone()), 1)
                found["observations"] = torch.cat(gather(batch.observations.clone()), 1)
                found["episode"] = torch.cat(gather(batch.episode.clone()), 1)
            made.state, lesson = made.agent.learn(made.state, batch, made.minibatches)
            found |= {f"{name}{i}": torch.tensor(value).double() for name, value in lesson.scalars.items()}
            found[f"theta{i}"] = made.state["actor"]["theta"].clone()
            found[f"critic{i}"] = made.state["critic"]["theta"].clone()
        return {**found, **made.state["observations"], "returns": made.state["rewards"]["returns"]}
    finally:
        made.collector.close()


CG = partial(part, "solver", "cg", iterations=300, tolerance=0.0)  # converged: on its way there CG magnifies rounding
PAIRS: dict[str, tuple[Any, Any, bool]] = {
    "fisher + cg": (part("metric", "fisher"), CG(), False),
    **{
        f"fisher + {name}": (part("metric", "fisher"), part("solver", name), False)
        for name in ("dense", "kfac", "ekfac", "kfra", "diagonal", "block", "low_rank", "lbfgs")
    },
    "ggn + cg, adaptive damping": (part("metric", "ggn"), CG(), True),
    "gradient_covariance + cg": (part("metric", "gradient_covariance", centred=True), CG(), False),
    "gradient_history + power": (part("metric", "gradient_history"), part("solver", "power"), False),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
CASES: dict[str, Callable[[], dict[str, Any]]] = {
    **{
        f"{name}, {head}, {dtype}": partial(first_updates, *parts, head, DTYPES[dtype])
        for name, parts in PAIRS.items()
        for head, dtype in (("log_sigma", "float32"), ("log_sigma", "float64"), ("categorical", "float64"))
    },
    **{
        f"minibatches of {size}, {how}, {dtype}": partial(minibatches, size, how, DTYPES[dtype])
        for size, how in ((7, "uneven"), (7, "interleaved"), (2, "uneven"), (64, "uneven"))
        for dtype in DTYPES
    },
    "moments, float64": moments,
    "reward scale, float64": reward_scale,
    "hutchinson, float64": hutchinson,
    "trpo, float64": partial(whole_run, "algo=trpo", "critic.schedule.minibatch=32"),
    "ppo on pendulum, float64": partial(whole_run, "algo=ppo", "env=pendulum", "schedule.minibatch=50"),
}


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
    from rlopt.core.parts import Solution
    from rlopt.core.problem import Problem

    tape = update.network.tape(theta, samples.inputs)
    value = samples.mean(update.objective.values(update.head, tape.outputs, samples))
    solution = Solution(x, 0.0, 0.0, torch.dot(x, x), 0.0)
    return solution, torch.dot(x, x), Problem(update.network, update.head, update.objective, samples, tape, value)


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
    return adopted(torch.ones(3) * (1 + scale * rank()), torch.zeros(3)).tolist()


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
        nan_report.write(Path(folder), {"step": 128}, made.agent.learners, lesson.seen, batch.first)
        file = Path(folder) / nan_report.NAME
        return json.loads(file.read_text()) if file.exists() else None


FAULTS: dict[str, Callable[[], Any]] = {
    "advantage": lambda: skipped(IdentityMetric(), "advantages"),
    "input": lambda: skipped(IdentityMetric(), "inputs"),
    "metric": lambda: skipped(FailsOnRank1(), None),
    "reward": learn_bad,
    "report": reported,
    "domain": out_of_domain,
    "moments": lambda: told(merge_bad),
    "everywhere": lambda: (everywhere(rank() == 1), everywhere(True)),
    "rounding": lambda: differing(1e-6),
    "another update": lambda: told(lambda: differing(0.5)),
    "user": lambda: told(lambda: processes.agreed(lambda: on_rank_1(UserError("no such thing")))),
    "environment": lambda: told(lambda: processes.agreed(lambda: on_rank_1(EnvironmentFault("it fell")))),
    "first": lambda: processes.from_first(lambda: f"rank {rank()}"),
    "first's": lambda: told(lambda: processes.from_first(lambda: 1 / 0 if rank() else on_rank_1(UserError("x")))),
    "tally": lambda: vars(together(Episodes([1.0 + rank(), 3.0 + rank()], [10, 20], [4, 7]))),
    "gram": lambda: refusal("solver=gram"),
    "critic's gram": lambda: refusal("critic.metric=fisher", "critic.solver=gram", "critic.step=fixed"),
    "environments": lambda: refusal("env.num_envs=5", "batch_size=125"),
    "own": lambda: list(own(6)),
}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    processes._PATIENCE = timedelta(seconds=30)
    found: dict[str, Any] = {}
    with processes.joined():
        for name, case in {**CASES, **FAULTS}.items():
            try:
                found[name] = case()
            except Exception as error:
                found[name] = error
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

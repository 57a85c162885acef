"""What test_ranks runs on one rank and on two: it must be the same on one with all samples and on each of two.

Every case gives plain values and tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlopt.config.saved import read_choice
from rlopt.config.schema import construct_part
from rlopt.core.curvature import PullBack
from rlopt.core.damping.constant import Constant
from rlopt.core.damping.levenberg_marquardt import LevenbergMarquardt
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.samples import Samples
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.midpoint import Midpoint
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.update import Update, value_and_gradient
from rlopt.core.waste import waste
from rlopt.parallel.collectives import all_sum, gather, local_slice, rank, world_size
from rlopt.policy.normalisers import RewardScaler, empty_moments, merge_moments
from tests.support.building import resolve, trainer
from tests.support.oracles import make_case, randn, seeded

LINE_SEARCH = KLLineSearch(radius=0.01, shrink=0.8, backtracks=10, accept_ratio=0.0, largest=1e6)
SMALL = ["dtype=float64", "env.num_envs=4", "batch_size=128", "total_steps=384", "evaluation.episodes=0",
         "checkpoint.every_seconds=null", "policy.hidden=[8]", "critic.hidden=[8]"]  # fmt: skip
COUNT = 40


def part(group: str, name: str, **options: Any) -> Any:
    return construct_part({**read_choice(group, name), **options}, group)


def mine(samples: Samples, how: str) -> Samples:
    """This rank's samples: the first 11 and the rest, or those of rows of 4 that are this rank's two; all alone."""
    index = torch.arange(len(samples))
    if world_size() == 1:
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


def first_updates(
    metric: Any, solver: Any, adaptive: bool, head: str, dtype: torch.dtype, step: Any = LINE_SEARCH
) -> dict[str, Any]:
    """Two updates, so that what the solver keeps of the first counts too."""
    case, samples, theta = given(head, dtype)
    damping = LevenbergMarquardt(0.1, 0.25, 0.75, 1.5, 0.9, 1e-8, 1e8) if adaptive else Constant(0.1)
    update = Update(case.network, case.head, part("objective", "surrogate"), metric, solver, damping, step)
    state = update.init(theta)
    found = {}
    for i in range(2):
        theta, state, report = update(theta, state, samples)
        assert not report.failure, report.failure
        found |= {f"theta{i}": theta, f"size{i}": torch.as_tensor(report.scalars["step/size"])}
    measured = Learner(update, Schedule(1, None, None)).measure(theta, state, samples)
    return {**found, **{name: torch.as_tensor(value) for name, value in measured.items()}}


def minibatches(size: int, how: str, dtype: torch.dtype) -> dict[str, Any]:
    """Two epochs of Adam. Rank after rank, the samples are in the order in which one rank has them."""
    case, samples, theta = given("log_sigma", dtype, how)
    step = Optimizer(
        {"_target_": "torch.optim.Adam", "lr": 0.02},
        {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0},
        max_norm=0.5,
    )
    update = Update(case.network, case.head, part("objective", "clipped"), IdentityMetric(), Identity(), Constant(0.0),
                    step)  # fmt: skip
    learner = Learner(update, Schedule(2, size, None))
    state = learner.init(theta)
    theta, state, outcome = learner.run(theta, state, samples, seeded(3), epochs=2)
    return {"theta": theta, "steps": outcome.steps, "skipped": outcome.skipped}


def moments() -> dict[str, Any]:
    data = randn(COUNT, 3)[mine(make_case(count=COUNT).samples, "uneven").time]
    state = merge_moments(merge_moments(empty_moments((3,)), data, "data"), 2 * data, "data")
    weight = (
        randn(COUNT, seed=1).abs()[: len(data)] if world_size() == 1 else randn(COUNT, seed=1).abs()[place(len(data))]
    )
    normalised = Samples(data, data, weight, data[:, 0]).with_normalised_advantages().advantages
    return {**state, "normalised": torch.cat(gather(normalised))}


def place(count: int) -> slice:
    return slice(0, count) if rank() == 0 else slice(COUNT - count, COUNT)


def reward_scale() -> dict[str, Any]:
    scaler, columns = RewardScaler(True, 10.0), local_slice(4)
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


def wasted() -> dict[str, Any]:
    case, samples, theta = given("log_sigma", torch.float64)
    tape, objective = case.network.tape(theta, samples.inputs), part("objective", "surrogate")
    fisher = PullBack(tape, samples.share, case.head.fisher_product(tape.outputs))
    g = all_sum(value_and_gradient(tape, case.head, objective, samples)[1])
    return {**waste(fisher, g, randn(len(theta), seed=1), products=5)}


CG = partial(part, "solver", "cg", iterations=300, tolerance=0.0)  # converged: on its way there CG magnifies rounding
PAIRS: dict[str, tuple[Any, Any, bool]] = {
    "fisher + cg": (part("metric", "fisher"), CG(), False),
    **{
        f"fisher + {name}": (part("metric", "fisher"), part("solver", name), False)
        for name in ("dense", "kfac", "ekfac", "kfra", "diagonal", "block", "low_rank", "lbfgs")
    },
    "ggn + cg, adaptive damping": (part("metric", "ggn"), CG(), True),
    "gradient_covariance + cg": (part("metric", "gradient_covariance", centred=True), CG(), False),
    "fisher + kaczmarz": (part("metric", "fisher"), part("solver", "kaczmarz", block=7, sweeps=2), False),
    "fisher + cg by nystrom": (part("metric", "fisher"), CG(preconditioner=read_choice("solver", "nystrom")), False),
    "fisher + spring": (part("metric", "fisher"), part("solver", "spring", of=read_choice("solver", "dense")), False),
    "gradient_history + power": (part("metric", "gradient_history"), part("solver", "power"), False),
    **{
        f"gradient_statistics + {name}": (part("metric", "gradient_statistics"), part("solver", name), False)
        for name in ("shampoo", "soap", "muon", "kron")
    },
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
CASES: dict[str, Callable[[], dict[str, Any]]] = {
    **{
        f"{name}, {head}, {dtype}": partial(first_updates, *parts, head, DTYPES[dtype])
        for name, parts in PAIRS.items()
        for head, dtype in (("log_sigma", "float32"), ("log_sigma", "float64"), ("categorical", "float64"))
    },
    "midpoint, float64": partial(
        first_updates, part("metric", "fisher"), CG(), False, "log_sigma", torch.float64, Midpoint(0.1, 0.01)
    ),
    **{
        f"minibatches of {size}, {how}, {dtype}": partial(minibatches, size, how, DTYPES[dtype])
        for size, how in ((7, "uneven"), (7, "interleaved"), (2, "uneven"), (64, "uneven"))
        for dtype in DTYPES
    },
    "moments, float64": moments,
    "reward scale, float64": reward_scale,
    "hutchinson, float64": hutchinson,
    "waste, float64": wasted,
    "trpo, float64": partial(whole_run, "algo=trpo", "critic.schedule.minibatch=32"),
    "tensors, float64": partial(whole_run, "algo=trpo", "env.backend=tensor", "critic.schedule.minibatch=32"),
    "ppo on pendulum as tensors, float64": partial(
        whole_run, "algo=ppo", "env=pendulum", "env.backend=tensor", "schedule.minibatch=50"
    ),
    "svrpg, float64": partial(whole_run, "algo=svrpg", "estimator.batches=2", "critic.schedule.minibatch=32"),
    "storm_pg, float64": partial(whole_run, "algo=storm_pg", "env=pendulum", "critic.schedule.minibatch=32"),
    "memory, float64": partial(
        whole_run,
        "algo=ppo",
        "policy=lstm",
        "critic=gru",
        "policy.size=4",
        "critic.size=4",
        "schedule.sequence=8",
        "critic.schedule.sequence=16",
        "schedule.minibatch=48",
        "critic.schedule.minibatch=32",
    ),
    "rates by KL, float64": partial(whole_run, "algo=ppo", "scheduler=kl_adaptive", "schedule.minibatch=50"),
    "normalised targets, float64": partial(
        whole_run, "algo=ppo", "critic.targets.normalise=true", "schedule.minibatch=50", "critic.schedule.minibatch=32"
    ),
    "correlated noise, float64": partial(
        whole_run, "algo=ppo", "env=pendulum", "schedule.minibatch=50", "noise.color=1", "noise.block=20"
    ),
    "ppo on pendulum, float64": partial(whole_run, "algo=ppo", "env=pendulum", "schedule.minibatch=50"),
}

"""What is run: one estimator in an otherwise equal run, and what is kept of it.

On CartPole the curve is the mean return of the episodes that ended in the last WINDOW steps. On the linear-quadratic
regulator it is J of the policy in closed form, beside the squared relative error |v - grad J|^2 / |grad J|^2 of the
direction v that the step was given, which is g for the plain gradient.
"""

from __future__ import annotations

import tempfile
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from experiments._shared.building import make_trainer
from rlopt.parallel.processes import use_one_thread
from rlopt.rollout.episodes import EpisodeTracker
from rlopt.tasks.lqr import LQR

METHODS = {
    "vpg": (),
    "svrpg": ("estimator=svrpg",),
    "srvrpg": ("estimator=srvrpg",),
    "storm_pg": ("estimator=recursive",),
}
WINDOW = 5120  # steps of CartPole
HORIZON, SIGMA = 100, 0.5  # of the regulator: steps of an episode, the first policy's scale
START = -0.2  # k of the first policy, which closes the loop
SYSTEM = LQR(start_variance=1.0, noise_std=0.3)
COMMON = ("algo=vpg", "advantages.normalise=false", "evaluation.episodes=0", "record.tensorboard=false")
SETTINGS = {
    "cartpole": (*COMMON, "env=cartpole", "recipe=null", "batch_size=512"),
    "lqr": ("experiment=lqr", *COMMON, "policy.scale=log_sigma", f"policy.initial_sigma={SIGMA}",
            f"env.kwargs.horizon={HORIZON}", "env.kwargs.start_variance=1.0", "env.kwargs.noise_std=0.3",
            "env.num_envs=4", f"batch_size={4 * HORIZON}"),
}  # fmt: skip
# the bars: CartPole's is that of classic_control; the regulator's is 95% of the way from the first policy to the best
FIRST, BEST = float(SYSTEM.J(START, SIGMA)), float(SYSTEM.J(SYSTEM.optimum(), 0.0))
BARS = {"cartpole": 475.0, "lqr": FIRST + 0.95 * (BEST - FIRST)}


class Job(NamedTuple):
    """One training run of ``limit`` steps; with ``stops`` it ends at the bar."""

    environment: str
    method: str
    rate: float
    seed: int
    limit: int
    stops: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        own = METHODS[self.method]
        return (*SETTINGS[self.environment], *own, f"optimizer.lr={self.rate!r}", f"seed={self.seed}")


class Path(NamedTuple):
    """What a run went through, a row for each update."""

    steps: list[int]
    values: list[float]  # NaN before there is one
    errors: list[float]  # of the regulator's directions; NaN where no step was taken
    reached: int | None  # the first step at the bar


class Kept:
    """A step that keeps the direction it was given, around another one."""

    def __init__(self, step: Any) -> None:
        self._step, self.x = step, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def step(self, state: Any, theta: Any, solution: Any, slope: Any, problem: Any) -> Any:
        self.x = solution.x.clone()
        return self._step.step(state, theta, solution, slope, problem)


def train(job: Job) -> Path:
    """Collect and learn as the trainer does, and look at every policy on the way."""
    use_one_thread()
    with tempfile.TemporaryDirectory() as unused:
        run = make_trainer([*job.overrides, f"total_steps={job.limit}", f"run_dir={unused}"])
    learner = run.agent.actor
    if job.environment == "lqr":
        run.state["actor"]["theta"][0] = START
    kept = Kept(learner.update.step)
    object.__setattr__(learner.update, "step", kept)
    measure = _returns(run) if job.environment == "cartpole" else _closed_form(run, kept)
    path = Path([], [], [], None)
    try:
        while run.steps < job.limit and not (job.stops and path.reached):
            batch = run.collector.collect(run.agent.policy(run.state))
            before, kept.x = run.state, None
            run.state, result = run.agent.learn(before, batch, run.minibatches)
            assert result.failure is None, result.failure
            run.steps += batch.steps
            value, error = measure(batch, before)
            path.steps.append(run.steps)
            path.values.append(value)
            path.errors.append(error)
            if path.reached is None and value >= BARS[job.environment]:
                path = path._replace(reached=run.steps)
    finally:
        run.collector.close()
    return path


def _returns(run: Any) -> Any:
    """The mean return of the episodes that ended in the last WINDOW steps, once there were that many."""
    tracker, ended = EpisodeTracker(run.collector.num_envs), deque[tuple[int, float]]()

    def measure(batch: Any, before: Any) -> tuple[float, float]:
        ended.extend((run.steps, value) for value in tracker.take(batch).returns)
        while ended and ended[0][0] <= run.steps - WINDOW:
            ended.popleft()
        return (float(np.mean([value for _, value in ended])) if ended and run.steps >= WINDOW else np.nan), np.nan

    return measure


def _closed_form(run: Any, kept: Kept) -> Any:
    """J of the policy after the update, and the error of the direction that was taken from the policy before it."""
    # a batch's gradient is a mean over states of weight gamma^t, and J a sum
    total = (1 - SYSTEM.gamma**HORIZON) / (1 - SYSTEM.gamma)

    def measure(batch: Any, before: Any) -> tuple[float, float]:
        k, log_sigma = before["actor"]["theta"].tolist()
        exact = SYSTEM.gradient(k, np.exp(log_sigma), "log_sigma") / total
        error = np.nan if kept.x is None else float(((kept.x.numpy() - exact) ** 2).sum() / (exact**2).sum())
        k, log_sigma = run.state["actor"]["theta"].tolist()
        return float(SYSTEM.J(k, np.exp(log_sigma))), error

    return measure

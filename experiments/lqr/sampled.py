"""Paths of learning through the trainer: whole episodes of the environment, a learned baseline, discounted weights.

Everything but the method and its step comes from conf/experiment/lqr.yaml. One update:

    vanilla   theta + length g / |g|                           algo=vpg step=trust_region, M = I
    natural   theta + alpha F^-1 g, predicted KL = radius      algo=npg
    trpo      the same direction, measured KL <= radius        algo=trpo
"""

from __future__ import annotations

import tempfile
from typing import NamedTuple

import numpy as np

from experiments._shared.building import make_trainer
from experiments.lqr.settings import FLOOR, HORIZON, Setting
from rlopt.parallel.processes import use_one_thread

_PRESETS = {
    "vanilla": ["algo=vpg", "step=trust_region", "step.largest=1e9"],
    "natural": ["algo=npg"],
    "trpo": ["algo=trpo"],
}
_UPDATES = 400  # at most; a path that has not ended by then is stuck


class Job(NamedTuple):
    """One training run."""

    setting: Setting
    method: str
    start: tuple[float, float]
    seed: int


class Path(NamedTuple):
    """What a run went through: one row per policy, the last of which was not rolled out."""

    job: Job
    policies: np.ndarray  # (N, 2) of (k, sigma)
    returns: np.ndarray  # (N,) mean discounted return of the episodes rolled out; the last is nan


def overrides(job: Job) -> list[str]:
    """The run as ``rlopt train`` takes it; theta's k alone is not among its options."""
    setting = job.setting
    radius = setting.length**2 / 2 if job.method == "vanilla" else setting.radius
    return [
        "experiment=lqr",
        *_PRESETS[job.method],
        f"step.radius={radius!r}",
        f"policy.scale={setting.scale}",
        f"policy.initial_sigma={job.start[1]!r}",
        f"env.kwargs.A={float(setting.system.A)!r}",
        f"env.kwargs.horizon={HORIZON}",
        f"env.num_envs={setting.envs}",
        f"batch_size={setting.envs * HORIZON}",
        f"gamma={setting.system.gamma!r}",
        f"seed={job.seed}",
        "evaluation.episodes=0",
    ]


def train(job: Job) -> Path:
    """Collect and learn as the trainer does, keeping theta between updates, until sigma falls below the floor."""
    use_one_thread()
    with tempfile.TemporaryDirectory() as unused:
        run = make_trainer([*overrides(job), f"run_dir={unused}"])
    run.state["actor"]["theta"][0] = job.start[0]
    policies, returns = [job.start], []
    try:
        while policies[-1][1] >= FLOOR and len(policies) <= _UPDATES:
            batch = run.collector.collect(run.agent.policy(run.state))
            discounted = batch.rewards * job.setting.system.gamma**batch.time
            returns.append(float(discounted.sum()) / job.setting.envs)
            run.state, result = run.agent.learn(run.state, batch, run.minibatches)
            if not result.scalars["step/accepted"] and job.method == "vanilla":
                break  # the next step would take sigma below 0, and so would any after it
            policies.append(job.setting.policy(run.state["actor"]["theta"].numpy()))
    finally:
        run.collector.close()
    returns += [np.nan] * (len(policies) - len(returns))
    return Path(job, np.array(policies), np.array(returns))

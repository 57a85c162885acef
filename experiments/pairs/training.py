"""One run of one pair, in a process of its own."""

from __future__ import annotations

import statistics
import time
from collections import deque

from experiments._shared.building import make_trainer
from rlopt.parallel.processes import use_one_thread
from rlopt.rollout.episodes import EpisodeTracker

KEYS = ["metric", "solver", "seed", "reached", "steps", "return_mean", "skipped", "seconds"]
LIMIT = 300_000  # environment steps
WANTED = 475.0  # mean return of the last EPISODES training episodes
EPISODES = 100
SETTINGS = ["algo=trpo", "env=cartpole", "policy.hidden=[16]", "critic.hidden=[16]", f"total_steps={LIMIT}"]
Run = tuple[str, str, int]  # metric, solver, seed


def train(run: Run) -> dict[str, object]:
    """One run, until it has reached WANTED or LIMIT."""
    use_one_thread()
    metric, solver, seed = run
    made = make_trainer([*SETTINGS, f"metric={metric}", f"solver={solver}", f"seed={seed}"])
    agent, collector, state = made.agent, made.collector, made.state
    counter, recent = EpisodeTracker(collector.num_envs), deque[float](maxlen=EPISODES)
    steps, skipped, reached, mean, start = 0, 0, False, 0.0, time.perf_counter()
    while steps < LIMIT and not reached:
        batch = collector.collect(agent.policy(state))
        state, result = agent.learn(state, batch, made.minibatches)
        steps += batch.steps
        skipped += result.skipped
        recent.extend(counter.take(batch).returns)
        mean = statistics.fmean(recent) if recent else 0.0
        reached = len(recent) == EPISODES and mean >= WANTED
    collector.close()
    seconds = round(time.perf_counter() - start, 1)
    values = [metric, solver, seed, int(reached), steps, round(mean, 1), skipped, seconds]
    return dict(zip(KEYS, values, strict=True))

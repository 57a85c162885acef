"""Scripted policies of simple_spread: random actions, and the assignment of agents to landmarks of least distance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np

AGENTS = 3
COAST = 0.3  # seconds that an agent goes on for at its speed: what a step without force leaves of it, summed up
NEAR = 0.05  # of the landmark, where no force is wanted
Policy = Callable[[dict[str, Any], np.random.Generator, Any], tuple[dict[str, int], Any]]


def random(seen: dict[str, Any], generator: np.random.Generator, plan: Any) -> tuple[dict[str, int], Any]:
    return {agent: int(generator.integers(5)) for agent in seen}, None


def assignment(seen: dict[str, Any], generator: np.random.Generator, plan: Any) -> tuple[dict[str, int], Any]:
    """Every agent goes to the landmark that the best assignment at the start gave it, the longer way first."""
    landmarks = {agent: row[4 : 4 + 2 * AGENTS].reshape(AGENTS, 2) for agent, row in seen.items()}
    if plan is None:
        far = np.linalg.norm(np.stack(list(landmarks.values())), axis=2)  # [agent, landmark]
        plan = min(permutations(range(AGENTS)), key=lambda p: sum(far[i, j] for i, j in enumerate(p)))
    actions = {}
    for i, (agent, row) in enumerate(seen.items()):
        way = landmarks[agent][plan[i]] - COAST * row[:2]
        axis = int(np.argmax(np.abs(way)))
        actions[agent] = 0 if abs(way[axis]) < NEAR else 1 + 2 * axis + int(way[axis] > 0)
    return actions, plan


POLICIES: dict[str, Policy] = {"random": random, "assignment": assignment}


def play(policy: Policy, games: int) -> float:
    """The mean return of an agent over games with seeds of their own."""
    from mpe2 import simple_spread_v3

    game, total = simple_spread_v3.parallel_env(), 0.0
    for number in range(games):
        generator, plan = np.random.default_rng(number), None
        seen, _ = game.reset(seed=1000 + number)
        while game.agents:
            actions, plan = policy(seen, generator, plan)
            seen, rewards, _, _, _ = game.step(actions)
            total += sum(rewards.values())
    game.close()
    return total / AGENTS / games

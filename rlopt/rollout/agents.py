"""Scalars of a game's agents, besides those of all episodes: episode/return is the mean over all agents' episodes.

| scalar              | is                                                                                         |
|---|---|
| agents/NAME/return  | mean return of this agent's episodes that ended in the rollout; of games of up to 16 agents |
| self_play/return    | mean return of the learning agents' episodes against the frozen policy                     |
| self_play/age       | updates since the frozen policy was the policy that learns                                 |
"""

from __future__ import annotations

import numpy as np

from rlopt.config.groups import SelfPlayOptions
from rlopt.envs.spec import EnvSpec
from rlopt.rollout.episodes import Episodes

MOST = 16  # agents with a curve of their own


def agent_scalars(spec: EnvSpec, self_play: SelfPlayOptions, update: int, episodes: Episodes) -> dict[str, float]:
    """The scalars of update number ``update``, from 1, whose rollout these episodes of all ranks ended in."""
    assert spec.agents is not None
    found: dict[str, float] = {}
    names = [_agent(spec, number) for number in episodes.environments]
    for name in spec.agents if len(spec.agents) <= MOST else ():
        returns = [total for total, own in zip(episodes.returns, names, strict=True) if own == name]
        if returns:
            found[f"agents/{name}/return"] = float(np.mean(returns))
    if self_play.every:
        found["self_play/age"] = float((update - 1) % self_play.every)
        if episodes.returns:
            found["self_play/return"] = float(np.mean(episodes.returns))
    return found


def _agent(spec: EnvSpec, row: int) -> str:
    """The name of the agent that has this row of the run."""
    assert spec.agents is not None
    copy, i = divmod(row, len(spec.learners[0]))
    return spec.agents[spec.learners[copy % len(spec.learners)][i]]

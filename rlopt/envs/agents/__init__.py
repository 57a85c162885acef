"""Games of several agents, by PettingZoo's parallel API: every agent is an environment of the one policy.

| what                                                                  | is in                    |
|---|---|
| `Game`: a game as one environment of Gymnasium, and its agents' rows  | `rlopt.envs.agents.game` |
| `AgentEnvs`: several copies of a game as a vector environment         | `rlopt.envs.agents.envs` |
| PettingZoo's games by their modules, such as mpe2.simple_spread_v3    | `rlopt.envs.agents.zoo`  |

`rlopt.guide.agents` says how to train on them.
"""

from rlopt.envs.agents.envs import AgentEnvs
from rlopt.envs.agents.game import FirstAgent, Game, is_game

__all__ = ["AgentEnvs", "FirstAgent", "Game", "is_game"]

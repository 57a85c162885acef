"""Several agents that share one policy, on games of PettingZoo's parallel API, and self-play.

```shell
rlopt train algo=ppo env=pettingzoo env.id=mpe2.simple_spread_v3
rlopt train algo=trpo env=pettingzoo env.id=pettingzoo.sisl.multiwalker_v9 env.kwargs.n_walkers=2
```

`scripts/bootstrap pettingzoo` installs what these two need. A game of one's own is a class or a function, as any
environment is: `env.id=./game.py:Game`, or `rlopt.train(env=Game)`. All its agents must have the same observations and
the same actions; others are refused by name, and a wrapper of the game, such as SuperSuit's, may pad them.

**Agents are environments of one policy** (parameter sharing: Gupta, Egorov and Kochenderfer 2017). `env.num_envs`
counts copies of the game, and every agent of every copy has a row in a rollout: 8 copies of 3 agents have 24.
`batch_size` and `total_steps` count the steps of all rows, so that `batch_size=2400` is 100 steps of each copy; it must
be a multiple of the rows, and the run says the arithmetic when it begins. Every preset works but `nac` and `enac`;
`reuse.batches` above 1 does not.

| what                        | is                                                                                   |
|---|---|
| an agent's episode          | from its first step to the one that terminates or truncates it, bootstrapped as ever |
| an agent that is not there  | has no part in the update, the critic, the normalisers, the returns or the counts    |
| a copy                      | is reset in the step in which its last agent ends                                    |
| `episode/return`            | the mean over the agents' episodes; `agents/NAME/return` is one agent's              |
| an evaluation's return      | of a whole game, the mean over its agents; `evaluation.episodes` counts games        |
| `env.agent_index=true`      | a one-hot of the agent's number behind its observation, so that agents can differ    |
| action masks                | as for one agent, see `rlopt.envs.masks`                                             |

`total_steps` counts the steps of agents that are not there as well: so a run has total_steps / batch_size updates.
`workers=K` divides the copies. A resumed run goes on to the bit, where the game follows from the seed of its reset.
`rlopt.load` gives the policy of one agent; with the agent's number it takes (observation, number). Gymnasium's
wrappers, changes by callbacks and `--save-episodes` are for one agent.

```python
import numpy as np
import rlopt
from gymnasium import spaces


class Meet:
    \"\"\"Two agents on a line are rewarded for being near each other, for 20 steps.\"\"\"

    metadata = {"render_modes": []}
    possible_agents = ["left", "right"]

    def observation_space(self, agent):
        return spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.agents, self.t = list(self.possible_agents), 0
        self.x = dict(zip(self.agents, np.random.default_rng(seed).normal(0, 3, 2)))
        return self.see(), {agent: {} for agent in self.agents}

    def step(self, actions):
        going, self.t = self.agents, self.t + 1
        for agent in going:
            self.x[agent] += 0.3 * (actions[agent] - 1)
        reward = -abs(self.x["left"] - self.x["right"])
        over = dict.fromkeys(going, self.t == 20)
        self.agents = [] if self.t == 20 else going
        return self.see(), dict.fromkeys(going, reward), dict.fromkeys(going, False), over, {}

    def see(self):
        return {a: np.array([self.x[a], self.x[b]], np.float32) for a, b in (("left", "right"), ("right", "left"))}

    def close(self):
        pass


trained = rlopt.train("algo=ppo", "env.num_envs=4", env=Meet, batch_size=1600, total_steps=16000)
policy = rlopt.load(trained.run_dir)
action = policy(np.array([0.0, 2.0]))  # of either agent
```

**Self-play** is for games with two sides. One side learns, a frozen copy of the policy plays the other, and is replaced
every n updates by the newest. With a game of your own, such as a class `Duel` in duel.py that is written like `Meet`:

```shell
rlopt train env.id=./duel.py:Duel algo=ppo self_play.every=5 run_dir=runs/duel
```

The first half of the agents is the first side, or `self_play.first=[red_*]` names it. By `self_play.side=alternate` it
learns in copies 0, 2, ... of the game, and the other side in the others; `first` and `second` let one side learn. Rows
are then copies times the agents of one side. `self_play/return` is the return against the frozen copy, and
`self_play/age` the updates since it was the newest. The copy acts by samples with its own frozen normaliser, and is in
checkpoints. Where the best answer to a policy is not the best policy, as in rock, paper, scissors, the latest copy
alone as opponent may lead in a circle. Evaluations let the policy play all sides: in a game whose rewards add up to 0
their return is 0, and so is no measure of a policy. Self-play is for one process, and for policies without memory.
"""

"""Second tutorial: your own environment, network and solver. Half an hour.

## An environment

A class with Gymnasium's methods, in any file. Nothing has to be registered:

```python
# room.py
import gymnasium as gym
import numpy as np


class Room(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)  # degrees off, degrees outside
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)  # cool or heat

    def __init__(self, outside=-5.0):
        self.outside = outside

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # draw everything from self.np_random: then a run can be repeated and resumed
        self.off, self.steps = self.np_random.normal(0, 3), 0
        return self.seen(), {}

    def step(self, action):
        self.off += 2 * float(action[0]) + 0.05 * (self.outside - self.off) + 0.1 * self.np_random.normal()
        self.steps += 1
        reward = -abs(self.off) - 0.1 * abs(float(action[0]))
        return self.seen(), reward, False, self.steps >= 50, {"is_success": abs(self.off) < 0.5}

    def seen(self):
        return np.array([self.off, self.outside], np.float32)
```

```shell
rlopt train env.id=room.py:Room total_steps=50000 record.info=[is_success] run_dir=runs/room
rlopt eval runs/room --import room.py
```

An episode that is cut off by a clock is *truncated* (the fourth value of `step`), one that comes to its end is
*terminated* (the third). rlopt bootstraps from the value of the last observation after the first and not after the
second, so that a clock teaches nothing wrong. `env.kwargs.outside=10` reaches the constructor. `rlopt.guide.ecosystem`
has the other ways to name an environment and its scalars, and masks, wrappers and images are in `rlopt.guide.choices`.

What to look at if it does not learn is at the end of `rlopt.guide.choosing`. Two frequent reasons: an action space
with wide bounds (`policy.initial_sigma` is in the action's own unit, 0.5 by default), and an observation that does
not show what matters (`rlopt.guide.memory`).

## A network

Any nn.Module, by a function of the observation space and the number of outputs. From Python:

```python
import rlopt
from room import Room
from torch import nn


def network(observation_space, outputs, generator):
    return nn.Sequential(nn.Linear(observation_space.shape[0], 32), nn.LayerNorm(32), nn.Tanh(), nn.Linear(32, outputs))


trained = rlopt.train("algo=acktr", env=Room, policy=network, total_steps=20_000, run_dir="runs/normed")
policy = rlopt.load(trained.run_dir, policy=network)
policy([1.0, -5.0])  # the action
```

All derivatives that metrics and solvers need come from the module itself: here K-FAC has Kronecker factors for the
Linear layers and an exact block for the LayerNorm. `rlopt.guide.extending` has the table of what each solver asks of
a network, and a network as a .yaml and a class, which the command line can choose.

## A solver

One .yaml and one .py beside it, in any folder of the shape of conf/. This one takes steps against the residual:

```yaml
# my_parts/solver/richardson.yaml
# x <- x + rate (g - (M + lambda I) x), from products
_target_: solver.richardson.Richardson
iterations: 20
rate: 0.1   # below 2 / (largest eigenvalue of M + lambda I)
```

```python
# my_parts/solver/richardson.py
from dataclasses import dataclass
import torch
from rlopt.core.parts import PRODUCT, Requirements, Solution

@dataclass(frozen=True)
class Richardson:
    iterations: int
    rate: float
    needs = frozenset({PRODUCT})
    requirements = Requirements()  # of the run around it: nothing

    def init(self):
        return {}

    def prepare(self, state, curvature, damping):
        def solve(g):
            x = torch.zeros_like(g)
            for _ in range(self.iterations):
                x = x + self.rate * (g - curvature.product(x) - damping * x)
            Mx = curvature.product(x)
            residual = (g - Mx - damping * x).norm() / g.norm()
            return Solution(x, self.iterations, residual, torch.dot(x, Mx), damping)

        return solve, state
```

```shell
rlopt train --extensions my_parts metric=fisher solver=richardson solver.iterations=50 run_dir=runs/richardson
rlopt inspect runs/richardson --extensions my_parts --metric fisher --solver richardson,cg
```

`inspect` says how far a direction is from the exact one. Its cosine was 0.92 after this run, CG's 1.00; the largest
eigenvalue was 13.5. With `solver.rate=0.3`, above the bound, CartPole was learned as well, and the cosine was -0.05
in the end: a curve of returns does not show that a solver is broken. Metrics, objectives, damping and steps go the
same way; `rlopt.core.parts` says what each must have. Code is loaded from the folders that the command line names and
from nowhere else, so `rlopt eval` and the like need `--extensions my_parts` too. `rlopt.guide.extending` has a
metric, wrappers and thousands of environments as tensors.

## The mathematics alone

Metrics and solvers work on any nn.Module, without a run:

```python
import torch, rlopt
from rlopt.core import heads

module, inputs = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(64, 4)
M = rlopt.curvature(module, heads.Categorical(3), inputs, metric="fisher")
x = rlopt.solve(M, M @ torch.ones(M.shape[0]), solver="kfac", damping=1e-2).x
```
"""

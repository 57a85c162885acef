"""A metric, a solver and an environment of your own: one .py and one .yaml each, in a folder that you name.

The folder has the shape of conf/, and `--extensions my_parts` makes its files choices like any others, for
`rlopt train`, `eval`, `inspect` and all other commands; without it they do not exist, whatever a config.yaml says.
`rlopt.core.parts` says what metrics, solvers, damping and steps must have; the shortest of rlopt's own are good models
(`rlopt.core.metrics.gauss_newton`, `rlopt.core.solvers.identity`). The README has a solver. From Python it is
`rlopt.train(..., extensions=["my_parts"])`.

A metric says what it can supply, and so which solvers fit it. This one is the Gauss-Newton metric with outputs of
different worth, C = diag(scales):

```yaml
# my_parts/metric/scaled.yaml
# outputs count by their scales
_target_: metric.scaled.Scaled
scales: [1.0, 4.0]   # one for each output
```

```python
# my_parts/metric/scaled.py
from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.checks import positive
from rlopt.core.curvature import PullBack
from rlopt.core.parts import PRODUCT, SEMIDEFINITE, Requirements


@dataclass(frozen=True)
class Scaled:
    scales: tuple[float, ...]

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, SEMIDEFINITE})
    requirements: ClassVar[Requirements] = Requirements()  # it asks for nothing else

    def __post_init__(self):
        for scale in self.scales:
            positive("scales", scale)  # a mistake on the command line then names the option

    def init(self):
        return {}  # state from one update to the next: plain tensors and numbers

    def bind(self, state, tape, head, samples, objective):
        scales = tape.outputs.new_tensor(self.scales)
        return PullBack(tape, samples.share, lambda t: t * scales), state  # t (B, O) -> C t
```

```shell
rlopt train --extensions my_parts env=cartpole metric=scaled solver=cg run_dir=runs/scaled
rlopt inspect runs/scaled --extensions my_parts --metric scaled,fisher --solver cg
```

An environment is whatever Gymnasium can make. A .py in my_parts/env registers it when rlopt starts; the .yaml gives
it a name and settings of its own, and `conf/recipe/ALGO-NAME.yaml` in your folder, where there is one, is taken up
with it:

```yaml
# my_parts/env/walk.yaml
# @package _global_
# keep a random walk near 0
defaults: [any, _self_]
env:
  name: walk
  id: Walk-v0
  num_envs: 8
```

```python
# my_parts/env/walk.py
import gymnasium as gym
import numpy as np


class Walk(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.x = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # all randomness from self.np_random, so that a run can be repeated and resumed
        self.x = self.np_random.normal()
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.x += float(action[0]) + 0.1 * self.np_random.normal()
        return np.array([self.x], np.float32), -self.x**2, False, False, {}


gym.register("Walk-v0", Walk, max_episode_steps=50)  # 50 steps truncate an episode; nothing terminates it
```

```shell
rlopt train --extensions my_parts env=walk run_dir=runs/walk
rlopt eval runs/walk --extensions my_parts --episodes 10
```
"""

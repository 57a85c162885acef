"""A metric, a solver, a network and an environment of your own: one .py and one .yaml each, in a folder outside rlopt.

The folder has the subfolders of conf/. `--extensions my_parts` makes its files choices like any others, in `rlopt
train`, `eval`, `inspect` and all other commands. Without it they do not exist, whatever a config.yaml says. From
Python, type `rlopt.train(..., extensions=["my_parts"])`.

`rlopt.core.parts` lists the methods of metrics, solvers, damping and steps, and what a part may ask of a run. Good
models are the shortest parts of rlopt: `rlopt.core.metrics.gauss_newton`, `rlopt.core.solvers.identity`,
`rlopt.core.steps.fixed`. `rlopt.guide.tutorial_own` has a solver. `.github/CONTRIBUTING.md` has a solver, a metric and
a policy network that become part of rlopt itself.

A metric declares what it supplies; this decides which solvers can be used with it. The following is the Gauss-Newton
metric with a weight for each output, C = diag(scales):

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
            positive("scales", scale)  # so that an error message names the option

    def init(self):
        return {}  # what the metric remembers between updates: plain tensors and numbers

    def bind(self, state, tape, head, samples, objective):
        scales = tape.outputs.new_tensor(self.scales)
        return PullBack(tape, samples.share, lambda t: t * scales), state  # t (B, O) -> C t
```

```shell
rlopt train --extensions my_parts env=cartpole metric=scaled solver=cg run_dir=runs/scaled
rlopt inspect runs/scaled --extensions my_parts --metric scaled,fisher --solver cg
```

A network is any torch.nn.Module from observations to outputs, made by a class with a method `build`. A critic's is the
same with a .yaml in my_parts/critic, whose last options are `variance: 1.0` and `compatible: null`. This one has a
residual branch behind layer normalisation:

```yaml
# my_parts/policy/residual.yaml
# residual layers
defaults: [_head, _self_]  # what every policy has: the distribution over actions
_target_: policy.residual.Residual
hidden: [64, 64]
```

```python
# my_parts/policy/residual.py
from dataclasses import dataclass

from torch import nn, relu


class Branch(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        return x + relu(self.layer(self.norm(x)))


@dataclass(frozen=True)
class Residual:
    hidden: tuple[int, ...]

    def build(self, observation_space, outputs, generator):
        first = nn.Linear(observation_space.shape[0], self.hidden[0])
        return nn.Sequential(first, *[Branch(self.hidden[0]) for _ in self.hidden], nn.Linear(self.hidden[0], outputs))
```

```shell
rlopt train --extensions my_parts env=cartpole algo=acktr policy=residual run_dir=runs/residual
```

From Python the function alone will do, and `rlopt.load` is then given it too:

```python
import rlopt
from torch import nn


def network(observation_space, outputs, generator):
    return nn.Sequential(nn.Linear(observation_space.shape[0], 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, outputs))


trained = rlopt.train("algo=trpo", "env=cartpole", policy=network, total_steps=2048, evaluation={"episodes": 2})
policy = rlopt.load(trained.run_dir, policy=network)
```

`rlopt.policy.own` says what such a network is given, such as dictionaries and images, and what is asked of it:

| a solver needs | of the network |
|---|---|
| products or the root alone: cg, dense, kaczmarz, ... | nothing; all derivatives come by autograd |
| layers: kfac, ekfac, diagonal, block, gram | Linear and Conv2d that run once; others with at most 4,096 numbers each |
| a chain: kfra | Linear layers and activations one after another in an nn.Sequential |

K-FAC has one Kronecker product for each Linear and Conv2d layer, whatever stands between them, and an exact dense block
for each other parameter, such as LayerNorm's (of more than 512 numbers for each 512). Within the encoder of a memory
it takes the parameters of Linear and Conv2d layers alone and refuses others, such as those of LayerNorm. A chain in an
nn.Sequential runs without autograd and is quicker; it may have an nn.LayerNorm between a Linear layer and its
activation.

An environment is anything that Gymnasium can make. A .py in my_parts/env registers it when rlopt starts. The .yaml
gives it a name and its settings. A file my_parts/recipe/ALGO-NAME.yaml, if there is one, is used when that algorithm
and this environment are chosen.

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
        super().reset(seed=seed)  # draw everything from self.np_random: then a run can be repeated and resumed
        self.x = self.np_random.normal()
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.x += float(action[0]) + 0.1 * self.np_random.normal()
        return np.array([self.x], np.float32), -self.x**2, False, False, {}


gym.register("Walk-v0", Walk, max_episode_steps=50)  # episodes are truncated after 50 steps, and never terminate
```

```shell
rlopt train --extensions my_parts env=walk run_dir=runs/walk
rlopt eval runs/walk --extensions my_parts --episodes 10
```

Thousands of such environments at once, on the processor or on a GPU, are a task over tensors: a state (E, S) for E
environments, how it begins and how it goes on. The ends of episodes, seeds and checkpoints are not its concern. It may
neither read a number of a tensor nor branch on one. A ``vector_entry_point`` is how Gymnasium's registry names it:

```yaml
# my_parts/env/drift.yaml
# @package _global_
# keep a thousand random walks near 0
defaults: [any, _self_]
env:
  name: drift
  id: Drift-v0
  num_envs: 1000
batch_size: 10000
```

```python
# my_parts/env/drift.py
import gymnasium as gym
import numpy as np
import torch

from rlopt.envs.tensor import Task


class Drift(Task):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    noise, start_size, step_size = "normal", 1, 1  # numbers that a beginning and a step take

    def start(self, noise):
        return noise

    def step(self, state, actions, noise):
        state = state + actions + 0.1 * noise
        return state, -state[:, 0] ** 2, torch.zeros_like(state[:, 0], dtype=torch.bool)  # it never terminates


gym.register("Drift-v0", vector_entry_point=Drift.envs, max_episode_steps=50)
```

```shell
rlopt train --extensions my_parts env=drift algo=trpo total_steps=50000 run_dir=runs/drift
rlopt eval runs/drift --extensions my_parts --episodes 10
```

A simulator of one's own has the members of `rlopt.envs.tensor.protocol` instead, or is Gymnasium's VectorEnv over
tensors: `rlopt.envs.tensor.adapter` says what is expected of it. Isaac Lab and ManiSkill have such by their
documentation; neither was tried. The entry point is a function of num_envs, device, dtype and env.kwargs, and of
max_episode_steps where the registry has it. An id that has an ordinary environment too needs ``env.backend=tensor``,
and evaluations use the ordinary one. Environments of an id that has nothing else are made once a run, on its device,
and every evaluation makes one more, on the processor: where a simulator allows one a process, type
``evaluation.episodes=0``.

A model in MuJoCo's MJCF becomes an environment by a reward in torch, for the states of all environments at once.
`rlopt.envs.mujoco.own` lists the methods and attributes that there are:

```python
# balance.py
from rlopt.envs.mujoco import MjcfEnv


class Balance(MjcfEnv):
    mjcf = '''
    <mujoco>
      <option timestep="0.02"/>
      <worldbody>
        <body name="cart">
          <joint name="slide" type="slide" axis="1 0 0" range="-1 1" limited="true" damping="0.1"/>
          <geom type="box" size="0.1 0.05 0.05" mass="1"/>
          <body name="pole">
            <joint name="hinge" type="hinge" axis="0 1 0"/>
            <geom type="capsule" fromto="0 0 0 0 0 0.6" size="0.02" mass="0.1"/>
          </body>
        </body>
      </worldbody>
      <actuator>
        <motor joint="slide" gear="10" ctrlrange="-1 1" ctrllimited="true"/>
      </actuator>
    </mujoco>
    '''  # or the name of a file beside this one
    limit = 100

    def reward(self, s, actions, speed, healthy):
        return 1 - s.qpos[:, 0] ** 2 - 0.1 * (actions**2).sum(1)

    def healthy(self, s):
        return s.qpos[:, 1].abs() < 0.3
```

```shell
rlopt train env.id=./balance.py:Balance algo=trpo total_steps=40000 run_dir=runs/balance
```

So it is simulated by MuJoCo in C. With the extra `warp` thousands are simulated on the GPU, by the same functions, and
so are Gymnasium's MuJoCo tasks. Evaluations stay in C. `rlopt.envs.warp` says where the two differ:

```shell
rlopt train env.id=./balance.py:Balance env.backend=warp env.num_envs=4096 batch_size=65536 device=cuda
rlopt train env=ant env.backend=warp env.num_envs=4096 batch_size=65536 device=cuda
```

Where some actions are not allowed, `info["action_mask"]` says so after every reset and step: 1 for every Discrete
action that is allowed, 0 for the others. `rlopt.envs.masks` has the details, and the other way to give a mask.

A wrapper is a class, or a function of an environment, in my_parts/wrapper:

```python
# my_parts/wrapper/clock.py
import gymnasium as gym


class Clock(gym.RewardWrapper):
    def reward(self, reward):
        return reward - 0.01  # every step costs something
```

```shell
rlopt train --extensions my_parts env=walk env.wrappers=[wrapper.clock:Clock,time_limit:30] run_dir=runs/short
```
"""

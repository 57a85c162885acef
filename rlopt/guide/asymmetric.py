"""A critic that sees more than the policy: simulators know what a robot's sensors do not show.

Only the policy leaves for the real world. The critic is of use in training alone, so that it may be given everything
that the simulator knows (Pinto, Andrychowicz, Welinder, Zaremba and Abbeel 2017, Asymmetric actor critic for
image-based robot learning). The environment returns a Dict with all of it, and each network is told its keys:

```python
# hold.py
import gymnasium as gym
import numpy as np


class Hold(gym.Env):
    one = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    observation_space = gym.spaces.Dict({"position": one, "hidden": gym.spaces.Dict({"velocity": one})})
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x, self.v = 0, 0.0, self.np_random.uniform(-0.3, 0.3)
        return self.seen(), {}

    def step(self, action):
        self.t, self.v = self.t + 1, self.v + (0.02 if action else -0.02)
        self.x += self.v
        return self.seen(), 1 - abs(self.x), False, self.t >= 30, {}

    def seen(self):
        x, v = np.array([self.x], np.float32), np.array([self.v], np.float32)
        return {"position": x, "hidden": {"velocity": v}}
```

```shell
rlopt train env.id=hold.py:Hold policy.keys=[position] critic.keys=[position,hidden.velocity] run_dir=runs/hold
```

`policy.keys` and `critic.keys` take any keys of the Dict, those of Dicts within it joined by dots; `hidden` alone would
be all of that Dict. null, the default, is all keys. They go with every algorithm and with action masks. With
`critic=shared` the critic is part of the policy's network and sees `policy.keys`. Each network's input is flattened,
encoded and normalised as if the environment had shown these keys alone. Watch `critic/explained_variance`.

A policy needs its own keys and no others, so that it acts where the others are not known. It may be given whole
observations too. `rlopt export` writes a graph of its own keys:

```python
import numpy as np
import rlopt

policy = rlopt.load("runs/hold")  # the environment need not be there
action = policy({"position": np.zeros(1, np.float32)})
rlopt.export(policy, "hold.pt2")
```
"""

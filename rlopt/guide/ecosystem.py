"""From other trainers to rlopt: environments, scalars, trackers, callbacks, and what to do with a policy.

**An environment of your own** needs no registration. Type the file and the class, or a function that makes one:

```python
# grid.py
import gymnasium as gym
import numpy as np


class Grid(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (2,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, size=4):
        self.size = size

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.t, self.x = self.t + 1, max(0, self.x + (1 if action else -1))
        arrived = self.x >= self.size
        return self.seen(), float(arrived), arrived, self.t >= 20, {"is_success": arrived, "place": self.x}

    def seen(self):
        return np.array([self.x / self.size, self.t / 20]).clip(0, 1)
```

```shell
rlopt train env.id=grid.py:Grid env.kwargs.size=3 record.info=[is_success,place] run_dir=runs/grid
rlopt eval runs/grid --import grid.py
```

The other ways are `env.id=MODULE:CLASS`, `--import FILE.py` or `--import MODULE` and an id that it registers, a folder
of `--extensions` (`rlopt.guide.extending`), and `rlopt.train(env=...)` with a class, a function or an environment
(`rlopt.envs.given`). Code runs because the command line or Python names it, and never because a run's folder does, so
`rlopt eval` wants `--import` again. `rlopt.load`, `rlopt export` and `rlopt card` do not need the environment.

**Scalars of your own** come from the environment's infos, here `info/is_success_at_end`, the success rate, and
`info/place`: `rlopt.rollout.infos`. They are in scalars.csv, in TensorBoard and in trackers, `rlopt report` draws them
below the returns, and `rlopt plot` one of them:

```shell
rlopt plot runs/grid --scalar info/is_success_at_end --out success.png
```

**Dashboards.** `record.names=sb3` adds the names that Stable-Baselines3 gives its scalars; `rlopt.loggers.sb3` has the
table of both. `record.tracker=wandb`, `mlflow` or `trackio` sends a run's record there too: `rlopt.loggers.trackers`.

```shell
rlopt train record.tracker=wandb record.project=cartpole record.names=sb3 run_dir=runs/tracked
```

**Callbacks** see a run and change it: `rlopt.training.callbacks`. This one is a curriculum that stops when it is done
(here the run is too short for that). If the process is killed, `rlopt.resume` goes on to the bit:

```python
import rlopt


def harder(moment, scalars):  # after every update
    level = min(1 + moment.steps // 1000, 3)
    moment.environments.call("set_noise_std", 0.1 * level)
    moment.record("curriculum/level", level)
    return level == 3 and scalars.get("episode/return", -100.0) > -10.0


options = {"env": "lqr", "policy": "linear", "batch_size": 400, "total_steps": 2000, "evaluation": {"episodes": 2}}
trained = rlopt.train("checkpoint.every_updates=1", on_update=harder, run_dir="runs/harder", **options)
trained = rlopt.resume("runs/harder", on_update=harder)
```

**A policy leaves** as one graph, with a card for a model hub, or as recorded episodes, for Minari and for
`rlopt clone`, which takes no masks of infos, no actions of a Dict or Tuple, and no policy with memory
(`rlopt.evaluation.recording`):

```shell
rlopt export runs/grid --out policy.onnx
rlopt card runs/grid
rlopt eval runs/grid --import grid.py --save-episodes episodes.npz
```

**Trained policies** can come with rlopt: `rlopt zoo` lists those that are there. ``zoo:NAME`` may stand for the folder
of a run, in `rlopt eval`, `inspect`, `export` and `card`, in `rlopt.load` and in `init.from`: `rlopt.checkpoint.zoo`.

```shell
rlopt zoo
```

**Small images**: `env=minatar env.id=MinAtar/Breakout-v1 policy=small_cnn critic=small_cnn` is one of five Atari games
on a grid of 10 x 10 cells (extra `minatar`, `rlopt.envs.minatar`).
"""

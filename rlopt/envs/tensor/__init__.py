"""Environments that are tensors: E of them are reset and stepped together, on one device, without leaving it.

`env.backend=tensor` and, for an id that has nothing else, `env.backend=auto` use them. A rollout is then collected
without a copy between the host and the device, and without waiting for the device (`rlopt.rollout.tensors`).

| what                                                            | is in                         |
|---|---|
| CartPole, Pendulum, Acrobot, MountainCarContinuous and the LQR  | `rlopt.envs.tensor.cartpole`, ... |
| what such environments do: `TensorEnvs`                         | `rlopt.envs.tensor.protocol`  |
| a task of one's own, as functions of its state: `Task`          | `rlopt.envs.tensor.task`      |
| a simulator with Gymnasium's VectorEnv whose arrays are tensors | `rlopt.envs.tensor.adapter`   |
| numbers that depend on an environment's own number alone        | `rlopt.envs.tensor.philox`    |

Evaluations and videos take Gymnasium's environment of the same id where there is one.
"""

from rlopt.envs.tensor.making import configure, make, make_one, only_tensors, serves, task_of
from rlopt.envs.tensor.protocol import Stepped, TensorEnvs
from rlopt.envs.tensor.task import Task

__all__ = ["Stepped", "Task", "TensorEnvs", "configure", "make", "make_one", "only_tensors", "serves", "task_of"]

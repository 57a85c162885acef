"""Environments that are tensors for tests, runs of them, and a mode that refuses whatever would wait for the device."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlopt.core.heads import Categorical
from rlopt.core.network import Network
from rlopt.envs.spaces import PolicyHead
from rlopt.envs.tensor.protocol import Stepped
from rlopt.envs.tensor.task import Task, TaskEnvs
from rlopt.policy.device import DevicePolicy
from rlopt.policy.normalisers import ObservationNormaliser

CPU = torch.device("cpu")
# what reads the device's memory on the host, or has a result whose size depends on it, or brings numbers from the host
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "lift_fresh", "_unique2"}


class NoWaiting(TorchDispatchMode):
    """Raises AssertionError at an operation that waits for the device, or that moves data to another one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        indices = args[1] if name in ("index", "index_put_", "index_put") else ()
        masks = any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)
        moves = name == "_to_copy" and kwargs.get("device") not in (None, args[0].device)
        assert name not in WAITS and not masks and not moves, f"{name} waits for the device"
        return func(*args, **kwargs)


class Replay(TorchDispatchMode):
    """A CUDA graph on the processor: every operation with the tensors it read and wrote, and nothing that Python did."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for func, args, kwargs, kept in self.operations:
            found = func(*args, **kwargs)
            for old, new in zip(*([x] if isinstance(x, Tensor) else x for x in (kept, found)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def recorded(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """What `rlopt.rollout.recorded.cuda_graph` does, on the processor."""
    with Replay() as operations:
        found = function()
    return found, operations.replay


class Course(Task):
    """Observation (step of the episode, its length); ends at its length, of 2 to 5 steps, or at the limit of 4."""

    observation_space = gym.spaces.Box(0, 9, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    limit = 4

    def start(self, noise: Tensor) -> Tensor:
        return torch.cat((torch.zeros_like(noise), (4 * noise + 2).floor()), -1)

    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        time, length = state.unbind(1)
        return torch.stack((time + 1, length), 1), time, time + 1 >= length


class Drift(Task):
    """A number that actions and noise move; seen as ``seen`` has it."""

    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)
    noise = "normal"
    step_size = 1

    def __init__(self, seen: Any = np.float32):
        self.observation_space = gym.spaces.Box(0, 1, (1,), seen)

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        following = 0.9 * state + 0.1 * actions + 0.1 * noise
        return following, -(following[:, 0] ** 2), following[:, 0].abs() > 2


class Seen(TaskEnvs):
    """Drift's observations in another type: whether the number is above 0."""

    def reset(self, seed: int, first: int = 0) -> Tensor:
        return self._shown(super().reset(seed, first))

    def step(self, actions: Tensor) -> Stepped:
        found = super().step(actions)
        return found._replace(observation=self._shown(found.observation), last=self._shown(found.last))

    def _shown(self, x: Tensor) -> Tensor:
        return (x > 0).to(getattr(torch, str(self.observation_space.dtype)))


class Simulator:
    """A stand-in for a simulator with Gymnasium's VectorEnv over tensors, as Isaac Lab and ManiSkill have.

    An episode lasts 3 steps and is truncated, of environment 0 it terminates. Observations are a Dict's "policy" where
    ``nested``; ``final`` is the name in infos of the last observations, None: there are none.
    """

    def __init__(
        self, num_envs: int = 4, nested: bool = False, final: str | None = "final_obs", saves: bool = False, **_: Any
    ):
        self.num_envs, self._nested, self._final = num_envs, nested, final
        own = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_observation_space = gym.spaces.Dict(policy=own, other=own) if nested else own
        self.single_action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.closed = False
        self._shown = torch.zeros(num_envs, 2)  # the same memory for every observation
        if saves:
            self.state: Callable[[], Any] = lambda: {"x": self._x, "time": self._time}
            self.restore: Callable[[Any], Any] = lambda state: self._put(state["x"], state["time"])

    def _put(self, x: Tensor, time: Tensor) -> None:
        self._x, self._time = x.clone(), time.clone()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed or 0)
        self._put(torch.randn(self.num_envs, generator=generator), torch.zeros(self.num_envs))
        return self._observation(), {}

    def step(self, actions: Tensor) -> tuple[Any, ...]:
        assert actions.dtype == torch.float32 and actions.shape == (self.num_envs, 1)
        self._x, self._time = self._x + 0.1 * actions[:, 0], self._time + 1
        over = self._time >= 3
        ends = over & (torch.arange(self.num_envs) == 0)
        last, reward = torch.stack((self._x, self._time), 1), -self._x.abs()
        self._x, self._time = torch.where(over, 0.5, self._x), torch.where(over, 0.0, self._time)
        info = {} if self._final is None else {self._final: self._named(last)}
        return self._observation(), reward, ends, over & ~ends, info

    def close(self) -> None:
        self.closed = True

    def _observation(self) -> Any:
        self._shown.copy_(torch.stack((self._x, self._time), 1))
        return self._named(self._shown)

    def _named(self, x: Tensor) -> Any:
        return {"policy": x, "other": torch.zeros_like(x)} if self._nested else x


def course(num_envs: int, device: torch.device = CPU, dtype: torch.dtype = torch.float64) -> TaskEnvs:
    return Course.envs(num_envs, device, dtype)


def policy_for(
    size: int, head: PolicyHead | None = None, device: torch.device = CPU
) -> tuple[PolicyHead, DevicePolicy]:
    """A head, and a small policy of it for observations of ``size`` numbers, in float64."""
    head = head or Categorical(2)
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(size, 8), torch.nn.Tanh(), torch.nn.Linear(8, head.network_outputs)
    ).double()
    network = Network(module, head.constants)
    theta = network.layout.flatten(module, head.initial_constants().double()).to(device)
    normaliser = ObservationNormaliser(True, 10.0)
    state = normaliser.merge(normaliser.init(size), torch.randn(50, size).double())
    return head, DevicePolicy(network, head, normaliser, theta, state)

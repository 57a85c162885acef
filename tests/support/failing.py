"""Environments that fail in a known way, for tests of what is told of it and what is left.

Raises and Breaks fail at a given step, Fails when it is made, reset, stepped or closed, NotFinite gives numbers that are
none, Misfit what its spaces do not promise, and Strict takes no action but a finite one.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlopt.checkpoint import manager as checkpoint
from rlopt.errors import EnvironmentFault
from rlopt.rollout.seeding import Purpose, integer
from rlopt.training.trainer import Trainer


class Raises(gym.Env):
    """Fails at its step number ``at``, counted from 1 over all episodes; with 0 at its first reset."""

    def __init__(self, at: int, render_mode: str | None = None):
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._at, self._steps = at, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self._at == 0:
            raise RuntimeError("the simulator did not start")
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == self._at:
            raise RuntimeError("the simulator broke")
        return np.zeros(1, np.float32), 1.0, self._steps % 5 == 0, False, {}


class Breaks(gym.Env):
    """Environment number ``which`` of a run with seed 0 raises, dies or hangs at its step ``at``, counted from 1.

    If ``how`` is "holds" it hangs in compiled code that keeps other threads of Python from running. If it is "dawdles"
    it takes 20 ms over every step; if it is "reset" it raises when it is reset after that step.
    """

    def __init__(self, how: str, which: int, at: int, render_mode: str | None = None):
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._how, self._seed, self._at = how, integer(0, Purpose.ENVIRONMENT, which), at
        self._broken, self._steps = False, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._broken |= seed == self._seed
        if self._broken and self._how == "reset" and self._steps >= self._at:
            raise RuntimeError("the simulator did not start again")
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._broken and self._how == "dawdles":
            time.sleep(0.02)
        elif self._broken and self._how != "reset" and self._steps == self._at:
            if self._how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._how == "hangs":
                time.sleep(1000)
            while self._how == "spins":
                pass
            if self._how == "holds":
                time.sleep(0)
                ctypes.PyDLL(None).sleep(1000)
            if self._how == "exits":
                sys.exit(0)
            if self._how == "interrupts":
                raise KeyboardInterrupt
            if self._how == "odd":
                raise type("Odd", (Exception,), {"__reduce__": None})("that is not sent between processes")
            raise RuntimeError("the simulator broke")
        return np.zeros(1, np.float32), 1.0, self._steps % 5 == 0, False, {}


class Fails(gym.Env):
    """Raises, exits, hangs or dawdles, as ``how`` has it, whenever it is ``when``: made, reset, stepped or closed.

    Only while it is ``armed`` and, with ``elsewhere``, in a child of the tests' process.
    """

    armed: ClassVar[bool] = True

    def __init__(self, how: str, when: str, elsewhere: bool = False, render_mode: str | None = None):
        self.observation_space = spaces.Box(-9, 9, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._how, self._when, self._elsewhere = how, when, elsewhere
        self._met("made")

    def _met(self, when: str) -> None:
        if self.armed and when == self._when and (multiprocessing.parent_process() or not self._elsewhere):
            if self._how == "raises":
                raise OSError(f"the simulator cannot be {when}")
            if self._how == "exits":
                sys.exit(0)
            time.sleep(0.01 if self._how == "dawdles" else 1000)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._met("reset")
        return self.np_random.normal(size=1).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._met("stepped")
        observation = self.np_random.normal(size=1).astype(np.float32)
        return observation, 1.0, bool(observation > 3), False, {}

    def close(self) -> None:
        self._met("closed")


class NotFinite(gym.Env):
    """Gives ``value`` as ``what`` ("reward" or "observation") from its step ``since`` to ``until``, counted from 1."""

    def __init__(
        self,
        what: str,
        since: int,
        until: int = 10**9,
        value: float = np.nan,
        wide: bool = False,
        render_mode: str | None = None,
    ):
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._what, self._since, self._until, self._value, self._steps = what, since, until, value, 0
        self._type = np.float64 if wide else np.float32  # of bad observations; a wide one is ten times its value

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.normal(size=1).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        observation, reward = self.np_random.normal(size=1).astype(np.float32), float(action)
        if self._since <= self._steps <= self._until:
            observation, reward = (
                (np.full(1, self._value * (10 if self._type is np.float64 else 1), self._type), reward)
                if self._what == "observation"
                else (observation, self._value)
            )
        return observation, reward, self._steps % 5 == 0, False, {}


class InvalidOutput(gym.Env):
    """Its step ``at``, counted from 1 (0: its first reset), gives as ``what`` that which GIVEN has under ``how``."""

    GIVEN = {
        "short": np.zeros(1, np.float32), "long": np.zeros(4, np.float32), "rows": np.zeros((3, 1), np.float32),
        "nothing": None, "text": np.array(["a", "b", "c"]), "complex": np.zeros(3, complex), "ragged": [[1.0], 2.0, 3.0],
        "number": 0.5, "list": [1.0, 2.0, 3.0], "double": np.zeros(3), "whole": np.zeros(3, np.int64),
        "array": np.ones(1), "two": [1.0, 2.0], "string": "1.0", "imaginary": 1j, "truth": True, "scalar": np.float32(1),
        "undefined": np.nan,
    }  # fmt: skip

    def __init__(self, what: str, how: str, at: int, render_mode: str | None = None):
        self.observation_space = spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._what, self._given, self._at, self._steps = what, self.GIVEN[how], at, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._given if self._at == 0 else np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._steps += 1
        found = {"observation": np.zeros(3, np.float32), "reward": 1.0, "terminated": self._steps % 5 == 0}
        if self._steps == self._at:
            found[self._what] = self._given
        return found["observation"], found["reward"], found["terminated"], False, {}


class Strict(gym.Env):
    """Ends the run where an action is not finite, as some simulators end the process."""

    def __init__(self, bound: float, render_mode: str | None = None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-bound, bound, (2,), np.float32)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert np.isfinite(action).all(), f"{action} would end this process"
        self._steps += 1
        return np.ones(1, np.float32), float(-np.square(action).sum()), self._steps % 5 == 0, False, {}


def breaking(how: str, which: int, at: int, count: int) -> list[str]:
    """Overrides: of ``count`` environments number ``which`` does so at its step ``at``."""
    return ["env.id=probe/Breaks-v0", f"env.num_envs={count}", f"env.kwargs.how={how}", f"env.kwargs.which={which}",
            f"env.kwargs.at={at}"]  # fmt: skip


def failed(run: Trainer, saved: int) -> str:
    """What is told of a run that fails after it was saved at this step."""
    with pytest.raises(EnvironmentFault) as caught:
        run.run()
    run_dir, message = run.run_dir, str(caught.value)
    assert "\n" not in message
    said, _, rest = message.partition(f", after step {saved}; ")
    assert f"saved in {run_dir}" in rest
    assert checkpoint.load_newest(run_dir)[0] == saved
    assert str(caught.value.__cause__).split("\n")[0] in (run_dir / "error.txt").read_text()
    return said

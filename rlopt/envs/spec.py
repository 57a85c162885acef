"""EnvSpec: which environment a run uses, how one is made, and the error messages where it cannot be made."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import torch

import rlopt.tasks  # noqa: F401  # registers rlopt's own environments
from rlopt.core.checks import at_least_one, between, check
from rlopt.envs import minatar, tensor
from rlopt.envs.agents import zoo
from rlopt.envs.agents.game import game_of, seen_by_one
from rlopt.envs.explaining import explain
from rlopt.envs.given import StandIn, make_own
from rlopt.envs.mujoco import MujocoEnvs, log_warnings, task_of
from rlopt.envs.observations import as_image, check_observation_space, describe_kind, unmasked
from rlopt.envs.pool import EnvPoolEnv, EnvPoolEnvs, check_id
from rlopt.envs.spaces import has_mask_key
from rlopt.envs.tensor import TensorEnvs
from rlopt.envs.trial import NO_REPLAY, CountedCalls, Trial, class_values, try_to_continue
from rlopt.envs.vector import StepCounter, SyncEnvs
from rlopt.envs.watchdog import watched
from rlopt.envs.wrappers import FAULTS, CheckedEnv, guard
from rlopt.errors import EnvironmentFault, UserError, needs_extra
from rlopt.loggers import console
from rlopt.parallel.processes import describe_exit

if TYPE_CHECKING:
    from rlopt.envs.agents import AgentEnvs, Game
    from rlopt.envs.masks import MaskedEnv

BACKENDS = ("auto", "sync", "mujoco", "envpool", "tensor", "warp")
_KNOWN = ("gymnasium.", "rlopt.")  # modules whose environments are known by their ids
_CONSTRUCTED = 77  # exit code of a process that has tried a constructor
_FORK = 1.0  # seconds that the process may take to start
_classes: dict[str, type[Any]] = {}  # of environments that were made, by their ids
_made: set[str] = set()  # ids made before: Gymnasium warns once of an old version
_not_closed: dict[str, bool] = {}  # ids of environments that could not be closed -> True if closing did not return


@dataclass(frozen=True)
class EnvSpec:
    """Which environment a run uses, and how many of them side by side, over all workers and ranks."""

    name: str
    id: str
    num_envs: int  # of a game of several agents the rows: copies times learning agents
    backend: str  # one of BACKENDS; see rlopt.envs.vector
    timeout: float | None  # seconds for a step, a reset, making or closing one environment; None: no limit
    kwargs: dict[str, Any]  # for gymnasium.make
    mask: Literal["auto", "info", "none"] = "auto"  # where an action mask comes from, see rlopt.envs.masks
    nconmax: int | None = None  # of backend=warp: room for contacts of an environment, and for rows of constraints;
    njmax: int | None = None  # None: by a dry run, see rlopt.envs.warp.sizes
    deterministic: bool = True  # of backend=warp: a GPU too gives the same bits again
    wrappers: tuple[str, ...] = ()  # the first is the outermost; see rlopt.envs.named_wrappers
    own_wrappers: Mapping[str, Callable[..., gym.Env]] = field(default_factory=dict)  # of the user, by their entries
    image: str = "none"  # whether observations are images, as observations.as_image has it
    own: Callable[..., Any] | None = None  # the user's own class or function; None: Gymnasium's registry has the id
    info: tuple[str, ...] = ()  # entries of every step's info that are recorded, see rlopt.rollout.infos
    around: Callable[[gym.Env], gym.Env] | None = None  # what is put around each environment, within rlopt's checks
    stand_in: tuple[gym.Space, gym.Space] | None = None  # the spaces of an environment that is not to be made
    stagger: bool = False  # the first episodes of a task's tensors are cut off at random times, see tensor.task
    graph: bool = False  # the steps of a rollout are one CUDA graph, see rlopt.rollout.recorded
    agents: tuple[str, ...] | None = None  # of a game, see rlopt.envs.agents; None: one agent, or not known yet
    agent_index: bool = False  # the agents of a game see their numbers too
    learners: tuple[tuple[int, ...], ...] = ()  # agents of a game that learn, in its copies by turns

    def __post_init__(self) -> None:
        at_least_one("num_envs", self.num_envs)
        if self.backend == "async":
            raise ValueError(f"backend must be {' or '.join(BACKENDS)}; async was removed: workers=K runs K processes")
        check(self.backend in BACKENDS, "backend", " or ".join(BACKENDS), self.backend)
        foreign = self.backend == "mujoco" or (self.backend == "warp" and self._module.startswith(_KNOWN))
        if foreign and task_of(self.id) is None:
            own = ", ".join(sorted(id for id in gym.registry if task_of(id)))
            raise ValueError(
                f"backend={self.backend} steps {own}, and {self.id} is none of them; type env.backend=sync"
            )
        for name in ("nconmax", "njmax"):
            if getattr(self, name) is not None:
                at_least_one(name, getattr(self, name))
        if self.backend == "tensor" and self.id in gym.registry and not tensor.serves(self.id):
            own = ", ".join(sorted(id for id in gym.registry if tensor.task_of(id)))
            raise ValueError(
                f"backend=tensor steps {own}, and environments with a vector_entry_point of their own; {self.id} is "
                "none of them; type env.backend=sync"
            )
        if self.wrappers:
            from rlopt.envs.named_wrappers import check_entries

            check_entries(self.wrappers)
            if self.agents:
                raise ValueError("wrappers are for one agent; put PettingZoo's around the game in a function of yours")
            if self.steps_by != "sync":
                raise ValueError(f"wrappers are not for backend={self.backend}, which steps all as one; choose sync")
        one_by_one = self.steps_by in ("sync", "agents")
        if self.info and not one_by_one:
            raise ValueError(f"backend={self.backend} steps all as one, without infos; for record.info choose sync")
        name = "graph" if self.graph else "stagger"
        check(not getattr(self, name) or self.steps_by == "tensor", name, "false, but for env.backend=tensor", True)
        check(self.mask != "info" or one_by_one, "mask", "auto or none with this env.backend", self.mask)
        if self.timeout is not None:
            between("timeout", self.timeout, 0.01, 1e6)  # timers take no more

    @property
    def steps_by(self) -> str:
        """The backend that is used: sync, mujoco, envpool, tensor or warp; agents for a game of several."""
        if self.agents:
            return "agents"
        if self.backend == "auto" and tensor.only_tensors(self.id) and not self.wrappers:
            return "tensor"
        if self.backend == "auto":
            return "sync" if self.wrappers or self.info or task_of(self.id) is None else "mujoco"
        return self.backend

    @property
    def as_tensors(self) -> bool:
        """True where environments are tensors on the run's device."""
        return self.steps_by in ("tensor", "warp")

    @property
    def in_background(self) -> bool:
        """True where a thread collects while the networks learn: MuJoCo lets other threads run."""
        return self.steps_by == "mujoco"

    def make(self, render_mode: str | None = None) -> CheckedEnv | MaskedEnv:
        """One environment whose observations are a Box, with a mask behind them if it has any, and are checked.

        Raises UserError, with what to do instead, where it cannot be made or rlopt cannot use its observations.
        """
        env = self.make_unchecked(render_mode)
        try:
            return self._checked(env)
        except UserError as error:
            env.close()
            raise UserError(f"env.id={self.id}: {error}") from error

    def _checked(self, env: gym.Env) -> CheckedEnv | MaskedEnv:
        """The environment with rows that are checked, and a mask behind them if it has any. Raises UserError."""
        found = getattr(env, "observation_space", None)
        if not isinstance(actions := getattr(env, "action_space", None), gym.Space):
            check_observation_space(found)
            raise UserError(f"its action_space is {describe_kind(actions)}, and no space of gymnasium.spaces")
        if self.mask == "info" or (self.mask == "auto" and has_mask_key(found, actions)):
            from rlopt.envs.masks import with_mask

            return with_mask(env, self.image)
        check_observation_space(found)
        checked = CheckedEnv(env)
        checked.observation_space = as_image(checked.observation_space, self.image)
        return checked

    def make_game(self, render_mode: str | None = None) -> Game:
        """One game of several agents. Its ``close`` prints an error instead of raising it."""
        return game_of(self.make_unchecked(render_mode))

    def make_vector(
        self,
        first: int = 0,
        count: int | None = None,
        counter: StepCounter | None = None,
        like: tuple[gym.Space, gym.Space] | None = None,
    ) -> SyncEnvs | MujocoEnvs | EnvPoolEnvs | AgentEnvs:
        """``count`` environments, by default all, that are stepped together; the first has the number ``first``.

        ``counter`` follows which environment is being stepped. All must have the observations and actions ``like``, by
        default those of the first: raises EnvironmentFault where one has others.
        """
        count = self.num_envs if count is None else count
        if self.learners:
            from rlopt.envs.agents import AgentEnvs

            rows = len(self.learners[0])
            return AgentEnvs([self.make_game] * (count // rows), self.learners, first // rows, counter, like, self.info)
        if self.steps_by == "sync":
            return SyncEnvs([self.make] * count, first, counter, like, self.info)
        with closing(self.make()) as example:
            if self.steps_by == "mujoco":
                return MujocoEnvs(self.id, example, self.kwargs, count, first, counter)
            return EnvPoolEnvs(self.id, example, count, self.kwargs)

    def make_tensors(self, device: torch.device, dtype: torch.dtype) -> TensorEnvs:
        """All environments as tensors on ``device``, in their computations of the type ``dtype``; of Warp float32.

        Raises UserError where they cannot be made.
        """
        if self.backend == "warp":
            return self._make_warp(device)
        example = None if tensor.task_of(self.id) is None else self.make()
        try:
            with watched(lambda: None, self.timeout, lambda: f"env.id={self.id}, when it was made,"):
                made = tensor.make(self.id, deepcopy(self.kwargs), self.num_envs, device, dtype, example)
            tensor.configure(made, self.stagger, self.graph)
            made.observation_space = as_image(made.observation_space, self.image)
            return made
        except EnvironmentFault:
            raise
        except FAULTS as error:
            raise UserError(explain(error, self.id, self.kwargs, self.own is not None)) from error
        finally:
            if example is not None:
                example.close()

    def _make_warp(self, device: torch.device) -> TensorEnvs:
        """All environments in MuJoCo Warp. No watchdog waits for it: it may compile kernels for minutes."""
        from rlopt.envs import warp

        with closing(self.make()) as example:
            try:
                simulation = warp.simulation_of(self.id, example, self.kwargs)
                return warp.WarpEnvs(simulation, self.num_envs, device, self.nconmax, self.njmax, self.deterministic)
            except UserError as error:
                raise UserError(explain(error, self.id, self.kwargs, self.own is not None)) from error

    def make_players(self, count: int) -> SyncEnvs | MujocoEnvs:
        """``count`` environments for whole episodes, each of which is given a seed; of tensors alone one."""
        others = {"envpool": "sync", "tensor": "sync", "warp": "auto"}
        spec = replace(self, info=(), backend=others.get(self.steps_by, self.backend), stagger=False, graph=False)
        if self._only_in_pool:
            spec = replace(spec, own=partial(EnvPoolEnv, self.id))
        count = 1 if tensor.only_tensors(self.id) else count
        envs = spec.make_vector(count=count)
        assert isinstance(envs, SyncEnvs | MujocoEnvs)
        return envs

    def gives_mask(self, env: gym.Env) -> bool:
        """True where env.mask=auto has to become info: the info of the first reset of ``env`` holds an action mask.

        An environment that fails or hangs gives none: the run itself will report the failure.
        """
        if self.mask != "auto" or env.observation_space is not unmasked(env.observation_space):
            return False
        if self.steps_by not in ("sync", "agents"):
            return False
        try:
            with watched(lambda: None, self.timeout, lambda: f"env.id={self.id}, at its first reset,"):
                return "action_mask" in env.reset(seed=0)[1]
        except FAULTS:
            return False

    def try_constructor(self) -> None:
        """Make one in a process of its own, where it cannot end this one; Gymnasium's and rlopt's own are trusted.

        Only on Linux, and not within a multiprocessing.Pool, whose processes may have no children. Raises UserError
        where that process ends, EnvironmentFault where it hangs; other errors are left to `make`.
        """
        trusted = self._module.startswith(_KNOWN) and not self.own_wrappers
        trusted = trusted or tensor.only_tensors(self.id)  # which may need a GPU, and no forked process can use that
        if trusted or sys.platform != "linux" or multiprocessing.current_process().daemon:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads: it uses none of them
            process = multiprocessing.get_context("fork").Process(target=self._construct, daemon=True)
            process.start()
        process.join(None if self.timeout is None else self.timeout + _FORK)
        if process.is_alive():
            process.kill()
            process.join()
            raise EnvironmentFault(
                f"env.id={self.id}, when it was made, has not come back for env.timeout={self.timeout:g} seconds"
            )
        if process.exitcode != _CONSTRUCTED:
            raise UserError(f"env.id={self.id} ends its process when it is made: it {describe_exit(process)}")

    def _construct(self) -> None:
        """The life of the process that tries the constructor. It prints nothing."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            self._wrap(self._gym_make(None))  # it is not closed: that may hang, which is another fault
        finally:
            os._exit(_CONSTRUCTED)

    def class_values(self) -> dict[str, Any]:
        """The plain attributes of the environment's classes, as they are now in this process."""
        return class_values(_classes[self.id]) if self.id in _classes else {}

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Observations and actions as the environment declares them, before observations are flattened."""
        env = self.make_unchecked()
        env.close()
        if self.mask == "auto" and has_mask_key(env.observation_space, env.action_space):
            parts = dict(env.observation_space.spaces)  # type: ignore[attr-defined]
            parts["observation"] = as_image(parts["observation"], self.image)
            return gym.spaces.Dict(parts), env.action_space
        return as_image(env.observation_space, self.image), env.action_space

    def try_to_continue(self) -> Trial:
        """Try on two environments whether a resumed run can continue in the middle of its episodes."""
        if self.steps_by == "envpool":
            return NO_REPLAY
        if self.steps_by in ("mujoco", "tensor", "warp"):
            return Trial(False, None)  # it saves whole states
        calls, make = [0], self.make_game if self.agents else self.make
        pair = CountedCalls(make(), calls), CountedCalls(make(), calls)
        try:
            with watched(calls.copy, self.timeout, lambda: f"env.id={self.id}, when it was tried,"):
                return try_to_continue(*pair)
        finally:
            for env in pair:
                env.close()

    def make_unchecked(self, render_mode: str | None = None) -> gym.Env:
        """Gymnasium's environment. Its ``close``, whoever calls it, prints an error instead of raising it."""
        with watched(lambda: None, self.timeout, lambda: f"env.id={self.id}, when it was made,"):
            env = self._wrap(self._gym_make(render_mode))
        _classes[self.id] = type(env.unwrapped)
        env = env if self.around is None else self.around(env)
        close = env.close
        env.close = lambda: self._close(close)  # type: ignore[method-assign]
        return env

    def _close(self, close: Callable[[], None]) -> None:
        """Close an environment. If it fails or hangs, print that once for this id; if it hangs, close no other."""
        if _not_closed.get(self.id):
            return
        subject = f"env.id={self.id}, when it was closed,"
        try:
            with watched(lambda: None, self.timeout, lambda: subject), guard(lambda: subject):
                close()
        except EnvironmentFault as fault:
            if self.id not in _not_closed:
                console.info(f"rlopt: {fault}; it is left as it is")
            _not_closed[self.id] = fault.__cause__ is None  # a fault of the watchdog has no cause

    def _wrap(self, env: gym.Env) -> gym.Env:
        if not self.wrappers:
            return env
        from rlopt.envs.named_wrappers import wrap

        try:
            return wrap(env, self.wrappers, self.own_wrappers)
        except UserError:
            env.close()
            raise

    def _gym_make(self, render_mode: str | None) -> gym.Env:
        if self.stand_in is not None:
            return StandIn(*self.stand_in)
        if self.steps_by == "envpool":
            check_id(self.id)
        if self.id.startswith("ALE/") and self.id not in gym.registry:
            _register_atari(self.id)
        if self.id.startswith("MinAtar/") and self.id not in gym.registry:
            minatar.register(self.id)
        try:
            if self._module.startswith("gymnasium.envs.mujoco"):
                log_warnings()
            with warnings.catch_warnings():
                if self.id in _made:
                    warnings.filterwarnings("ignore", ".* is out of date", DeprecationWarning)
                _made.add(self.id)
                if tensor.only_tensors(self.id):
                    return tensor.make_one(self.id, deepcopy(self.kwargs))
                # each has options of its own, and is asked for a way to render only where it is to be drawn
                given = deepcopy(self.kwargs) | ({} if render_mode is None else {"render_mode": render_mode})
                if self.own is not None or zoo.is_zoo(self.id):
                    made = zoo.make(self.id, given) if self.own is None else make_own(self.own, given)
                    return seen_by_one(made, self._checked, self.agent_index)
                if self._only_in_pool:
                    return EnvPoolEnv(self.id, **given)
                return gym.make(self.id, disable_env_checker=True, **given)
        except EnvironmentFault:  # the watchdog's
            raise
        except FAULTS as error:
            raise UserError(explain(error, self.id, self.kwargs, self.own is not None)) from error

    @property
    def _only_in_pool(self) -> bool:
        return self.steps_by == "envpool" and self.id not in gym.registry

    @property
    def _module(self) -> str:
        """The module that Gymnasium's registry names for this id."""
        spec = gym.registry.get(self.id)
        return str(spec.entry_point) if spec else ""


def _register_atari(id: str) -> None:
    """Register the games of the Arcade Learning Environment. Raises UserError where ale-py is not installed."""
    try:
        import ale_py
    except ImportError as error:
        raise UserError(needs_extra(f"env.id={id} needs a package that is not installed", "atari")) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # or it greets at each environment
    gym.register_envs(ale_py)

"""WarpEnvs: E environments of one model in MuJoCo Warp, whose arrays torch reads and writes where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlopt.envs.mujoco.task import Physics
from rlopt.envs.tensor.philox import Noise
from rlopt.envs.tensor.protocol import Stepped
from rlopt.envs.warp.simulation import Simulation
from rlopt.envs.warp.sizes import Sizes, dry_run, roomy
from rlopt.errors import EnvironmentFault, UserError, in_one_line, needs_extra
from rlopt.loggers import console
from rlopt.parallel.ranks import is_first_rank

# what a step takes over from the one before, of those that a model has
_CARRIED = ("time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl", "history", "plastic", "mocap_pos", "mocap_quat")
_AT_ONCE = 2**20  # numbers of noise that are drawn at once


class WarpEnvs:
    """See `rlopt.envs.tensor.protocol.SavedEnvs`. ``nconmax`` and ``njmax`` are those of `sizes`; None: by a dry run.

    With ``deterministic`` a GPU too gives the same bits again. Kernels are compiled here where Warp's cache lacks them.
    Raises UserError where the extra is missing, or for what MuJoCo Warp does not have.
    """

    def __init__(
        self,
        simulation: Simulation,
        num_envs: int,
        device: torch.device,
        nconmax: int | None = None,
        njmax: int | None = None,
        deterministic: bool = True,
    ):
        self._warp, self._mujoco_warp = warp, mujoco_warp = import_warp()
        self.num_envs, self.device, self.task = num_envs, device, simulation.task
        self.observation_space, self.action_space = simulation.observation_space, simulation.action_space
        self._frame_skip, self._limit = simulation.frame_skip, simulation.limit
        self._place = warp.device_from_torch(device)
        self._like = torch.empty(0, dtype=torch.float32, device=device)
        with self._placed():
            self._model = _put_model(mujoco_warp, simulation.model)
            if deterministic and device.type == "cuda":  # on the processor it is by itself
                self._model.opt.deterministic = int(mujoco_warp.DeterminismType.ALL)
            self.sizes = _sizes(simulation, self._model.nxn_geom_pair_filtered.numpy(), nconmax, njmax)
            self._data = mujoco_warp.make_data(simulation.model, num_envs, **self.sizes._asdict())
        self.task.prepare(self._like)
        self._begin = tuple(torch.as_tensor(x).to(self._like) for x in simulation.begin)
        self.physics = Physics(**{name: self._view(name) for name in self.task.reads})
        self._carried = {name: x for name in _CARRIED if (x := self._view(name)).numel()}
        self._initial = {name: x.clone() for name, x in self._carried.items() if name not in ("qpos", "qvel")}
        known = {"qpos", "qvel", "ctrl", "cfrc_ext"}  # what a beginning is seen by without a pass of MuJoCo's
        self._derives = not known.issuperset(self.task.reads)
        self._rows = max(1, _AT_ONCE // (num_envs * self.task.start_size))
        self._counters = [self._view(name) for name in ("nacon", "ncollision", "nefc")]
        self._needed = torch.zeros(2, dtype=torch.int32, device=device)  # the most contacts, of all, and rows
        self._graphs: dict[str, Any] = {}
        if is_first_rank():
            console.info(
                f"rlopt: env.backend=warp has room for env.nconmax={self.sizes.nconmax} contacts and env.njmax="
                f"{self.sizes.njmax} rows of constraints; kernels that Warp's cache lacks are compiled now, for minutes"
            )
        self._compile()

    def reset(self, seed: int, first: int = 0) -> Tensor:
        self._noise = Noise(seed, first, self.num_envs, self.device)
        self._clock, self._drawn = 0, -self._rows  # resets and steps so far, and the first whose noise is there
        self._elapsed = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        observation = self._begin_anew(everywhere)
        self._places = self.task.place(self.physics).clone()
        return observation

    def step(self, actions: Tensor) -> Stepped:
        task, s = self.task, self.physics
        actions = actions.to(self._like.dtype)
        self._carried["ctrl"].copy_(actions)
        self._run(self._steps)
        places, last, healthy = task.place(s).clone(), task.observe(s).clone(), task.healthy(s)
        reward = task.reward(s, actions, (places - self._places) / task.dt, healthy)
        bad = ~(self._carried["qpos"].sum(1) + self._carried["qvel"].sum(1)).isfinite()
        terminated = bad if healthy is None or not task.ends_unhealthy else ~healthy | bad
        self._elapsed = self._elapsed + 1
        truncated = torch.zeros_like(bad) if self._limit is None else self._elapsed >= self._limit
        over = terminated | truncated
        self._elapsed = self._elapsed.masked_fill(over, 0)
        observation = torch.where(over[:, None], self._begin_anew(over), last)
        self._places = torch.where(over, task.place(s), places)
        return Stepped(observation, reward, terminated, truncated, last)

    def state(self) -> dict[str, Tensor]:
        own = {"elapsed": self._elapsed, "places": self._places, "clock": torch.full_like(self._elapsed, self._clock)}
        return {**self._carried, **own}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, x in self._carried.items():
            x.copy_(state[name].view_as(x))
        self._elapsed, self._places = (
            state[name].to(x).view_as(x).clone() for name, x in (("elapsed", self._elapsed), ("places", self._places))
        )
        self._clock, self._drawn = int(state["clock"][0]), -self._rows

    def check(self) -> None:
        """Raise EnvironmentFault where there was no room for all contacts or constraints of a step since the beginning.

        It waits for the device, and is for once a rollout.
        """
        flags, kinds = self._view("overflow").cpu(), self._mujoco_warp.OverflowType
        room = self.sizes.nconmax * self.num_envs
        contacts, rows = self._needed.tolist()  # of the last of MuJoCo's steps within each
        contacts, rows = max(contacts, room + 1), max(rows, self.sizes.njmax + 1)
        if (flags & (kinds.NEFC | kinds.NJMAX_NNZ)).any():
            raise EnvironmentFault(
                f"an environment had {rows} rows of constraints or more, and env.njmax={self.sizes.njmax} has room for "
                f"{self.sizes.njmax}; type env.njmax={roomy(rows)}"
            )
        if (flags & (kinds.BROADPHASE | kinds.NARROWPHASE | kinds.CCD)).any():
            raise EnvironmentFault(
                f"{self.num_envs} environments had {contacts} contacts or more, with those of bounding spheres, and "
                f"env.nconmax={self.sizes.nconmax} has room for {room}; type "
                f"env.nconmax={roomy(-(-contacts // self.num_envs))}"
            )

    def close(self) -> None:
        pass

    def _compile(self) -> None:
        """Run all kernels once, and on a GPU record them as graphs: their solver waits for the device otherwise."""
        self.reset(0)
        self._run(self._steps)
        if self.device.type == "cuda":
            with self._warp.ScopedDevice(self._place):  # its own stream: the one that torch uses cannot be recorded
                self._warp.synchronize_device()
                for work in (self._steps, self._derive):
                    with self._warp.ScopedCapture() as capture:
                        work()
                    self._graphs[work.__name__] = capture.graph
        self._view("overflow").zero_()
        self._needed.zero_()

    def _run(self, work: Callable[[], None]) -> None:
        """Let Warp work, by the graph of it where there is one."""
        with self._placed():
            if graph := self._graphs.get(work.__name__):
                self._warp.capture_launch(graph)
            else:
                work()

    def _steps(self) -> None:
        """MuJoCo's steps within one of the environment, and the forces of contacts where the task reads them."""
        for _ in range(self._frame_skip):
            self._mujoco_warp.step(self._model, self._data)
        if self.task.contact_forces:
            self._mujoco_warp.rne_postconstraint(self._model, self._data)

    def _derive(self) -> None:
        """All that follows from positions and velocities."""
        self._mujoco_warp.forward(self._model, self._data)

    def _begin_anew(self, over: Tensor) -> Tensor:
        """Begin an episode where ``over`` (E,); the observations (E, D) of all, of which those count.

        What else a beginning is observed by is computed of all environments: asking which have ended would wait.
        """
        self._count()
        begins = dict(zip(("qpos", "qvel"), self._tick(), strict=True))
        for name, x in self._carried.items():
            begun = begins[name] if name in begins else self._initial[name]
            x.copy_(torch.where(over.view(-1, *[1] * (x.ndim - 1)), begun, x))
        if self._derives:
            self._run(self._derive)
        if "cfrc_ext" in self.task.reads:
            self.physics.cfrc_ext.masked_fill_(over[:, None, None], 0.0)
        return self.task.observe(self.physics).clone()

    def _count(self) -> None:
        """Keep the most contacts and rows that a step needed."""
        contacts, pairs, rows = self._counters
        most = torch.cat((torch.maximum(contacts, pairs), rows.amax(0, keepdim=True)))
        self._needed = torch.maximum(self._needed, most)

    def _tick(self) -> tuple[Tensor, Tensor]:
        """Positions and velocities (E, ...) of episodes that begin now."""
        if not self._drawn <= self._clock < self._drawn + self._rows:
            self._drawn = self._clock
            noise = self._noise.draw("uniform", self._clock, self._rows, self.task.start_size, self._like.dtype)
            self._begins = self.task.start(noise, *self._begin)
        row = self._clock - self._drawn
        self._clock += 1
        qpos, qvel = self._begins
        return qpos[row], qvel[row]

    def _view(self, name: str) -> Tensor:
        """An array of Warp's, as a tensor of the same memory."""
        found: Tensor = self._warp.to_torch(getattr(self._data, name))
        return found

    @contextmanager
    def _placed(self) -> Iterator[None]:
        """Within, Warp works on the device, and on a GPU in the order of torch's operations."""
        with ExitStack() as stack:
            stack.enter_context(self._warp.ScopedDevice(self._place))
            if self.device.type == "cuda":
                stream = self._warp.stream_from_torch(torch.cuda.current_stream(self.device))
                stack.enter_context(self._warp.ScopedStream(stream, sync_enter=False))
            yield


def import_warp() -> tuple[Any, Any]:
    """The packages warp and mujoco_warp, which print errors alone from now on. Raises UserError without them."""
    try:
        import warp

        warp.config.log_level = max(warp.config.log_level, warp.LOG_ERROR)
        import mujoco_warp

        warp.init()
    except ImportError as error:
        raise UserError(needs_extra("env.backend=warp needs a package that is not installed", "warp")) from error
    return warp, mujoco_warp


def _put_model(mujoco_warp: Any, model: Any) -> Any:
    """MuJoCo's model for MuJoCo Warp. Raises UserError where it has something that Warp does not serve."""
    import mujoco

    if model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP:
        raise UserError("env.backend=warp serves no sleeping bodies; leave out the flag sleep of the model")
    solver = model.opt.solver
    try:
        if solver == mujoco.mjtSolver.mjSOL_PGS:
            model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        made = mujoco_warp.put_model(model)
    except (NotImplementedError, ValueError) as error:
        said = in_one_line(error).rstrip(".")
        raise UserError(f"MuJoCo Warp cannot simulate this model: {said}; type env.backend=sync") from error
    finally:
        model.opt.solver = solver
    made.opt.warn_overflow = 0  # `WarpEnvs.check` tells
    return made


def _sizes(simulation: Simulation, pairs: np.ndarray, nconmax: int | None, njmax: int | None) -> Sizes:
    """The sizes that were chosen, or those of a dry run."""
    if nconmax is None or njmax is None:
        found = dry_run(simulation, pairs)
        nconmax, njmax = nconmax or found.nconmax, njmax or found.njmax
    return Sizes(nconmax, njmax)

"""rlopt from Python: the trainer, and the curvature machinery on any nn.Module. Reached as rlopt.train and so on.

    trained = rlopt.train(algo="trpo", env="cartpole", total_steps=50_000)
    policy = rlopt.load(trained.run_dir)
    action = policy(observation)

    M = rlopt.curvature(module, heads.Categorical(3), inputs, metric="fisher")
    s = rlopt.solve(M, g, solver="cg", damping=1e-2)

A run is trained with one thread of torch: small networks are slower on more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from rlopt.checkpoint.format import unpack
from rlopt.checkpoint.zoo import run_folder
from rlopt.config import check_config, read_config
from rlopt.config.catalogue import make_part
from rlopt.config.choices import choices, nearest, parts
from rlopt.config.extensions import PYTHON, extended, given_environment, modules_of
from rlopt.config.options import RunConfig
from rlopt.config.overrides import take_env_kwargs, to_overrides
from rlopt.config.saved import load_run
from rlopt.core.curvature import Curvature
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import Metric, Objective, Solution, Solver
from rlopt.core.samples import Samples
from rlopt.envs.given import Given, given, named
from rlopt.errors import UserError, needs_extra
from rlopt.files import shown
from rlopt.files.reading import read_json
from rlopt.loggers import console
from rlopt.parallel import ranks
from rlopt.policy import own
from rlopt.policy.policy import Policy
from rlopt.rollout.buffer import Rollout
from rlopt.training.callbacks import Callbacks, RunContext
from rlopt.training.continuing import read_run
from rlopt.training.factory import build
from rlopt.training.restore import load_policy
from rlopt.training.run_directory import choose_run_directory, exclusive_run_directory
from rlopt.training.trainer import Trainer

if TYPE_CHECKING:
    from rlopt.report.runs import Series


class Trained(NamedTuple):
    """A run that has ended. In a notebook its last line shows the curve: ``rlopt.train(...).plot()``."""

    run_dir: Path
    summary: dict[str, Any]  # as in summary.json; of a run that was interrupted steps and return_mean alone

    def scalars(self, *names: str) -> dict[str, Series]:
        """Steps and values (N,) of these scalars, see rlopt.loggers.logger, or of all that were recorded.

        Raises rlopt.errors.UserError where one was not.
        """
        from rlopt.loggers import csv
        from rlopt.report.runs import read_scalars

        table = self.run_dir / csv.NAME
        known = csv.names_within(table) if table.exists() else ["episode/return"]
        found = read_scalars(self.run_dir, names or known)
        for name in names:
            if name not in found:
                raise UserError(f"{shown(self.run_dir)} has recorded no {name}{nearest(name, known)}")
        return found

    def plot(self, *names: str) -> Any:
        """A matplotlib figure of these scalars over environment steps, by default of the training return.

        A notebook shows it where it is the last line of a cell. Raises rlopt.errors.UserError without the extra `plot`.
        """
        try:
            from rlopt.report.figures import of_run
        except ImportError as error:
            raise UserError(needs_extra("a figure needs matplotlib and scipy", "plot")) from error
        return of_run(self.scalars(*(names or ("episode/return",))))


def train(
    *overrides: str,
    on_begin: Callable[[RunContext, Mapping[str, Any]], object] | None = None,
    on_rollout: Callable[[RunContext, Rollout], object] | None = None,
    on_update: Callable[[RunContext, Mapping[str, float]], object] | None = None,
    on_checkpoint: Callable[[RunContext, Path], object] | None = None,
    on_end: Callable[[RunContext, Mapping[str, Any]], object] | None = None,
    extensions: str | Path | Sequence[str | Path] = (),
    **options: Any,
) -> Trained:
    """Train once, as ``rlopt train OVERRIDES`` would, and return the run's folder and summary.

    Choices and options are the command line's, as text (``"step.radius=0.02"``) or by keyword: ``seed=1``,
    ``step="kl_clip"``, and ``policy={"hidden": [64, 64]}`` for ``policy.hidden``. Numbers, text, None, lists and
    dictionaries in ``env={"kwargs": {...}}`` reach the environment as they are. For the callbacks see
    rlopt.training.callbacks; for ``extensions``, folders of parts of one's own, rlopt.config.extensions.

    ``env`` may be a class of gymnasium.Env, a function that makes one, or an environment, see rlopt.envs.given; further
    options of it are then text, ``"env.num_envs=4"``. ``policy`` and ``critic`` may be functions (observation_space,
    outputs, generator) -> nn.Module, see rlopt.policy.own; `load` and `resume` then need them too.

    Raises rlopt.errors.UserError, before anything is written, where the choices cannot be used together.
    """
    callbacks = _callbacks(
        on_begin=on_begin, on_rollout=on_rollout, on_update=on_update, on_checkpoint=on_checkpoint, on_end=on_end
    )
    networks = {name: options.pop(name) for name in ("policy", "critic") if callable(options.get(name))}
    env = options.get("env")
    if isinstance(env, gym.vector.VectorEnv):
        typed = {override.partition("=")[0] for override in overrides}
        options = {**{k: v for k, v in named(options.pop("env")).items() if k not in typed}, **options}
        env = None
    known = None if env is None or isinstance(env, str | Mapping) else given(options.pop("env"), PYTHON)
    modules = [] if known else modules_of(_typed_ids(overrides, options))
    if known:
        options["env.id"] = known.id
    with _prepared("train", extensions, modules, networks, known):
        env_kwargs, others = take_env_kwargs(options)
        names = {name: f"{f.__module__}.{getattr(f, '__qualname__', type(f).__name__)}" for name, f in networks.items()}
        config = read_config([*overrides, *to_overrides(others)], env_kwargs, names)
        run_dir = choose_run_directory(config)
        run = _build(config, run_dir)
        run.callbacks = callbacks
        with closing(run.collector), exclusive_run_directory(run_dir, new=True):
            return _to_end(run)


def resume(
    run_dir: str | Path,
    *overrides: str,
    on_begin: Callable[[RunContext, Mapping[str, Any]], object] | None = None,
    on_rollout: Callable[[RunContext, Rollout], object] | None = None,
    on_update: Callable[[RunContext, Mapping[str, float]], object] | None = None,
    on_checkpoint: Callable[[RunContext, Path], object] | None = None,
    on_end: Callable[[RunContext, Mapping[str, Any]], object] | None = None,
    extensions: str | Path | Sequence[str | Path] = (),
    env: Any = None,
    policy: own.Function | None = None,
    critic: own.Function | None = None,
) -> Trained:
    """Continue a run from its newest checkpoint, as ``rlopt resume`` would; a finished run is left as it is.

    The run goes on to the bit where the callbacks are those that `train` was given and depend on nothing but what they
    are called with. ``env``, ``policy`` and ``critic`` are as for `train`, if it was given them.
    """
    callbacks = _callbacks(
        on_begin=on_begin, on_rollout=on_rollout, on_update=on_update, on_checkpoint=on_checkpoint, on_end=on_end
    )
    run_dir = Path(run_dir).absolute()
    networks = {name: f for name, f in (("policy", policy), ("critic", critic)) if f is not None}
    known = None
    if env is not None:
        id = str(load_run(run_dir, needs_environment=False)["env"]["id"])
        known = given(env, PYTHON)._replace(id=id)
    with _prepared("resume", extensions, (), networks, known), exclusive_run_directory(run_dir):
        plain, path, content = read_run(run_dir, overrides, _say)
        if content is None and path is not None:
            return Trained(run_dir, read_json(run_dir / "summary.json"))
        run = _build(check_config(plain), run_dir, resumed=content is not None)
        with closing(run.collector):
            if begun := run.restore(unpack(content, path, run.agent.device) if path and content else None):
                _say(f"the episodes of environments {begun} cannot be continued: these begin new ones")
            run.callbacks = callbacks
            return _to_end(run)


def _to_end(run: Trainer) -> Trained:
    """Train to the end. An interrupt says how to go on; in a notebook, or at Python's prompt, it ends the run alone."""
    try:
        return Trained(run.run_dir, run.run())
    except KeyboardInterrupt:
        saved = run.checkpoints.describe_saved(run.steps)
        _say(f"stopped at step {run.steps:,}; {saved}. To go on: rlopt.resume({str(shown(run.run_dir))!r})")
        if not hasattr(sys, "ps1"):
            raise
        known = {"algo": run.config.algo, "env": run.config.env.id, "seed": run.config.seed, "steps": run.steps}
        return Trained(run.run_dir, {**known, "return_mean": run.mean_return()})


def load(
    run_dir: str | Path,
    extensions: str | Path | Sequence[str | Path] = (),
    best: bool = False,
    policy: own.Function | None = None,
    critic: own.Function | None = None,
) -> Policy:
    """The policy of a run's newest checkpoint, on the CPU, frozen. Loading runs no code from the folder.

    ``run_dir`` may be zoo:NAME, a policy that comes with rlopt, see rlopt.checkpoint.zoo. The environment need not be
    installed: a checkpoint holds its spaces. With ``best`` it is the policy of the checkpoint with the highest return:
    in periodic evaluations, else in training. ``policy`` and ``critic`` are the functions that made the networks, if
    `train` was given some. Raises rlopt.errors.UserError where the folder holds no run or no whole checkpoint.
    """
    with extended(_folders(extensions)), own.functions(policy=policy, critic=critic):
        return load_policy(run_folder(run_dir), best)


def _callbacks(**given: Callable[..., object] | None) -> Callbacks:
    for name, call in given.items():
        if call is not None and not callable(call):
            raise UserError(f"{name} must be a function; got {call!r}")
    return Callbacks(**{name: call for name, call in given.items() if call is not None})


def _typed_ids(overrides: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The overrides, and what the options say of env.id, as an override."""
    env = options.get("env")
    id = options.get("env.id") or (env.get("id") if isinstance(env, Mapping) else None)
    return [*overrides, *([f"env.id={id}"] if isinstance(id, str) else [])]


def _build(config: RunConfig, run_dir: Path, resumed: bool = False) -> Trainer:
    if resumed or not config.init.given:
        return build(config, run_dir, resumed)
    from rlopt.training.initial import start_from

    return build(config, run_dir, begin=start_from)


@contextmanager
def _prepared(
    name: str,
    extensions: str | Path | Sequence[str | Path],
    modules: Sequence[str],
    networks: Mapping[str, Any],
    env: Given | None,
) -> Iterator[None]:
    """Within, what is the user's own is there, and torch has one thread."""
    if ranks.is_distributed():
        typed = "resume RUN_DIR" if name == "resume" else name
        raise UserError(f"rlopt.{name} is for one process; under torchrun start `-m rlopt {typed}`")
    for name, network in networks.items():
        if isinstance(network, nn.Module):
            raise UserError(
                f"{name} must be a function (observation_space, outputs, generator) -> nn.Module, as sizes follow from "
                "the environment; got a module"
            )
    makes = given_environment(env.id, env.make) if env else nullcontext()
    with extended(_folders(extensions), modules), makes, _one_thread(), own.functions(**networks):
        yield


def _folders(extensions: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    """One folder may be given as it is."""
    return [extensions] if isinstance(extensions, str | Path) else extensions


def _say(message: str) -> None:
    console.info(f"rlopt: {message}")


class Matrix:
    """A metric M (P, P) at a module's parameters; P counts ``module.parameters()`` in order, then the head's scale."""

    def __init__(self, bound: Curvature, theta: Tensor, supplies: frozenset[str], metric: str):
        self.bound, self.theta, self.supplies, self.metric = bound, theta, supplies, metric

    @property
    def shape(self) -> tuple[int, int]:
        return self.bound.size, self.bound.size

    @torch.no_grad()
    def __matmul__(self, v: Tensor) -> Tensor:
        """M v, (P,) -> (P,)."""
        return self.bound.product(v)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """M as a tensor (P, P); small networks only."""
        return self.bound.dense()


def curvature(
    module: nn.Module,
    head: Head,
    inputs: Tensor,
    metric: str | Metric = "fisher",
    *,
    actions: Tensor | None = None,
    weights: Tensor | None = None,
    objective: str | Objective = "log_prob",
    advantages: Tensor | None = None,
) -> Matrix:
    """The metric of ``module``, whose outputs (B, O) ``head`` reads as a distribution, on inputs (B, ...).

    ``actions`` (B, ...) are needed by metrics that look at what was done (empirical Fisher, GGN, ...); those that look
    at an objective take ``objective`` and ``advantages`` (B,), which are 1 by default; ``weights`` (B,) >= 0 weigh the
    samples, equally by default. Raises ValueError where the metric's name is unknown, it needs actions that are not
    given, or the sizes do not fit.
    """
    part = _part("metric", metric)
    network = Network(module, head.constants)
    parameters = list(module.parameters())
    like = parameters[0] if parameters else inputs
    theta = network.layout.flatten(module, head.initial_constants().to(like))
    count = len(inputs)
    for name, value in (("actions", actions), ("weights", weights), ("advantages", advantages)):
        if value is not None and len(value) != count:
            raise ValueError(f"{name} must have one entry for each of the {count} inputs; got {len(value)}")
    name = metric if isinstance(metric, str) else type(metric).__name__
    if actions is None and part.requirements.reads_actions:
        raise ValueError(f"metric {name!r} looks at the actions that were taken; give actions=..., {count} of them")
    with torch.no_grad():
        tape = network.tape(theta, inputs)
        samples = Samples(
            inputs=inputs,
            actions=head.mode(tape.outputs) if actions is None else actions,
            weight=torch.ones(count).to(like) if weights is None else weights,
            advantages=torch.ones(count).to(like) if advantages is None else advantages,
            old_outputs=tape.outputs,
        )
        samples = samples.replacing(old_log_prob=head.log_prob(tape.outputs, samples.actions))
        bound, _ = part.bind(part.init(), tape, head, samples, _part("objective", objective))
    return Matrix(bound, theta, part.supplies, name)


@torch.no_grad()
def solve(M: Matrix, g: Tensor, solver: str | Solver = "cg", damping: float = 0.0) -> Solution:
    """x with (M + damping I) x = g as nearly as ``solver`` promises; g (P,).

    Raises ValueError where the solver cannot serve the metric, naming those that can.
    """
    part = _part("solver", solver)
    if lacking := part.needs - M.supplies:
        able = [name for name in parts("solver") if _part("solver", name).needs <= M.supplies]
        raise ValueError(
            f"solver {solver!r} cannot serve metric {M.metric!r}: it needs {', '.join(sorted(lacking))}. "
            f"These can: {', '.join(able)}"
        )
    apply, _ = part.prepare(part.init(), M.bound, damping)
    solution: Solution = apply(g)
    return solution


def _part(group: str, given: Any) -> Any:
    """A part by its name in conf/, with the options there, or the part itself."""
    if not isinstance(given, str):
        return given
    known = choices(group)
    if given not in known:
        raise ValueError(f"there is no {group} {given!r}{nearest(given, known)}; {group} is one of {', '.join(known)}")
    return make_part(group, given)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

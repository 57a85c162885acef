"""rlopt from Python: the trainer, and the curvature machinery on any nn.Module. Reached as rlopt.train and so on.

    trained = rlopt.train(algo="trpo", env="cartpole", total_steps=50_000)
    policy = rlopt.load(trained.run_dir)
    action = policy(observation)

    M = rlopt.curvature(module, heads.Categorical(3), inputs, metric="fisher")
    s = rlopt.solve(M, g, solver="cg", damping=1e-2)

A run is trained with one thread of torch: small networks are slower on more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlopt.config import check_config, read_config
from rlopt.config.catalogue import make_part
from rlopt.config.choices import choices, nearest, parts
from rlopt.config.extensions import extended
from rlopt.config.overrides import take_env_kwargs, to_overrides
from rlopt.config.saved import load_run
from rlopt.core.curvature import Curvature
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import Metric, Objective, Solution, Solver
from rlopt.core.samples import Samples
from rlopt.errors import UserError
from rlopt.parallel import ranks
from rlopt.policy import own
from rlopt.policy.policy import Policy
from rlopt.rollout.buffer import Rollout
from rlopt.training.callbacks import Callbacks, RunContext
from rlopt.training.factory import build
from rlopt.training.restore import restore_run
from rlopt.training.run_directory import choose_run_directory, exclusive_run_directory


class Trained(NamedTuple):
    """A finished run."""

    run_dir: Path
    summary: dict[str, Any]  # as in summary.json


def train(
    *overrides: str,
    on_begin: Callable[[RunContext, Mapping[str, Any]], object] | None = None,
    on_rollout: Callable[[RunContext, Rollout], object] | None = None,
    on_update: Callable[[RunContext, Mapping[str, float]], object] | None = None,
    on_checkpoint: Callable[[RunContext, Path], object] | None = None,
    on_end: Callable[[RunContext, Mapping[str, Any]], object] | None = None,
    extensions: Sequence[str | Path] = (),
    **options: Any,
) -> Trained:
    """Train once, as ``rlopt train OVERRIDES`` would, and return the run's folder and summary.

    Choices and options are the command line's, as text (``"step.radius=0.02"``) or by keyword: ``seed=1``,
    ``step="kl_clip"``, and ``policy={"hidden": [64, 64]}`` for ``policy.hidden``. Numbers, text, None, lists and
    dictionaries in ``env={"kwargs": {...}}`` reach the environment as they are. For the callbacks see
    rlopt.training.callbacks; for ``extensions``, folders of parts of one's own, rlopt.config.extensions.

    ``policy`` and ``critic`` may be functions (observation_space, outputs, generator) -> nn.Module, see
    rlopt.policy.own; `load` then needs them too.

    Raises rlopt.errors.UserError, before anything is written, where the choices cannot be used together.
    """
    if ranks.is_distributed():
        raise UserError("rlopt.train is for one process; under torchrun start `-m rlopt train`")
    given = {"on_begin": on_begin, "on_rollout": on_rollout, "on_update": on_update, "on_checkpoint": on_checkpoint,
             "on_end": on_end}  # fmt: skip
    networks = {name: options.pop(name) for name in ("policy", "critic") if callable(options.get(name))}
    for name, network in networks.items():
        if isinstance(network, nn.Module):
            raise UserError(
                f"{name} must be a function (observation_space, outputs, generator) -> nn.Module, as sizes follow from "
                "the environment; got a module"
            )
    with extended(extensions), _one_thread(), own.functions(**networks):
        env_kwargs, others = take_env_kwargs(options)
        names = {name: f"{f.__module__}.{getattr(f, '__qualname__', type(f).__name__)}" for name, f in networks.items()}
        config = read_config([*overrides, *to_overrides(others)], env_kwargs, names)
        run_dir = choose_run_directory(config)
        if config.init.given:
            from rlopt.training.initial import start_from

            run = build(config, run_dir, begin=start_from)
        else:
            run = build(config, run_dir)
        run.callbacks = Callbacks(**{name: call for name, call in given.items() if call is not None})  # type: ignore[arg-type]
        with closing(run.collector), exclusive_run_directory(run_dir, new=True):
            return Trained(run_dir, run.run())


def load(
    run_dir: str | Path,
    extensions: Sequence[str | Path] = (),
    best: bool = False,
    policy: own.Function | None = None,
    critic: own.Function | None = None,
) -> Policy:
    """The policy of a run's newest checkpoint, on the CPU, frozen. Loading runs no code from the folder.

    With ``best`` it is that of the checkpoint with the highest return: in periodic evaluations, else in training.
    ``policy`` and ``critic`` are the functions that made the networks, if `train` was given some.
    Raises rlopt.errors.UserError where the folder holds no run or no whole checkpoint.
    """
    run_dir = Path(run_dir)
    with extended(extensions), own.functions(policy=policy, critic=critic):
        run, _ = restore_run(check_config(load_run(run_dir)), run_dir, best)
        return Policy(run.agent.evaluated_policy(run.state), run.agent.head, *run.config.env.spaces())


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

"""The trainer from Python: what the command line does, as functions, reached as rlopt.train and rlopt.load.

    trained = rlopt.train(algo="trpo", env="cartpole", total_steps=50_000)
    policy = rlopt.load(trained.run_dir)
    action = policy(observation)

A run is trained with one thread of torch: small networks are slower on more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rlopt.config.compose import load as load_config
from rlopt.config.compose import resolve, typed
from rlopt.config.extensions import extended
from rlopt.config.options import LOWER, in_memory
from rlopt.config.overrides import spelled
from rlopt.core.heads import DiagonalGaussian
from rlopt.errors import UserError
from rlopt.parallel import ranks
from rlopt.policy.policy import Policy
from rlopt.rollout.buffer import Rollout
from rlopt.training.callbacks import Callbacks, RunContext
from rlopt.training.factory import trainer
from rlopt.training.restore import restored
from rlopt.training.run_directory import exclusive_run_directory
from rlopt.training.trainer import Trainer


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
    ``step="kl_clip"``, and ``policy={"hidden": [64, 64]}`` for ``policy.hidden``. For the callbacks see
    rlopt.training.callbacks; for ``extensions``, folders of parts of one's own, rlopt.config.extensions.

    Raises rlopt.errors.UserError before anything is written where a choice cannot be served.
    """
    if ranks.is_distributed():
        raise UserError("rlopt.train is for one process; under torchrun start `-m rlopt train`")
    given = {"on_begin": on_begin, "on_rollout": on_rollout, "on_update": on_update, "on_checkpoint": on_checkpoint,
             "on_end": on_end}  # fmt: skip
    chosen = [*overrides, *spelled(options)]
    with extended(extensions), _one_thread():
        run = prepared(chosen, resolve(chosen))
        run.callbacks = Callbacks(**{name: call for name, call in given.items() if call is not None})  # type: ignore[arg-type]
        with closing(run.collector), exclusive_run_directory(run.plan.run_dir, new=True):
            return Trained(run.plan.run_dir, run.run())


def load(run_dir: str | Path, extensions: Sequence[str | Path] = (), best: bool = False) -> Policy:
    """The policy of a run's newest checkpoint, on the CPU, frozen. Loading runs no code from the folder.

    Of its ``best`` checkpoint: the one with the highest return of a periodic evaluation, or else of training.

    Raises rlopt.errors.UserError where the folder holds no run or no whole checkpoint.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "config.yaml").is_file():
        raise UserError(f"{run_dir} is not the folder of a run: it has no config.yaml")
    with extended(extensions):
        run, _ = restored(load_config(run_dir / "config.yaml"), run_dir, best)
        return Policy(run.agent.evaluated_policy(run.state), run.agent.head, *run.environment.spaces())


def prepared(overrides: Sequence[str], config: Mapping[str, Any], run_dir: Path | None = None) -> Trainer:
    """The run of a configuration, and of the overrides that it is from: they are refused where they have no effect."""
    with in_memory("the run", LOWER):
        run = trainer(config, run_dir)
    if idle := _idle(run, typed(list(overrides))):
        run.collector.close()
        raise UserError(idle)
    return run


def _idle(run: Trainer, given: set[str]) -> str | None:
    """What to say of an option that was typed and has no effect in this environment."""
    gaussian = isinstance(run.agent.head, DiagonalGaussian)
    if not gaussian and (of_gaussians := given & {"policy.scale", "policy.initial_sigma", "policy.squash"}):
        return f"{min(of_gaussians)} has no effect: it is of continuous actions, which {run.environment.id} has not"
    if "observations.normalise" not in given or not run.plan.config["observations"]["normalise"]:
        return None
    normaliser = run.agent.observations
    if not normaliser.enabled:
        return "observations.normalise=true has no effect on images, whose pixels are divided by 255 in any case"
    if len(normaliser.indicators) == run.state["observations"]["mean"].numel():
        return f"observations.normalise=true has no effect: {run.environment.id} shows one-hots and bits, which stay"
    return None


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""rlopt train: one run, or with -m one for every combination."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlopt import catalogue
from rlopt.commands.common import Signalled, program
from rlopt.errors import UserError

if TYPE_CHECKING:
    from rlopt.run.trainer import Trainer
from rlopt.run import ranks


def run(arguments: list[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(_help())
        return 0
    flags = [a for a in arguments if a.startswith("-")]
    overrides = [a for a in arguments if not a.startswith("-")]
    unknown = [a for a in flags if a not in ("-m", "--multirun", "--cfg")]
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}; options are written name=value, such as seed=1")
    several = "-m" in flags or "--multirun" in flags
    if several and "--cfg" in flags:
        raise UserError("--cfg prints the configuration of one run; leave out -m")
    if several and ranks.launched():
        raise UserError("-m is for one process; with torchrun, start the combinations one after another")
    if several:
        from rlopt.commands.multirun import multirun

        return multirun(overrides, _train_once)
    if "--cfg" in flags:
        from rlopt.build import resolve, to_yaml

        print(to_yaml(resolve(overrides)), end="")
        return 0
    return _train_once(overrides)


def _train_once(overrides: list[str]) -> int:
    with ranks.joined():
        return _train(overrides)


def _train(overrides: list[str]) -> int:
    from rlopt.build import resolve

    config = ranks.from_first(lambda: resolve(overrides))
    import torch

    from rlopt.assemble import run_directory

    torch.set_num_threads(1)  # small networks are slower on more
    run_dir = ranks.from_first(lambda: run_directory(config))
    made = ranks.agreed(lambda: _made(overrides, config, run_dir))
    signal.signal(signal.SIGTERM, _raise_signalled)
    try:
        summary = made.run()
    except KeyboardInterrupt:
        if ranks.leads():
            print(f"\nStopped at step {made.steps:,}; the policy so far is saved.", file=sys.stderr)
            print(_what_next(run_dir), file=sys.stderr)
        raise
    if ranks.leads():
        print(_result(summary))
        print(_what_next(run_dir))
    return 0


def _made(overrides: list[str], config: dict[str, Any], run_dir: Path) -> Trainer:
    """The run; options of a Gaussian that were typed for actions that are not continuous are refused."""
    from rlopt.assemble import trainer
    from rlopt.build import typed
    from rlopt.core.heads import DiagonalGaussian

    try:
        made = trainer(config, run_dir)
    except (MemoryError, RuntimeError, OverflowError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        raise UserError(
            "the run does not fit into memory; lower batch_size, env.num_envs, policy.hidden or critic.hidden"
        ) from error
    idle = sorted(typed(overrides) & {"policy.scale", "policy.initial_sigma", "policy.squash"})
    if idle and not isinstance(getattr(made.agent.head, "policy", made.agent.head), DiagonalGaussian):
        made.collector.close()
        raise UserError(f"{idle[0]} has no effect: it is of continuous actions, which {made.environment.id} has not")
    return made


def _help() -> str:
    """Every choice of every group, with what its file says of it."""
    lines = [
        "rlopt train [name=value ...]",
        "",
        "theta <- theta + alpha (M + lambda I)^-1 g. Choose its parts by group=choice, set options by name=value,",
        "the critic's by critic.group=choice. Defaults: algo=trpo env=cartpole. Options of a choice stand in its file",
        f"under {catalogue.conf_dir()}.",
    ]
    for group, names in catalogue.groups().items():
        if names:
            lines += ["", f"{group}=" + ("" if group not in catalogue.UPDATE_GROUPS else f"  (and critic.{group}=)")]
            lines += [f"  {name:<26}{catalogue.described(group, name)}" for name in names]
    lines += [
        "",
        "Common options: seed total_steps batch_size gamma gae_lambda env.id env.num_envs policy.hidden",
        "  optimizer.lr damping.value step.radius schedule.epochs schedule.minibatch run_dir device dtype",
        "-m, --multirun: every combination of comma-separated values",
        "--cfg: print the resolved configuration and stop",
        "--extensions DIR: further choices, DIR/GROUP/NAME.yaml, and their code beside them; --import MODULE",
    ]
    return "\n".join(lines)


def _result(summary: dict[str, Any]) -> str:
    text = f"{summary['algo']} on {summary['env']}, seed {summary['seed']}: "
    if "evaluation_return" in summary:
        text += f"evaluation return {summary['evaluation_return']:.1f} +- {summary['evaluation_std']:.1f} (mode), "
        text += f"{summary['sampled_evaluation_return']:.1f} +- {summary['sampled_evaluation_std']:.1f} (sampled); "
    return text + f"{summary['steps']:,} steps at {summary['steps_per_second']:,.0f} steps/s"


def _what_next(run_dir: Path) -> str:
    return f"  curves:    {program('tensorboard')} --logdir {run_dir}\n  evaluate:  {program('rlopt')} eval {run_dir}"


def _raise_signalled(number: int, frame: object) -> None:
    raise Signalled(number)

"""The command line: rlopt train, rlopt eval, rlopt inspect. Imports what a command needs only when it runs.

Exit codes: 0 done, 2 the user's mistake, 3 stopped by the failure policy, 128 + n on signal n.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from rlopt import __version__, catalogue
from rlopt.errors import Stopped, UserError

USAGE = """\
rlopt: policy-gradient training where the geometry of the update is a choice

  rlopt train [name=value ...]        train; `rlopt train --help` lists every choice
  rlopt train -m seed=0,1,2 [...]     train once for every combination
  rlopt eval RUN_DIR [--episodes N] [--json]
                                      evaluate a trained policy
  rlopt inspect RUN_DIR [--samples N] [--radius R] [--json]
                                      compare every metric and solver at a trained policy
  rlopt --version
"""


class Signalled(KeyboardInterrupt):
    """A signal asked the run to end."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    commands = {"train": _train, "eval": _eval, "inspect": _inspect}
    try:
        if command in ("-h", "--help", "help"):
            print(USAGE, end="")
            return 0
        if command == "--version":
            print(f"rlopt {__version__}")
            return 0
        if command not in commands:
            hint = catalogue.nearest(command, list(commands))
            raise UserError(f"there is no command {command!r}{hint}; `rlopt --help` lists the commands")
        return commands[command](rest)
    except UserError as error:
        print(f"rlopt: {error}", file=sys.stderr)
        return 2
    except Stopped as error:
        print(f"rlopt: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt as error:
        return 128 + (error.number if isinstance(error, Signalled) else signal.SIGINT)


def train_help() -> str:
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
    ]
    return "\n".join(lines)


def _train(arguments: list[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(train_help())
        return 0
    flags = [a for a in arguments if a.startswith("-")]
    overrides = [a for a in arguments if not a.startswith("-")]
    unknown = [a for a in flags if a not in ("-m", "--multirun", "--cfg")]
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}; options are written name=value, such as seed=1")
    several = "-m" in flags or "--multirun" in flags
    if several and "--cfg" in flags:
        raise UserError("--cfg prints the configuration of one run; leave out -m")
    if several:
        return _multirun(overrides)
    if "--cfg" in flags:
        from rlopt.build import resolve, to_yaml

        print(to_yaml(resolve(overrides)), end="")
        return 0
    return _train_once(overrides)


def _train_once(overrides: list[str]) -> int:
    from rlopt.build import resolve

    config = resolve(overrides)
    import torch

    from rlopt.assemble import trainer

    torch.set_num_threads(1)  # small networks are slower on more
    run = trainer(config)
    signal.signal(signal.SIGTERM, _raise_signalled)
    try:
        summary = run.run()
    except KeyboardInterrupt:
        print(f"\nStopped at step {run.steps:,}; the policy so far is saved.", file=sys.stderr)
        print(_what_next(run.plan.run_dir), file=sys.stderr)
        raise
    print(_result(summary))
    print(_what_next(run.plan.run_dir))
    return 0


def _multirun(overrides: list[str]) -> int:
    """One run for every combination, through Hydra's sweeper and launcher."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from rlopt.build import explained, first_run, resolve, rewritten

    resolve(first_run(overrides))  # what is wrong with every run is told before any begins
    codes: list[int] = []

    def job(config: Any) -> None:
        chosen = [_unwritten(o) for o in HydraConfig.get().overrides.task if not o.startswith("hydra")]
        print(f"--- {' '.join(chosen)}")
        sweeping, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # a run composes its own
        try:
            codes.append(main(["train", *chosen]))
        finally:
            GlobalHydra.instance().hydra = sweeping
        if codes[-1] > 128:
            raise Signalled(codes[-1] - 128)

    quiet = ["hydra.sweep.dir=runs", "hydra.sweep.subdir=.", "hydra.output_subdir=null", "hydra/hydra_logging=none",
             "hydra/job_logging=none"]  # fmt: skip
    program, sys.argv = sys.argv, ["rlopt", "--multirun", *rewritten(overrides), *quiet]
    full_error, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"  # errors come to us
    try:
        with explained():
            hydra.main(version_base="1.3", config_path=str(catalogue.conf_dir()), config_name="config")(job)()
    finally:
        sys.argv = program
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    return max(codes, default=0)


def _unwritten(override: str) -> str:
    """The user's spelling of an override in Hydra's."""
    name, _, value = override.partition("=")
    if name.startswith("~"):
        return f"{name[1:]}=null"
    return f"{name.partition('@')[2] or name.lstrip('+')}={value}"


class _Parser(argparse.ArgumentParser):
    """Mistakes in one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def _eval(arguments: list[str]) -> int:
    parser = _Parser(prog="rlopt eval", description="Evaluate a trained policy on whole episodes.")
    parser.add_argument("run_dir", type=Path, help="folder of a run, as rlopt train printed it")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="episodes of each kind (100)")
    parser.add_argument("--seed", type=int, default=None, help="of the episodes (the run's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        raise UserError(f"--episodes must be 1 or above; got {options.episodes}")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed must be 0 or above; got {options.seed}")
    _check_run_dir(options.run_dir)

    import torch

    from rlopt.build import load
    from rlopt.run.evaluate import evaluate
    from rlopt.saved import policy

    torch.set_num_threads(1)
    environment, head, frozen, step, seed = policy(load(options.run_dir / "config.yaml"), options.run_dir)
    seed = seed if options.seed is None else options.seed
    report: dict[str, Any] = {"run_dir": str(options.run_dir), "env": environment.id, "step": step,
                              "episodes": options.episodes, "seed": seed}  # fmt: skip
    for name, deterministic in (("deterministic", True), ("sampled", False)):
        result = evaluate(environment, frozen, head, options.episodes, seed, deterministic)
        report[name] = {"mean": result.mean, "std": result.std, "returns": result.returns, "lengths": result.lengths}
        if not options.json:
            print(
                f"{environment.id}, {name}: return {result.mean:.2f} +- {result.std:.2f} over {options.episodes} "
                f"episodes, length {sum(result.lengths) / len(result.lengths):.1f}, policy of step {step:,}"
            )
    if options.json:
        print(json.dumps(report))
    return 0


def _check_run_dir(run_dir: Path) -> None:
    if not (run_dir / "config.yaml").is_file():
        raise UserError(f"{run_dir} is not the folder of a run: it has no config.yaml")


def _inspect(arguments: list[str]) -> int:
    parser = _Parser(prog="rlopt inspect", description="Compare the directions of every metric with every solver that "
                     "can serve it, at a trained policy and on a fresh batch.")  # fmt: skip
    parser.add_argument("run_dir", type=Path, help="folder of a run, as rlopt train printed it")
    parser.add_argument("--samples", type=int, metavar="N", help="transitions in the batch (the run's batch_size)")
    parser.add_argument("--radius", type=float, default=0.01, metavar="R", help="KL of every step, nats (0.01)")
    parser.add_argument("--damping", type=float, metavar="L", help="lambda (the run's own)")
    parser.add_argument("--metric", metavar="A,B", help="these metrics only; likewise --solver. Dense matrices of "
                        "large networks are slow")  # fmt: skip
    parser.add_argument("--solver", metavar="A,B", help="these solvers only")
    parser.add_argument("--fresh", action="store_true", help="at the initial policy, in place of the newest checkpoint")
    parser.add_argument("--seed", type=int, help="of the batch (the run's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else, write nothing")
    parser.add_argument("--out", type=Path, metavar="F.png", help="the figure (RUN_DIR/inspect.png)")
    options = parser.parse_args(arguments)
    for name, least in (("samples", 1), ("seed", 0), ("damping", 0)):
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise UserError(f"--{name} must be {least} or above; got {value}")
    if not 0 < options.radius < float("inf"):
        raise UserError(f"--radius must be a number above 0; got {options.radius}")
    if options.json and options.out:
        raise UserError("--json writes no figure; leave out --json or --out")
    _check_run_dir(options.run_dir)

    import torch
    from rich.console import Console

    from rlopt.build import load
    from rlopt.fit import pairs
    from rlopt.run.inspect_report import publish
    from rlopt.saved import inspection

    torch.set_num_threads(1)
    chosen = pairs(*(names and names.split(",") for names in (options.metric, options.solver)))
    config = load(options.run_dir / "config.yaml")
    with Console(stderr=True).status("") as status:
        about, found = inspection(config, options.run_dir, chosen, options.samples, options.radius, options.damping,
                                  options.fresh, options.seed, status.update)  # fmt: skip
    if options.json:
        print(json.dumps({**about, **found.plain()}))
    else:
        publish(about, found, options.run_dir, options.out)
    return 0


def _result(summary: dict[str, Any]) -> str:
    text = f"{summary['algo']} on {summary['env']}, seed {summary['seed']}: "
    if "evaluation_return" in summary:
        text += f"evaluation return {summary['evaluation_return']:.1f} +- {summary['evaluation_std']:.1f} (mode), "
        text += f"{summary['sampled_evaluation_return']:.1f} +- {summary['sampled_evaluation_std']:.1f} (sampled); "
    return text + f"{summary['steps']:,} steps at {summary['steps_per_second']:,.0f} steps/s"


def _what_next(run_dir: Path) -> str:
    return f"  curves:    {_program('tensorboard')} --logdir {run_dir}\n  evaluate:  {_program('rlopt')} eval {run_dir}"


def _program(name: str) -> str:
    """How to call a program of this installation from here."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).parent / name
    return os.path.relpath(beside) if beside.exists() else name


def _raise_signalled(number: int, frame: object) -> None:
    raise Signalled(number)

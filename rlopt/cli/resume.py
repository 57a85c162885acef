"""rlopt resume: a run goes on from its newest checkpoint as if it had never stopped."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from rlopt.cli.exit_codes import COPY, Parser, check_run_dir
from rlopt.errors import UserError
from rlopt.loggers import console
from rlopt.parallel import ranks
from rlopt.training.run_directory import exclusive_run_directory


def run(arguments: list[str]) -> int:
    parser = Parser(prog="rlopt resume", description="Go on with a run from its newest checkpoint, bit for bit as if "
                    "it had never stopped (same machine, same versions).")  # fmt: skip
    parser.add_argument("run_dir", type=Path, help="folder of a run, as rlopt train printed it")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="only what has no part in the past, such as "
                        "total_steps=200000, checkpoint.every_seconds=10 or workers=2")  # fmt: skip
    options = parser.parse_args(arguments)
    with ranks.process_group():
        ranks.broadcast_from_first(lambda: check_run_dir(options.run_dir))
        with exclusive_run_directory(options.run_dir):
            return _resume(options.run_dir, options.overrides)


def _resume(run_dir: Path, overrides: list[str]) -> int:
    import torch

    from rlopt.api import prepared
    from rlopt.checkpoint.format import unpack
    from rlopt.cli.process import carry_out, finished
    from rlopt.training.signals import SignalHandler

    torch.set_num_threads(1)
    config, place, contents = ranks.broadcast_from_first(lambda: _found(run_dir, overrides))
    if contents is None and place is not None:
        if ranks.is_first_rank():
            console.output(f"{run_dir} is finished: {finished(run_dir)}")
            console.output("  total_steps=N above these steps extends it, where its learning rates do not end with it")
        return 0
    stops = SignalHandler()
    with stops.installed():
        made = ranks.on_all_ranks(lambda: prepared([], config, run_dir))
        with closing(made.collector):
            tree = unpack(contents, place, made.agent.device) if place and contents else None
            begun = ranks.on_all_ranks(lambda: made.restore(tree))
            if ranks.is_first_rank():
                _tell(f"resumes at step {made.steps:,}" if tree else "has no checkpoint yet: it begins again")
                if begun:
                    these = ", ".join(map(str, begun))
                    _tell(f"cannot go on with the episodes of environments {these}: these begin new ones")
            return carry_out(made, stops)


def _found(run_dir: Path, overrides: list[str]) -> tuple[dict[str, Any], Path | None, bytes | None]:
    """The configuration, and the checkpoint to go on from; its bytes are None where the run is finished."""
    from rlopt.checkpoint.format import unpack
    from rlopt.checkpoint.manager import list_checkpoints, newest
    from rlopt.checkpoint.resume_rules import change_options, check_same_config, version_differences
    from rlopt.cli.process import finished
    from rlopt.config.compose import load
    from rlopt.config.overrides import check_single, parse

    check_single(overrides)
    given = {override.key_or_group: override.value() for override in map(parse, overrides)}
    saved = load(run_dir / "config.yaml")
    try:
        config = change_options(saved, given)
    except (KeyError, TypeError) as error:
        raise UserError(f"{run_dir / 'config.yaml'} is not a run's configuration: it lacks {error}; {COPY}") from error
    if not list_checkpoints(run_dir / "checkpoints"):
        if (run_dir / "summary.json").exists():
            raise UserError(f"{run_dir} was finished, but its checkpoints are gone: put them back, or train anew")
        return config, None, None
    place, contents = newest(run_dir, _tell)
    tree = unpack(contents, place)
    try:
        check_same_config(saved, tree["config"])
        if there := version_differences(tree["versions"]):
            _tell(f"this run was saved with {there}: it goes on, but not to the bit")
        total = config["total_steps"]
        done = isinstance(total, int) and tree["steps"] >= total and finished(run_dir) is not None
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place} is not a run's checkpoint: {type(error).__name__}: {error}") from error
    return config, place, None if done else contents


def _tell(said: str) -> None:
    console.info(f"rlopt: {said}")

"""`rlopt resume`: continue a run from its newest checkpoint as if it had never stopped."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from rlopt.cli.exit_codes import Parser
from rlopt.errors import UserError
from rlopt.files import shown
from rlopt.loggers import console
from rlopt.parallel import ranks
from rlopt.training.run_directory import exclusive_run_directory


def run(arguments: list[str]) -> int:
    about = "Continue a run from its newest checkpoint, bit for bit as if it had never stopped"
    parser = Parser(prog="rlopt resume", description=f"{about} (on the same machine, with the same versions).")
    parser.add_argument("run_dir", type=Path, help="folder of a run, as rlopt train prints it")
    later = "options that do not change what the run has done so far, such as total_steps=200000 or workers=2"
    parser.add_argument("overrides", nargs="*", metavar="name=value", help=later)
    options = parser.parse_args(arguments)
    with ranks.process_group():
        run_dir = options.run_dir.absolute()  # an environment may change the working directory
        with exclusive_run_directory(run_dir):
            return _resume(run_dir, options.overrides)


def _resume(run_dir: Path, overrides: list[str]) -> int:
    from rlopt.checkpoint.format import unpack
    from rlopt.cli.process import build_run, saved_result, train_to_end
    from rlopt.config import check_config
    from rlopt.parallel.processes import use_one_thread
    from rlopt.training.signals import SignalHandler

    use_one_thread()
    plain, path, content = ranks.broadcast_from_first(lambda: _read(shown(run_dir), overrides))
    config = ranks.on_all_ranks(lambda: check_config(plain))
    if content is None and path is not None:
        if ranks.is_first_rank():
            console.output(f"{shown(run_dir)} is finished: {saved_result(run_dir)}")
            console.output("  A larger total_steps=N extends it, unless its learning rates were planned to end there")
        return 0
    signals = SignalHandler()
    with signals.installed():
        trainer = ranks.on_all_ranks(lambda: build_run(config, run_dir, resumed=content is not None))
        with closing(trainer.collector):
            tree = unpack(content, path, trainer.agent.device) if path and content else None
            restarted = ranks.on_all_ranks(lambda: trainer.restore(tree))
            if ranks.is_first_rank():
                _print(f"resumes at step {trainer.steps:,}" if tree else "has no checkpoint yet: it begins again")
                if restarted:
                    which = ", ".join(map(str, restarted))
                    _print(f"the episodes of environments {which} cannot be continued: these begin new ones")
            return train_to_end(trainer, signals)


def _read(run_dir: Path, overrides: list[str]) -> tuple[dict[str, Any], Path | None, bytes | None]:
    """Read the run: its configuration, the path of its newest checkpoint, and the checkpoint's content.

    The path is None if the run has no checkpoint yet; the content is also None if it is finished. Raises UserError if
    the folder is damaged, or an override cannot be given to a run that has begun.
    """
    from rlopt.checkpoint.format import unpack
    from rlopt.checkpoint.manager import list_checkpoints, newest
    from rlopt.checkpoint.resume_rules import change_options, check_counters, check_same_config, version_differences
    from rlopt.cli.process import saved_result
    from rlopt.config.overrides import check_once, read_overrides
    from rlopt.config.saved import COPY, load_run
    from rlopt.parallel.collectives import world_size

    check_once(overrides)
    given = read_overrides(overrides)
    saved = load_run(run_dir)
    try:
        config = change_options(saved, given)
    except (KeyError, TypeError) as error:
        raise UserError(f"{run_dir / 'config.yaml'} is not a run's configuration: it lacks {error}; {COPY}") from error
    if not list_checkpoints(run_dir / "checkpoints"):
        if (run_dir / "summary.json").exists():
            raise UserError(f"{run_dir} was finished, but its checkpoints are gone: put them back, or train anew")
        return config, None, None
    path, content = newest(run_dir, _print)
    tree = unpack(content, path)
    try:
        check_same_config(saved, tree["config"])
        check_counters(tree)
        if versions := version_differences(tree["versions"]):
            _print(f"this run was saved with {versions}: it can be continued, but not bit for bit")
        if (before := tree.get("ranks", world_size())) != world_size():
            count = f"{before} rank{'' if before == 1 else 's'}"
            _print(f"this run was saved by {count}, here it has {world_size()}: it goes on, but not bit for bit")
        total = config["total_steps"]
        done = isinstance(total, int) and tree["steps"] >= total and saved_result(run_dir) is not None
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is not a run's checkpoint: {type(error).__name__}: {error}") from error
    return config, path, None if done else content


def _print(message: str) -> None:
    console.info(f"rlopt: {message}")

"""`rlopt resume`: continue a run from its newest checkpoint as if it had never stopped."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rlopt.cli.exit_codes import Parser
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
    from rlopt.cli.process import build_run, train_to_end
    from rlopt.config import check_config
    from rlopt.parallel.processes import start_learner
    from rlopt.training.continuing import read_run
    from rlopt.training.signals import SignalHandler

    start_learner()
    plain, path, content = ranks.broadcast_from_first(lambda: read_run(shown(run_dir), overrides, _print))
    config = ranks.on_all_ranks(lambda: check_config(plain))
    if content is None and path is not None:
        return _print_result(run_dir)
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
                if tree and tree.get("changes"):
                    _print(_CHANGED)
            return train_to_end(trainer, signals)


_CHANGED = (
    "callbacks in Python changed this run's environments, and are not called here; "
    "rlopt.resume(RUN_DIR, on_update=...) goes on with them"
)


def _print_result(run_dir: Path) -> int:
    from rlopt.training.continuing import saved_result

    if ranks.is_first_rank():
        console.output(f"{shown(run_dir)} is finished: {saved_result(run_dir)}")
        console.output("  A larger total_steps=N extends it, unless its learning rates were planned to end there")
    return 0


def _print(message: str) -> None:
    console.info(f"rlopt: {message}")

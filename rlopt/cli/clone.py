"""`rlopt clone`: train a policy to imitate recorded actions, as the first stage of a run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rlopt.cli.exit_codes import Parser
from rlopt.errors import UserError
from rlopt.files import replace_file, shown
from rlopt.loggers import console

_MOST_UPDATES = 10**6


def run(arguments: list[str]) -> int:
    parser = Parser(
        prog="rlopt clone",
        description="Train a policy to imitate recorded actions, with any metric, solver and step. The run that is "
        "left can be evaluated, resumed to learn from rewards, or given to other runs by init.from=RUN_DIR.",
    )
    add = parser.add_argument
    add("dataset", help="a .npz file with arrays observations and actions, or minari:NAME")
    add("overrides", nargs="*", metavar="name=value", help="as for rlopt train: env=hopper algo=trpo run_dir=...")
    add("--updates", type=int, default=50, metavar="N", help="of the policy, each by the schedule of algo (50)")
    add("--held-out", type=float, default=0.1, metavar="F", help="share of the transitions to choose the best by (.1)")
    options = parser.parse_intermixed_args(arguments)
    if not 1 <= options.updates <= _MOST_UPDATES:
        raise UserError(f"--updates must be 1 or above, at most {_MOST_UPDATES:,}; got {options.updates}")
    if not 0 <= options.held_out < 1:
        raise UserError(f"--held-out must be 0 or above and below 1; got {options.held_out:g}")
    return _clone(options.dataset, options.overrides, options.updates, options.held_out)


def _clone(dataset: str, overrides: list[str], updates: int, held_out: float) -> int:
    from rlopt.checkpoint.manager import CheckpointManager
    from rlopt.cli.process import build_run, next_commands, resume_command
    from rlopt.config import read_config
    from rlopt.config.overrides import check_once
    from rlopt.config.saved import to_yaml
    from rlopt.parallel.processes import start_learner
    from rlopt.policy.policy import Policy
    from rlopt.training.cloning import Cloner, Progress, read_demonstrations
    from rlopt.training.run_directory import choose_run_directory, exclusive_run_directory

    start_learner()
    check_once(overrides)
    config = read_config(overrides)
    run_dir = choose_run_directory(config)
    data = read_demonstrations(dataset)
    trainer = build_run(config, run_dir)
    with closing(trainer.collector), exclusive_run_directory(run_dir, new=True):
        agent, rows = trainer.agent, ["update,log_prob,held_out_log_prob"]
        policy = Policy(agent.evaluated_policy(trainer.state), agent.head, *config.spaces())
        cloner = Cloner(agent, trainer.state, policy, data, held_out, config.seed)
        console.info(f"clones {len(data.actions):,} actions of {data.name} on {config.env.id}, in {shown(run_dir)}")

        def report(p: Progress) -> None:
            rows.append(f"{p.update},{p.trained!r},{p.held_out!r}")
            if p.update in (1, updates) or p.update % max(1, updates // 10) == 0:
                console.info(f"  update {p.update}: log-probability {p.trained:.4g}, held out {p.held_out:.4g}")

        trainer.state, best = cloner.run(updates, report)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            replace_file(run_dir / "config.yaml", to_yaml(dict(config.plain)))
            replace_file(run_dir / "cloning.csv", "\n".join([*rows, ""]))
        except OSError as error:
            raise UserError(f"run_dir={shown(run_dir)} cannot be written: {error}") from error
        checkpoints = CheckpointManager(config.checkpoint, run_dir)
        checkpoints.save(0, trainer.run_state().tree(config.plain, all_ranks=True), None)
        checkpoints.raise_if_unsaved()
        found = trainer.evaluator.at_end(trainer.state)
    console.output(f"held-out log-probability {best.held_out:.4g} at update {best.update} of {updates}, which is kept")
    for name, evaluation in found.items():
        kind = "mode" if name == "evaluation" else "sampled"
        console.output(f"evaluation return {evaluation.mean:.2f} +- {evaluation.std:.2f} ({kind})")
    console.output(f"  learn on:  {resume_command(Path(shown(run_dir)))}\n{next_commands(Path(shown(run_dir)))}")
    return 0

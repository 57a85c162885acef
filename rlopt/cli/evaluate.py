"""`rlopt eval`: the return of a trained policy over whole episodes, with its mode and with sampled actions.

It prints the mean and the interquartile mean of the returns, with 95% intervals if scipy is installed. The intervals
are over episodes of this one policy; `rlopt report` has intervals over training seeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlopt.cli.exit_codes import Parser
from rlopt.errors import UserError
from rlopt.files import shown

if TYPE_CHECKING:
    from rlopt.evaluation.episodes import Evaluation


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="rlopt eval", description="Evaluate a trained policy on whole episodes.")
    add = parser.add_argument
    add("run_dir", type=Path, help="folder of a run, as rlopt train prints it, or zoo:NAME, see rlopt zoo")
    add("--episodes", type=int, default=100, metavar="N", help="episodes with the mode, and as many with samples (100)")
    add("--seed", type=int, help="seed of the episodes (the run's)")
    best = "evaluate the checkpoint with the highest return, not the newest: the return in periodic evaluations"
    add("--best", action="store_true", help=f"{best} (evaluation.every_updates=N), else in training")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    first = "record the first episode with the mode; .mp4, .webm or .gif (RUN_DIR/video.mp4)"
    add("--video", type=Path, nargs="?", const=Path(), metavar="PATH", help=first)
    saved = "record the episodes with the mode: a .npz file, or minari:NAMESPACE/NAME-v0"
    add("--save-episodes", metavar="F", help=saved)
    options = parser.parse_args(arguments)
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed must be 0 or above; got {options.seed}")
    return options


def run(arguments: list[str]) -> int:
    options = _parse(arguments)

    from rlopt.checkpoint.zoo import output_folder, run_folder
    from rlopt.config import check_config
    from rlopt.config.groups import MOST_EPISODES
    from rlopt.config.saved import load_run
    from rlopt.evaluation import recording
    from rlopt.evaluation import video as film
    from rlopt.evaluation.episodes import evaluate
    from rlopt.parallel.processes import use_one_thread
    from rlopt.training.restore import restore_run

    if not 1 <= options.episodes <= MOST_EPISODES:
        raise UserError(f"--episodes must be 1 or above, at most {MOST_EPISODES:,}; got {options.episodes}")
    use_one_thread()
    run_dir = run_folder(options.run_dir)
    video = output_folder(options.run_dir) / "video.mp4" if options.video == Path() else options.video
    video = video and video.absolute()  # an environment may change the working directory
    config = check_config(load_run(run_dir))
    restored, step = restore_run(config, run_dir, options.best)
    environment, head, frozen = config.env, restored.agent.head, restored.agent.evaluated_policy(restored.state)
    seed, limit = config.seed if options.seed is None else options.seed, config.evaluation.max_steps
    if video:
        film.check_path(shown(video))
        film.check(environment)
    recorder, target = recording.Recorder(), options.save_episodes
    recording.check(target, environment)
    report: dict[str, Any] = {"run_dir": str(options.run_dir), "env": environment.id, "step": step}
    report |= {"episodes": options.episodes, "seed": seed}
    for name, deterministic in (("deterministic", True), ("sampled", False)):
        played = environment
        if target and deterministic:
            played = replace(environment, backend="sync", stagger=False, graph=False, around=recorder.around)
        result = evaluate(played, frozen, head, options.episodes, seed, deterministic, limit)
        report[name] = _to_json(result)
        if not options.json:
            print(f"{environment.id}, {name}: {_to_line(report[name])}, policy of step {step:,}")
    made = []
    if video:
        reel = film.Video(environment, frozen, head, seed)
        film.write(reel, video)
        report["video"] = {"path": str(shown(video)), "return": reel.total, "length": reel.length}
        made.append(f"  video:     {shown(video)} (return {_number(reel.total)}, length {reel.length:,})")
    if target:
        count = recording.save(target, recorder.episodes, environment)
        report["episodes_saved"] = {"path": target, "transitions": count}
        made.append(f"  episodes:  {target} ({count:,} transitions with the mode)")
    print(json.dumps(report) if options.json else "\n".join(made), end="\n" if options.json or made else "")
    return 0


def _to_json(result: Evaluation) -> dict[str, Any]:
    """The evaluation as a JSON object. Its intervals are null without scipy, and for a single episode."""
    mean: list[float] | None = None
    iqm: list[float] | None = None
    if importlib.util.find_spec("scipy") and len(result.returns) > 1:
        import numpy as np

        from rlopt.report.statistics import estimate

        returns = np.array(result.returns)
        estimates = estimate(returns, "mean", "t"), estimate(returns, "iqm", "bootstrap")
        mean, iqm = ([float(e.low), float(e.high)] for e in estimates)
    return {
        "mean": result.mean,
        "mean_interval": mean,
        "std": result.std,
        "iqm": result.iqm,
        "iqm_interval": iqm,
        "returns": result.returns,
        "lengths": result.lengths,
        "cut": result.cut,
    }


def _number(value: float) -> str:
    """Two decimals, or four significant digits where it is large."""
    return f"{value:.2f}" if abs(value) < 1e6 else f"{value:.3e}"


def _to_line(report: dict[str, Any]) -> str:
    """The result of `_to_json` in one line."""

    def bounds(interval: list[float] | None) -> str:
        return "" if interval is None else f" [{_number(interval[0])}, {_number(interval[1])}]"

    count, length = len(report["returns"]), sum(report["lengths"]) / len(report["lengths"])
    cut = f", {report['cut']} of them cut off" if report["cut"] else ""
    return (
        f"return {_number(report['mean'])}{bounds(report['mean_interval'])}, std {_number(report['std'])}, "
        f"IQM {_number(report['iqm'])}{bounds(report['iqm_interval'])} over {count} episodes{cut}, length {length:.1f}"
    )

"""rlopt eval: whole episodes of a trained policy, with its mode and with samples.

Mean and interquartile mean of the returns, with 95% intervals where scipy is there: over episodes of this one policy,
not over training seeds, for which there is `rlopt report`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlopt.cli.exit_codes import Parser, check_run_dir
from rlopt.errors import UserError

if TYPE_CHECKING:
    from rlopt.evaluation.episodes import Evaluation


def run(arguments: list[str]) -> int:
    parser = Parser(prog="rlopt eval", description="Evaluate a trained policy on whole episodes.")
    parser.add_argument("run_dir", type=Path, help="folder of a run, as rlopt train printed it")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="episodes of each kind (100)")
    parser.add_argument("--seed", type=int, default=None, help="of the episodes (the run's own)")
    parser.add_argument("--best", action="store_true", help="the checkpoint with the highest return of a periodic "
                        "evaluation (evaluation.every_updates=N), else of training; the newest by default")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--video", type=Path, nargs="?", const=Path(), metavar="PATH", help="film the first episode "
                        "with the policy's mode (RUN_DIR/video.mp4; also .webm, .gif)")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed must be 0 or above; got {options.seed}")
    check_run_dir(options.run_dir)
    video = options.run_dir / "video.mp4" if options.video == Path() else options.video

    import torch

    from rlopt.config import check_config
    from rlopt.config.compose import load
    from rlopt.config.options import MOST_EPISODES
    from rlopt.evaluation import video as film
    from rlopt.evaluation.episodes import evaluate
    from rlopt.training.restore import load_policy

    if not 1 <= options.episodes <= MOST_EPISODES:
        raise UserError(f"--episodes must be 1 or above, at most {MOST_EPISODES:,}; got {options.episodes}")
    torch.set_num_threads(1)
    config = check_config(load(options.run_dir / "config.yaml"))
    environment, head, frozen, step, seed = load_policy(config, options.run_dir, options.best)
    seed = seed if options.seed is None else options.seed
    if video:
        film.check_path(video)
        film.check(environment)
    report: dict[str, Any] = {"run_dir": str(options.run_dir), "env": environment.id, "step": step,
                              "episodes": options.episodes, "seed": seed}  # fmt: skip
    for name, deterministic in (("deterministic", True), ("sampled", False)):
        result = evaluate(environment, frozen, head, options.episodes, seed, deterministic)
        report[name] = _report(result)
        if not options.json:
            print(f"{environment.id}, {name}: {_line(report[name])}, policy of step {step:,}")
    if video:
        reel = film.Video(environment, frozen, head, seed)
        film.write(reel, video)
        report["video"] = {"path": str(video), "return": reel.total, "length": reel.length}
        if not options.json:
            print(f"  video:     {video} (return {reel.total:.2f}, length {reel.length:,})")
    if options.json:
        print(json.dumps(report))
    return 0


def _report(result: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON has it; intervals are null where there is no scipy or a single episode."""
    mean: list[float] | None = None
    iqm: list[float] | None = None
    if importlib.util.find_spec("scipy") and len(result.returns) > 1:
        import numpy as np

        from rlopt.report.statistics import estimate

        returns = np.array(result.returns)
        mean, iqm = ([float(e.low), float(e.high)]
                     for e in (estimate(returns, "mean", "t"), estimate(returns, "iqm", "bootstrap")))  # fmt: skip
    return {"mean": result.mean, "mean_interval": mean, "std": result.std, "iqm": result.iqm, "iqm_interval": iqm,
            "returns": result.returns, "lengths": result.lengths}  # fmt: skip


def _line(report: dict[str, Any]) -> str:
    """The same in words."""

    def within(interval: list[float] | None) -> str:
        return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"

    count, length = len(report["returns"]), sum(report["lengths"]) / len(report["lengths"])
    return (
        f"return {report['mean']:.2f}{within(report['mean_interval'])}, std {report['std']:.2f}, "
        f"IQM {report['iqm']:.2f}{within(report['iqm_interval'])} over {count} episodes, length {length:.1f}"
    )

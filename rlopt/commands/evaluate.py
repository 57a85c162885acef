"""rlopt eval: whole episodes of a trained policy, with its mode and with samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlopt.commands.common import Parser, check_run_dir
from rlopt.errors import UserError


def run(arguments: list[str]) -> int:
    parser = Parser(prog="rlopt eval", description="Evaluate a trained policy on whole episodes.")
    parser.add_argument("run_dir", type=Path, help="folder of a run, as rlopt train printed it")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="episodes of each kind (100)")
    parser.add_argument("--seed", type=int, default=None, help="of the episodes (the run's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        raise UserError(f"--episodes must be 1 or above; got {options.episodes}")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed must be 0 or above; got {options.seed}")
    check_run_dir(options.run_dir)

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

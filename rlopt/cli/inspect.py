"""rlopt inspect: the directions of every metric with every solver at a trained policy."""

from __future__ import annotations

import json
from pathlib import Path

from rlopt.cli.exit_codes import Parser, check_run_dir
from rlopt.errors import UserError


def run(arguments: list[str]) -> int:
    parser = Parser(prog="rlopt inspect", description="Compare the directions of every metric with every solver that "
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
    check_run_dir(options.run_dir)

    import torch

    from rlopt.config import check_config
    from rlopt.config.compatibility import pairs
    from rlopt.config.compose import load
    from rlopt.inspection.report import publish
    from rlopt.loggers.console import terminal
    from rlopt.training.factory import explain_lack_of_memory
    from rlopt.training.restore import inspect_run

    torch.set_num_threads(1)
    chosen = pairs(*(names and names.split(",") for names in (options.metric, options.solver)))
    config = check_config(load(options.run_dir / "config.yaml"))
    memory = explain_lack_of_memory("the inspection", "lower --samples, or name fewer of --metric and --solver")
    with memory, terminal().status("") as status:
        about, found = inspect_run(config, options.run_dir, chosen, options.samples, options.radius, options.damping,
                                  options.fresh, options.seed, status.update)  # fmt: skip
    if options.json:
        print(json.dumps({**about, **found.plain()}))
    else:
        publish(about, found, options.run_dir, options.out)
    return 0

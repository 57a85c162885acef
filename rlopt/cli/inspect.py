"""`rlopt inspect`: the directions of every metric with every solver at a trained policy."""

from __future__ import annotations

import json
from argparse import Namespace
from math import inf
from pathlib import Path

from rlopt.cli.exit_codes import Parser
from rlopt.errors import UserError

_QUICK = 0.5  # seconds of one solve


def run(arguments: list[str]) -> int:
    description = "Compare the directions of every metric with every solver, at a trained policy and on a fresh batch."
    parser = Parser(prog="rlopt inspect", description=description)
    add = parser.add_argument
    add("run_dir", type=Path, help="folder of a run, as rlopt train prints it, or zoo:NAME")
    add("--samples", type=int, metavar="N", help="transitions in the fresh batch (the run's batch_size)")
    add("--radius", type=float, default=0.01, metavar="R", help="KL divergence of every step, nats (0.01)")
    add("--damping", type=float, metavar="L", help="lambda (the run's)")
    add("--metric", metavar="A,B", help="only these metrics")
    add("--solver", metavar="A,B", help="only these solvers, however long they take")
    quick = f"quick leaves out what would take more than {_QUICK} s a solve; all leaves out nothing (quick)"
    add("--pairs", choices=("quick", "all"), default="quick", help=quick)
    exact = "find exact solutions by factorising M + lambda I in float64, however long it takes (by conjugate gradient)"
    add("--exact", action="store_true", help=exact)
    add("--fresh", action="store_true", help="inspect the initial policy, not the newest checkpoint")
    add("--seed", type=int, help="seed of the batch (the run's)")
    add("--json", action="store_true", help="print one JSON object and nothing else; write no file")
    add("--out", type=Path, metavar="F.png", help="file of the figure (RUN_DIR/inspect.png)")
    options = parser.parse_args(arguments)
    _check(options)

    from rlopt.checkpoint.zoo import output_folder, run_folder
    from rlopt.config import check_config
    from rlopt.config.catalogue import pairs
    from rlopt.config.saved import load_run
    from rlopt.inspection.budget import Limits
    from rlopt.inspection.report import publish
    from rlopt.loggers.progress import PairsDisplay
    from rlopt.parallel.processes import use_one_thread
    from rlopt.training.factory import explain_lack_of_memory
    from rlopt.training.restore import inspect_run

    use_one_thread()
    chosen = pairs(*(names and names.split(",") for names in (options.metric, options.solver)))
    run_dir = run_folder(options.run_dir)
    config = check_config(load_run(run_dir))
    memory = explain_lack_of_memory("the inspection", "lower --samples, or name fewer of --metric and --solver")
    limits = Limits(inf if options.pairs == "all" or options.solver else _QUICK, options.exact)
    total = sum(len(solvers) for _, _, solvers in chosen)
    with memory, PairsDisplay(total, lines=not options.json) as display:
        sizes = options.samples, options.radius, options.damping
        about, found = inspect_run(config, run_dir, chosen, *sizes, options.fresh, options.seed, display.update, limits)
    if options.json:
        print(json.dumps({**about, **found.plain()}))
    else:
        publish(about, found, output_folder(options.run_dir), options.out)
    return 0


def _check(options: Namespace) -> None:
    """Raise UserError where a value is out of its range."""
    for name, least in (("samples", 1), ("seed", 0), ("damping", 0)):
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise UserError(f"--{name} must be {least} or above; got {value}")
    if not 0 < options.radius < float("inf"):
        raise UserError(f"--radius must be a number above 0; got {options.radius}")
    if options.json and options.out:
        raise UserError("--json writes no figure; leave out --json or --out")

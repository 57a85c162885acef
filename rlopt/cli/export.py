"""`rlopt export`: write a run's policy as one graph that needs no rlopt, `rlopt.policy.export` says what is in it."""

from __future__ import annotations

from pathlib import Path

from rlopt.cli.exit_codes import Parser
from rlopt.files import shown
from rlopt.loggers import console


def run(arguments: list[str]) -> int:
    parser = Parser(
        prog="rlopt export",
        description="Write a policy as one graph: normalisation of observations, network, and bounds of actions.",
    )
    add = parser.add_argument
    add("run_dir", type=Path, help="folder of a run, as rlopt train prints it, or zoo:NAME")
    add("--out", type=Path, metavar="F", help="ends in .onnx or .pt2, for torch.export.load (RUN_DIR/policy.onnx)")
    add("--best", action="store_true", help="the checkpoint with the highest return, not the newest")
    options = parser.parse_args(arguments)

    from rlopt.checkpoint.zoo import output_folder, run_folder
    from rlopt.policy.export import export
    from rlopt.training.restore import load_policy

    out = options.out or output_folder(options.run_dir) / "policy.onnx"
    path = export(load_policy(run_folder(options.run_dir), options.best), out)
    console.output(f"the policy is in {shown(path.absolute())}")
    return 0

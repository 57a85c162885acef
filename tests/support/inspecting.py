"""Runs to inspect, and the command that does."""

import json

from rlopt.cli import main as cli

RADIUS, DAMPING, SAMPLES = 0.02, 0.05, 60
SMALL = ["batch_size=80", "total_steps=240", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=0",
         "dtype=float64", "policy.last_gain=1.0"]  # fmt: skip
RUNS = {"cartpole": ["env=cartpole"], "pendulum": ["env=pendulum", "policy.scale=sigma", "algo=npg"]}


def command(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def as_json(capsys, folder, *arguments) -> dict:
    code, out, err = command(capsys, folder, "--samples", SAMPLES, "--json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


def directions(data: dict) -> dict[tuple[str, str], dict]:
    return {(d["metric"], d["solver"]): d for d in data["directions"]}

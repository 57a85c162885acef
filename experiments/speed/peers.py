"""Training speed beside other trainers and beside the bare simulator: scripts/bench --only peers [--quick]

Every measurement is a process of its own with the threads it is given; the sides of a contest take turns, round after
round. Start-up is excluded everywhere: a rate is environment steps by seconds between the end of the first update and
the end of the last. rlopt is measured as a user runs it, by its command line, and its clock is what it records itself
(``time/steps_per_second``); it writes its events and a checkpoint, while the others log nothing.

The others are given the settings that conf/experiment/bench_*.yaml resolve to, and of the kinds of vector environment
and numbers of torch threads they can use the fastest on this machine, which is looked for first.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments._shared.building import resolve
from experiments._shared.data import read_json, write_json
from experiments.speed import report
from experiments.speed.peers_report import draw, show, write
from experiments.speed.training import with_threads
from rlopt.errors import UserError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS, THEIRS = ROOT / ".venv/bin/python", ROOT / ".venv-peers/bin/python"
RESULTS = HERE / "results/peers.json"
SEED = 0

Measurement = dict[str, float]  # steps, seconds, and of these the seconds spent in updates, or within mj_step


@dataclass(frozen=True)
class Contest:
    """rlopt by ``overrides`` against ``algo`` of a peer, over ``updates`` timed updates; rlopt does twice as many."""

    title: str
    peer: str
    overrides: tuple[str, ...]
    runner: str
    algo: str
    updates: int
    like: str | None = None  # the contest whose search for the peer's best setting serves this one too


CONTESTS = (
    Contest("TRPO", "sb3-contrib TRPO", ("experiment=bench_trpo",), "baselines.py", "trpo", 12),
    Contest("PPO", "stable-baselines3 PPO", ("experiment=bench_ppo",), "baselines.py", "ppo", 8),
    Contest("NPG", "tianshou NPG", ("experiment=bench_npg",), "tianshous.py", "npg", 16),
    Contest("A2C", "stable-baselines3 A2C", ("experiment=bench_a2c",), "baselines.py", "a2c", 400),
    Contest("PPO in JAX", "sbx PPO", ("experiment=bench_ppo",), "baselines.py", "sbx-ppo", 8),
    Contest("PPO on EnvPool", "rl_games PPO", ("experiment=bench_ppo",), "rlgames.py", "ppo", 8),
    *(Contest(f"TRPO, {env}", "sb3-contrib TRPO", ("experiment=bench_trpo", f"env={env}", "recipe=null"),
              "baselines.py", "trpo", 6, like="TRPO") for env in ("walker2d", "ant")),
    *(Contest(f"PPO, {env}", "stable-baselines3 PPO", ("experiment=bench_ppo", f"env={env}", "recipe=null"),
              "baselines.py", "ppo", 5, like="PPO") for env in ("walker2d", "ant")),
)  # fmt: skip
VECTORS = {  # what a peer can be run with; rl_games has EnvPool, and its networks compiled or not
    "baselines.py": ("dummy", "subproc"),
    "tianshous.py": ("dummy", "subproc", "shmem"),
    "rlgames.py": ("compiled", "eager"),
}
RAW = {  # side -> (vector environment, the cores of its processes; None: wherever the system puts it)
    "sync, one core": ("sync", (0,)),
    "async, one core": ("async", (0,)),
    "async, all cores": ("async", (None,)),
    "sync, one process a core": ("sync", tuple(range(os.cpu_count() or 1))),
}


def settings(contest: Contest) -> dict[str, Any]:
    """What rlopt does in this contest, in the words that the runners read."""
    config = resolve(list(contest.overrides))
    critic, optimizer = config["critic"], config["critic"]["step"]["optimizer"]
    assert config["observations"]["normalise"] == config["rewards"]["scale"] and not config["advantages"]["recompute"]
    return {
        "algo": contest.algo, "env": config["env"]["id"], "num_envs": config["env"]["num_envs"], "seed": SEED,
        "batch": config["batch_size"], "gamma": config["gamma"], "gae_lambda": config["gae_lambda"],
        "normalise": config["observations"]["normalise"], "hidden": config["policy"]["hidden"],
        "sigma": config["policy"]["initial_sigma"], "cg": config["solver"].get("iterations"),
        "damping": config["damping"]["value"], "radius": config["step"].get("radius"),
        "epochs": config["schedule"]["epochs"], "minibatch": config["schedule"]["minibatch"],
        "lr": config["step"].get("optimizer", {}).get("lr"), "max_norm": config["step"].get("max_norm"),
        "critic_epochs": critic["schedule"]["epochs"], "critic_minibatch": critic["schedule"]["minibatch"],
        "critic_lr": optimizer["lr"],
    }  # fmt: skip


def measure_peer(contest: Contest, choice: dict[str, Any], updates: int) -> Measurement:
    asked = {**settings(contest), **choice, "updates": updates}
    command = [str(THEIRS), str(HERE / "runners" / contest.runner), json.dumps(asked)]
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo leaves a log where it runs
        done = subprocess.run(command, env=with_threads(choice["threads"]), cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{contest.peer} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_rlopt(contest: Contest, variant: str, updates: int) -> Measurement:
    """Steps and seconds from what the run recorded: step s at rate r was reached after s / r seconds."""
    batch = resolve(list(contest.overrides))["batch_size"]
    with tempfile.TemporaryDirectory() as folder:
        chosen = [*contest.overrides, *variant.split(), f"total_steps={batch * (updates + 1)}", f"seed={SEED}"]
        command = [str(OURS), "-m", "rlopt", "train", *chosen, f"run_dir={folder}/run"]
        done = subprocess.run(command, env=with_threads(1), cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"rlopt train {' '.join(chosen)} failed:\n{done.stderr[-2000:]}")
        events = EventAccumulator(f"{folder}/run")
        events.Reload()
        rates, updating = events.Scalars("time/steps_per_second"), events.Scalars("time/update")
        physics = events.Scalars("time/physics")[1:]
    first, last = rates[0], rates[-1]
    return {
        "steps": last.step - first.step,
        "seconds": last.step / last.value - first.step / first.value,
        "updating": sum(event.value for event in updating[1:]),
        "physics": statistics.mean(event.value for event in physics),
    }


def measure_simulator(
    kind: str, cores: tuple[int | None, ...], num_envs: int, env: str, seconds: float, python: Path = OURS
) -> Measurement:
    """All processes at once, each with its part of the environments."""
    processes = []
    for number, core in enumerate(cores):
        asked = {"env": env, "vector": kind, "num_envs": num_envs // len(cores), "core": core, "seed": number,
                 "seconds": seconds}  # fmt: skip
        command = [str(python), str(HERE / "runners/simulator.py"), json.dumps(asked)]
        processes.append(
            subprocess.Popen(command, env=with_threads(1), cwd=tempfile.gettempdir(), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        )  # fmt: skip
    for process in processes:
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"the simulator did not start: {process.args[2]}")
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    parts = [json.loads(process.communicate()[0]) for process in processes]
    return {"steps": sum(p["steps"] / p["seconds"] for p in parts) * seconds, "seconds": seconds, "updating": 0.0,
            "physics": sum(p["physics"] / p["seconds"] for p in parts) * seconds}  # fmt: skip


def rate(measured: Measurement) -> float:
    return measured["steps"] / measured["seconds"]


def search(contest: Contest) -> dict[str, dict[str, float]]:
    """Steps per second of every setting of a peer, over a third of the updates."""
    found = {}
    for vector in VECTORS[contest.runner]:
        for threads in (1, 2):
            choice = {"vector": vector, "threads": threads}
            speed = found[json.dumps(choice)] = rate(measure_peer(contest, choice, max(contest.updates // 3, 3)))
            print(f"  {contest.peer:<24}{vector:<9}{threads} threads {speed:>8,.0f} steps/s", flush=True)
    return found


def accepted(variants: list[str]) -> list[str]:
    """The variants that this build knows, at least the plain one."""
    known = []
    for variant in variants:
        try:
            resolve(variant.split())
            known.append(variant)
        except UserError as error:
            print(f"  left out: {variant} ({error})", flush=True)
    return known or [""]


def run(repeats: int, quick: bool, contests: Sequence[Contest], variants: list[str]) -> dict[str, Any]:
    variants = accepted(variants)
    load = [os.getloadavg()[0]]
    searched: dict[str, dict[str, float]] = {}
    best: dict[str, dict[str, Any]] = {}
    for contest in contests:
        if quick:
            best[contest.title] = {"vector": "dummy", "threads": 1}
        elif contest.like in best:
            best[contest.title] = best[contest.like]
        else:
            found = searched[contest.title] = search(contest)
            best[contest.title] = json.loads(max(found, key=found.__getitem__))
    rates: dict[str, dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    raw: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for turn in range(repeats):
        print(f"round {turn + 1} of {repeats}", flush=True)
        for env, num_envs in sorted({(settings(c)["env"], settings(c)["num_envs"]) for c in contests}):
            for side, (kind, cores) in RAW.items():
                measured = measure_simulator(kind, cores, num_envs, env, 0.5 if quick else 1.0)
                raw[f"{env}, {num_envs}"][side].append(rate(measured))
        for contest in contests:
            updates = max(contest.updates // 4, 2) if quick else contest.updates
            sides = rates[contest.title]
            sides[contest.peer].append(measure_peer(contest, best[contest.title], updates))
            for variant in variants:
                sides[f"rlopt {variant}".strip()].append(measure_rlopt(contest, variant, 2 * updates))
    load.append(os.getloadavg()[0])
    return {
        "machine": _machine(),
        "load": load,
        "raw": raw,
        "contests": {
            contest.title: {
                "peer": contest.peer,
                "num_envs": settings(contest)["num_envs"],
                "settings": settings(contest),
                "searched": searched.get(contest.title),
                "best": best[contest.title],
                "steps_per_second": {side: [rate(m) for m in ms] for side, ms in rates[contest.title].items()},
                "updating": {
                    side: statistics.median(m["updating"] / m["seconds"] for m in ms)
                    for side, ms in rates[contest.title].items()
                },
                "physics": {
                    side: statistics.median(m["physics"] for m in ms)
                    for side, ms in rates[contest.title].items()
                    if side != contest.peer
                },
            }
            for contest in contests
        },
    }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``old`` with the contests of ``new``; the simulator's rates stay those that are there."""
    if old["machine"] != new["machine"]:
        raise SystemExit(f"results/peers.json is of {old['machine']} and this is {new['machine']}: run all contests")
    contests = {**old["contests"], **new["contests"]}
    order = [contest.title for contest in CONTESTS if contest.title in contests]
    return {**old, "raw": {**new["raw"], **old["raw"]}, "contests": {title: contests[title] for title in order}}


def _machine() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(names, platform.machine())
    program = "import torch, gymnasium, mujoco; print(torch.__version__, gymnasium.__version__, mujoco.__version__)"
    sides = (OURS, THEIRS)
    versions = [subprocess.run([side, "-c", program], capture_output=True, text=True).stdout.split() for side in sides]
    assert versions[0] == versions[1], f"both sides must have the same torch, gymnasium and mujoco; got {versions}"
    torch, gymnasium, mujoco = versions[0]
    return f"{os.cpu_count()} cores, {model}; torch {torch}, Gymnasium {gymnasium}, MuJoCo {mujoco}"


def main() -> None:
    parser = report.parser("peers", "Training speed of rlopt beside other trainers.")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (5)")
    parser.add_argument("--contest", choices=[contest.title for contest in CONTESTS],
                        help="one of them; the others keep their figures")  # fmt: skip
    parser.add_argument("--variants", nargs="+", default=["workers=1", "workers=2"], metavar="OVERRIDES",
                        help="of rlopt; those a build does not know are left out")  # fmt: skip
    options = parser.parse_args()
    if options.draw:
        results = read_json(RESULTS)
    else:
        chosen = [contest for contest in CONTESTS if options.contest in (None, contest.title)]
        chosen = chosen[:3] if options.quick else chosen
        results = run(2 if options.quick else options.repeats, options.quick, chosen, options.variants)
        if options.contest and not options.quick:
            results = merged(read_json(RESULTS), results)
    show(results)
    if not options.quick:
        if not options.draw:
            RESULTS.parent.mkdir(exist_ok=True)
            write_json(RESULTS, results)
        draw(results, HERE / "peers.png")
        write(results)


if __name__ == "__main__":
    sys.exit(main())

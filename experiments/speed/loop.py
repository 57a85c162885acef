"""The whole loop on a device: simulator, collection, training, and how soon HalfCheetah is learned; for `device`.

Every part is a generator of (name, result) and stops when its seconds are over, so that one call fits the time that a
machine is lent for, and what was measured before an end is kept. A part that had no time left gives (name, None).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch

from experiments._shared.building import make_trainer
from experiments.speed import report
from rlopt.errors import UserError
from rlopt.rollout.episodes import EpisodeTracker
from rlopt.training.trainer import Trainer

TASKS = {"cartpole": "tensor", "pendulum": "tensor", "halfcheetah": "warp", "ant": "warp"}  # and their backends
ALGOS = ("trpo", "npg", "acktr", "ppo")
ENVS, STEPS = (1024, 4096, 8192), 32
MINIBATCHES = 32  # of an epoch
BAR, SEEDS, BATCHES = 4000.0, (0, 1, 2), (32, 8)  # HalfCheetah's return, and steps a rollout
Part = Iterator[tuple[str, Any]]


class Clock:
    """Seconds that a part has."""

    def __init__(self, seconds: float):
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        return self._end - time.perf_counter()


def missing(backend: str) -> str:
    """Why environments of this backend cannot be had; nothing where they can."""
    return "not measured: extra warp missing" if backend == "warp" and find_spec("mujoco_warp") is None else ""


def make(task: str, algo: str, envs: int, steps: int, device: str, *more: str) -> Trainer:
    batch = envs * steps
    epochs = [f"{of}schedule.minibatch={batch // MINIBATCHES}" for of in ("", "critic.")] if algo == "ppo" else []
    if algo in ("trpo", "npg"):
        epochs = [f"critic.schedule.minibatch={batch // MINIBATCHES}"]
    return make_trainer([f"algo={algo}", f"env={task}", f"env.backend={TASKS[task]}", f"env.num_envs={envs}",
                         f"batch_size={batch}", f"total_steps={10**9}", f"device={device}", "recipe=null",
                         "evaluation.episodes=0", *epochs, *more])  # fmt: skip


def rate(f: Callable[[], object], steps: int, device: str, seconds: float) -> float:
    """Steps a second of calls that take ``steps`` each, for about so many seconds after one call to warm up."""
    f()
    synchronise(device)
    began, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - began < seconds:
        f()
        synchronise(device)
        calls += 1
    return calls * steps / (time.perf_counter() - began)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def turn(run: Trainer) -> Callable[[], None]:
    """One turn of the training loop: collect and learn."""

    def once() -> None:
        rollout = run.collector.collect(run.agent.policy(run.state))  # type: ignore[arg-type]
        run.state, _ = run.agent.learn(run.state, rollout, run.minibatches)

    return once


def rates(task: str, envs: int, device: str, seconds: float) -> dict[str, Any]:
    """Steps a second of the simulator alone, with fixed actions, of collection and of training by every algorithm."""
    if why := missing(TASKS[task]):
        return {"why": why}
    found: dict[str, Any] = {}
    each = seconds / (len(ALGOS) + 3)
    try:
        for algo in ALGOS:
            run = make(task, algo, envs, STEPS, device)
            collector: Any = run.collector
            if not found:
                policy = run.agent.policy(run.state)
                collector.collect(policy)
                actions = collector._transform(collector._buffer["actions"][0].clone())
                found["simulator"] = rate(lambda: collector.envs.step(actions), envs, device, each)  # noqa: B023
                found["collection"] = rate(lambda: collector.collect(policy), envs * STEPS, device, each)  # noqa: B023
                if device == "cuda" and TASKS[task] == "tensor":
                    graph = make(task, algo, envs, STEPS, device, "env.graph=true").collector
                    found["graph"] = rate(lambda: graph.collect(policy), envs * STEPS, device, each)  # type: ignore[union-attr,arg-type]  # noqa: B023
                    graph.close()
            found[algo] = rate(turn(run), envs * STEPS, device, each)
            collector.close()
    except (UserError, torch.OutOfMemoryError) as error:
        found["why"] = f"not measured: {str(error).splitlines()[0]}"
    return found


def loops(device: str, quick: bool, clock: Clock) -> Part:
    """`rates` by task and number of environments, the smallest numbers first."""
    sizes = (16,) if quick else ENVS
    for envs, task in product(sizes, TASKS):
        name = f"{task}, {envs:,} environments"
        yield name, rates(task, envs, device, 0.3 if quick else 6.0) if clock.left > 0 else None


def acktr_steps(device: str, quick: bool, clock: Clock) -> Part:
    """Milliseconds of a whole training step of A2C and of ACKTR, which take turns."""
    envs = 16 if quick else 4096
    task = "pendulum" if missing("warp") else "halfcheetah"
    runs = {algo: make(task, algo, envs, 16, device) for algo in ("a2c", "acktr")}
    times: dict[str, list[float]] = {algo: [] for algo in runs}
    for i in range(4 if quick else 21):
        for algo, run in runs.items():
            began = time.perf_counter()
            turn(run)()
            synchronise(device)
            if i:
                times[algo].append(1e3 * (time.perf_counter() - began))
        if i and clock.left < 0:
            break
    for run in runs.values():
        run.collector.close()
    yield f"{task}, {envs:,} environments", times


def learned(run: Trainer, bar: float, seconds: float) -> dict[str, Any]:
    """Seconds and steps until the mean return of the episodes that ended in a rollout is at the bar."""
    episodes, steps, mean = EpisodeTracker(run.collector.num_envs), 0, None
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds and (mean is None or mean < bar):
        rollout = run.collector.collect(run.agent.policy(run.state))  # type: ignore[arg-type]
        steps += rollout.steps
        returns = episodes.take(rollout).returns
        mean = statistics.mean(returns) if returns else mean
        run.state, _ = run.agent.learn(run.state, rollout, run.minibatches)
    run.collector.close()
    return {"seconds": spent, "steps": steps, "return": mean, "reached": mean is not None and mean >= bar}


def learning(device: str, quick: bool, clock: Clock) -> Part:
    """Time to BAR on HalfCheetah by TRPO, ACKTR and PPO, for several seeds and rollouts; the first seeds first."""
    why, envs = missing("warp"), 16 if quick else 2048
    for seed, steps, algo in product(SEEDS[:1] if quick else SEEDS, BATCHES, ("trpo", "acktr", "ppo")):
        name = f"{algo}, batch {envs * steps:,}, seed {seed}"
        if why:
            yield name, {"why": why}
        elif clock.left <= 0:
            yield name, None
        else:
            run = make("halfcheetah", algo, envs, steps, device, f"seed={seed}")
            yield name, learned(run, BAR, 1.0 if quick else min(clock.left, 30.0))


# name in the data -> title, part, seconds
PARTS: dict[str, tuple[str, Callable[[str, bool, Clock], Part], float]] = {
    "loop": ("whole loop", loops, 170.0),
    "acktr": ("ACKTR's step against A2C's", acktr_steps, 20.0),
    "learning": (f"time to {BAR:,.0f} on HalfCheetah", learning, 150.0),
}


def tables(data: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    if found := data.get("loop"):
        lines += [
            "",
            *report.head("steps/s (share of the simulator's)", "simulator", "collection", "as a graph", *ALGOS),
        ]
        lines += [report.row(name, *_rates(each)) for name, each in found.items()]
    for name, times in data.get("acktr", {}).items():
        a2c, acktr = (report.places(times[algo]) for algo in ("a2c", "acktr"))
        ratio = report.against(times["acktr"], times["a2c"])
        lines += ["", f"A whole training step on {name}: A2C {a2c} ms, ACKTR {acktr} ms, {ratio} of A2C's."]
    if found := data.get("learning"):
        lines += ["", *report.head(f"HalfCheetah to {BAR:,.0f}", "seconds", "steps", "mean return at the end")]
        lines += [report.row(name, *_outcome(each)) for name, each in found.items()]
    if left := data.get("left_out"):
        lines += ["", f"Left out, since the time was over: {'; '.join(left)}."]
    return lines


def _rates(found: dict[str, Any]) -> list[str]:
    kinds = ("simulator", "collection", "graph", *ALGOS)
    if "simulator" not in found:
        return [found["why"], *[""] * (len(kinds) - 1)]
    cells = [f"{found[k]:,.0f} ({found[k] / found['simulator']:.0%})" if k in found else "-" for k in kinds]
    return [f"{found['simulator']:,.0f}", *cells[1:]]


def _outcome(found: dict[str, Any]) -> list[str]:
    if "why" in found:
        return [found["why"], "", ""]
    mean = "-" if found["return"] is None else f"{found['return']:,.0f}"
    return [
        f"{found['seconds']:.1f}" if found["reached"] else f"not in {found['seconds']:.0f}",
        f"{found['steps']:,}",
        mean,
    ]

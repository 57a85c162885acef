"""Restore a run from its folder, to act with its policy or to inspect it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rlopt.checkpoint.manager import load_best, load_newest
from rlopt.checkpoint.resume_rules import SIZES, check_same_config, check_structure
from rlopt.checkpoint.zoo import KEPT, completed, saver
from rlopt.config import check_config
from rlopt.config.catalogue import usual_dampings
from rlopt.config.choices import stands_for
from rlopt.config.memory import LOWER
from rlopt.config.options import RunConfig
from rlopt.config.saved import load_run
from rlopt.core.parts import STATISTICS
from rlopt.core.samples import Samples
from rlopt.envs.given import STAND_IN
from rlopt.envs.space_trees import from_tree
from rlopt.errors import UserError
from rlopt.inspection.budget import NO_LIMITS, Limits
from rlopt.inspection.inspect import Inspection, Pairs, Watch, inspect
from rlopt.loggers import console
from rlopt.policy.policy import Policy
from rlopt.rollout.collector import Collector
from rlopt.rollout.seeding import Purpose, integer
from rlopt.rollout.tensors import TensorCollector
from rlopt.training.factory import Setup, explain_lack_of_memory, set_up


def load_policy(run_dir: Path, best: bool = False) -> Policy:
    """The policy of a run's newest checkpoint, or its best, on the CPU.

    The environment is not made where the checkpoint holds its spaces. Raises UserError.
    """
    saved = load_run(run_dir, needs_environment=False)
    if best:
        step, tree = load_best(run_dir)
    else:
        step, tree = load_newest(run_dir, warn=lambda message: console.info(f"rlopt: {message}"))
    if (trees := tree.get("spaces")) is None:
        config = check_config(load_run(run_dir))
    else:
        try:
            spaces = from_tree(trees["observations"]), from_tree(trees["actions"])
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(f"{run_dir}: its checkpoint has no spaces that can be read: {error}") from error
        config = check_config(_without_environment(saved))
        config = replace(config, env=replace(config.env, stand_in=spaces))
    run, _ = restored(config, saved, run_dir, 0, tree)
    return Policy(
        run.agent.evaluated_policy(run.state), run.agent.head, *config.spaces(), write=saver(step, tree, saved)
    )


def _without_environment(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what needs the environment's code."""
    plain = deepcopy(dict(saved))
    plain["env"] |= {"id": STAND_IN, "backend": "sync", "wrappers": [], "kwargs": {}, "stagger": False, "graph": False}
    plain["record"] = {**plain["record"], "info": []}
    return plain


def restore_run(config: RunConfig, run_dir: Path, best: bool = False) -> tuple[Setup, int]:
    """A run as its newest checkpoint has it, or its best, on the CPU, and the step of that checkpoint."""
    if best:
        step, tree = load_best(run_dir)
    else:
        step, tree = load_newest(run_dir, warn=lambda message: console.info(f"rlopt: {message}"))
    return restored(config, config.plain, run_dir, step, tree)


def restored(
    config: RunConfig, saved: Mapping[str, Any], run_dir: Path, step: int, tree: Mapping[str, Any]
) -> tuple[Setup, int]:
    """The run ``config`` with the state of a checkpoint's tree; ``saved`` is what config.yaml has of it."""
    cpu = torch.device("cpu")
    try:
        check_same_config(saved, tree["config"], SIZES)  # before anything of these sizes is made
    except UserError as error:
        raise UserError(f"{run_dir}: {error}") from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{run_dir}: its checkpoint holds no configuration: {type(error).__name__}: {error}") from error
    with explain_lack_of_memory("the policy", LOWER):
        start = set_up(config, cpu)
    try:
        whole = {**tree, "agent": completed(start.state, tree.get("agent"))} if KEPT in tree else tree
        check_structure(whole, {"agent": start.state}, "checkpoint")
    except ValueError as error:
        raise UserError(f"{run_dir}: checkpoint and config.yaml do not belong together: {error}") from error
    state = {name: part for name, part in whole["agent"].items() if name != "critic" or name in tree["agent"]}
    return replace(start, state=state), step


def inspect_run(
    config: RunConfig, run_dir: Path, pairs: Pairs, samples: int | None, radius: float, damping: float | None,
    fresh: bool, seed: int | None, watch: Watch, limits: Limits = NO_LIMITS,
) -> tuple[dict[str, Any], Inspection]:  # fmt: skip
    """Inspect the actor of the newest checkpoint, or with ``fresh`` the initial one: (what was inspected, the results).

    Where samples, damping or seed is None, it is the run's, damping as in the checkpoint. Solvers that make their
    matrix of gradients then have the usual damping of their files, which is in units of their own.
    """
    run, step = (set_up(config, torch.device("cpu")), 0) if fresh else restore_run(config, run_dir)
    if run.agent.critic is not None and "critic" not in run.state:
        raise UserError(f"{run_dir} holds a policy without its critic, of which `rlopt inspect` needs the advantages")
    seed = run.config.seed if seed is None else seed
    actor = run.state["actor"]
    update = run.agent.actor.update
    update = replace(update, objective=update.current_objective(actor["parts"]))
    usual = None
    if damping is None:
        if STATISTICS not in update.metric.supplies:  # else the run's own lambda is in units of squared gradients
            usual = usual_dampings([solver for _, _, solvers in pairs for solver in solvers])
        damping = float(update.damping.current(actor["parts"]["damping"]))
    batch = fresh_samples(run, samples or run.config.batch_size, seed)
    about = {
        "run_dir": str(run_dir), "algo": run.config.algo, "env": run.config.env.id, "step": step, "fresh": fresh,
        "seed": seed, "objective": stands_for(update.objective), "dtype": run.config.dtype,
    }  # fmt: skip
    return about, inspect(update, actor["theta"], batch, pairs, damping, radius, watch, limits, usual)


def fresh_samples(run: Setup, count: int, seed: int) -> Samples:
    """The actor's samples of a new batch, from environments that start anew with seeds of their own.

    It has ``count`` transitions or a few more: whole steps of all environments, and whole sequences for a memory.
    """
    network = run.agent.actor.update.network
    steps = -(-count // (run.config.env.num_envs * network.sequence)) * network.sequence
    seed = integer(seed, Purpose.INSPECTION)
    dtype = getattr(torch, run.config.dtype)
    env, head = run.config.env, run.agent.head
    made: Collector | TensorCollector
    if env.as_tensors:
        made = TensorCollector(env.make_tensors(run.agent.device, dtype), head, steps, seed, dtype)
    else:
        made = Collector(env.make_vector(), head, steps, seed, dtype, memory=network.memory)
    with closing(made) as collector:
        return run.agent.actor_samples(run.state, collector.collect(run.agent.policy(run.state)))

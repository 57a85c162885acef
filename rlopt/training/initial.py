"""Where a new run starts from: the policy of another run, or a file of parameters (``init.from``, ``init.actor``).

From another run come the parameters of the policy (their average, where the run keeps one) and of a critic with the
same network, and what its normalisers have seen. Optimizers, factors and dampings begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rlopt.checkpoint.zoo import run_folder
from rlopt.config import check_config
from rlopt.config.saved import load_run
from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.heads import Head
from rlopt.core.learner import Learner
from rlopt.core.parts import State
from rlopt.core.popart import UNSCALED, preserve_
from rlopt.envs.observations import describe_space, mask_size
from rlopt.errors import UserError, in_one_line
from rlopt.files import shown
from rlopt.loggers import console
from rlopt.policy.own import Given
from rlopt.training.factory import Setup
from rlopt.training.restore import restore_run

_HEAD_OPTIONS = ("scale", "squash", "per_state")  # that decide what a parameter of a policy's distribution means


def start_from(setup: Setup) -> Setup:
    """The same setup, with a state that starts from what the options of ``init`` name.

    Raises UserError where that has other spaces, another network or another kind of normaliser than this run.
    """
    options = setup.config.init
    if options.folder is not None:
        return replace(setup, state=_from_run(setup, run_folder(options.folder), options.best))
    if options.actor is not None:
        theta = _from_file(setup.agent.actor, Path(options.actor), setup.state["actor"]["theta"])
        return replace(setup, state=_state(setup, {**_thetas(setup), "actor": theta}))
    return setup


def _from_run(setup: Setup, folder: Path, best: bool) -> State:
    where = f"init.from={shown(folder)}"
    config = check_config(load_run(folder))
    for options in (config.policy, config.critic):
        network = getattr(options, "network", None)
        network = getattr(network, "network", network)  # that a memory is behind
        if isinstance(network, Given):
            network.check(f'rlopt.train("{where}", {{0}}, ...)')
    other, step = restore_run(config, folder, best)
    _check_alike(setup, other, where)
    actor = other.state["actor"]
    thetas = {**_thetas(setup), "actor": actor["average"].get("theta", actor["theta"])}
    told = "policy"
    critics = [s.agent.learners.get("critic") for s in (setup, other)]
    if all(critics) and "critic" in other.state and _difference(*critics) is None:  # type: ignore[arg-type]
        thetas["critic"], told = _values_alike(setup, other.state["critic"]), "policy and critic"
    state = _state(setup, thetas)
    if told != "policy" and all("targets" in s["critic"] for s in (state, other.state)):
        state["critic"]["targets"] = dict(other.state["critic"]["targets"])
    state["observations"] = other.state["observations"]
    if state["rewards"] and other.state["rewards"]:
        state["rewards"] = {**other.state["rewards"], "returns": state["rewards"]["returns"]}
    console.info(f"rlopt: starts from the {told} of {shown(folder)} at step {step:,}")
    return state


def _values_alike(setup: Setup, critic: State) -> Tensor:
    """theta (P,) of another run's critic, whose values are the same where this run's does not normalise its targets."""
    theta = critic["theta"].clone()
    if "targets" in critic and "targets" not in setup.state["critic"]:
        layout = setup.agent.learners["critic"].update.network.layout
        preserve_(theta, layout, critic["targets"], UNSCALED)
    return theta


def _thetas(setup: Setup) -> dict[str, Tensor]:
    return {name: setup.state[name]["theta"] for name in setup.agent.learners}


def _state(setup: Setup, thetas: Mapping[str, Tensor]) -> State:
    """The agent's first state with these parameters."""
    dtype = setup.state["actor"]["theta"].dtype
    before = setup.state
    size = len(before["observations"]["mean"]) if before["observations"] else 0
    given = {name: theta.to(dtype).clone() for name, theta in thetas.items()}
    return setup.agent.init(given, size, setup.config.env.num_envs)


def _check_alike(setup: Setup, other: Setup, where: str) -> None:
    """Raise UserError where the other run's policy cannot act in this run's environment as it did in its own."""
    masked, was_masked = (mask_size(each.observations) > 0 for each in (setup, other))
    if masked and not was_masked:
        raise UserError(f"{where}: its policy acts without action masks, and this run has them; add env.mask=none")
    if was_masked and not masked:
        raise UserError(
            f"{where}: its policy acts with action masks, and this run has none; choose an environment that gives "
            f"them, with env.mask={other.config.env.mask}"
        )
    for name in ("observations", "actions"):
        here, there = getattr(setup, name), getattr(other, name)
        if here != there:
            raise UserError(
                f"{where}: its {name} are {describe_space(there)}, and those of {setup.config.env.id} are "
                f"{describe_space(here)}; both must be alike"
            )
    normalises = other.agent.observations.enabled
    if normalises != setup.agent.observations.enabled:
        raise UserError(
            f"{where}: its policy acts on observations that are {'' if normalises else 'not '}normalised; add "
            f"observations.normalise={str(normalises).lower()}"
        )
    if difference := _difference(setup.agent.actor, other.agent.actor):
        raise UserError(f"{where}: {difference}; give policy the options of that run's config.yaml")


def _difference(here: Learner, there: Learner) -> str | None:
    """In what two networks with their heads differ, in words; None where one can take the other's parameters."""
    own, given = here.update.network.layout, there.update.network.layout
    for name, shape in zip(given.names, given.shapes, strict=True):
        if name not in own.names:
            return f"its network has a parameter {name} {shape}, which this run's has not"
        if (mine := own.shapes[own.names.index(name)]) != shape:
            return f"its network's {name} has shape {shape}, and this run's {mine}"
    if missing := [name for name in own.names if name not in given.names]:
        return f"its network has no parameter {missing[0]}, which this run's has"
    if str(here.update.network.module) != str(there.update.network.module):
        return "its network's parameters are alike, and its layers are not"
    seen, theirs = (each.update.network.columns for each in (here, there))
    if (seen is None) != (theirs is None) or (seen is not None and not torch.equal(seen, theirs)):  # type: ignore[arg-type]
        return "its network sees other keys of the observations"
    return _head_difference(here.policy, there.policy)


def _head_difference(here: Head, there: Head) -> str | None:
    if type(here) is not type(there):
        return f"its distribution is a {type(there).__name__}, and this run's a {type(here).__name__}"
    for name in _HEAD_OPTIONS:
        if getattr(here, name, None) != getattr(there, name, None):
            return f"its policy has {name}={getattr(there, name)}, and this run's {getattr(here, name)}"
    if getattr(here, "shift", 0) != getattr(there, "shift", 0):  # a scale that its network gives is relative to this
        return f"its policy has initial_sigma={there.initial_sigma}, and this run's {here.initial_sigma}"  # type: ignore[attr-defined]
    parts = zip(getattr(here, "parts", ()), getattr(there, "parts", ()), strict=True)  # equal spaces, equally many
    return next((found for pair in parts if (found := _head_difference(*pair))), None)


def _from_file(actor: Learner, path: Path, theta: Tensor) -> Tensor:
    """theta (P,) of the actor's network with the parameters of a .safetensors file, by their names.

    The head's own parameters may be missing; they keep their initial values.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    where = f"init.actor={shown(path)}"
    try:
        found: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{where} is not a safetensors file that can be read: {in_one_line(error)}") from error
    layout: Layout = actor.update.network.layout
    theta = theta.clone()
    views = layout.views(theta)
    wanted = ", ".join(f"{name} {tuple(view.shape)}" for name, view in views.items())
    if unknown := [name for name in found if name not in views]:
        raise UserError(f"{where}: the policy has no parameter {unknown[0]}; it has {wanted}")
    for name, view in views.items():
        if name not in found and name != CONSTANTS:
            raise UserError(f"{where} has no {name}; the policy has {wanted}")
        if name in found and found[name].shape != view.shape:
            raise UserError(f"{where}: {name} must have shape {tuple(view.shape)}; got {tuple(found[name].shape)}")
    for name, values in found.items():
        if not torch.isfinite(values).all():
            raise UserError(f"{where}: {name} holds numbers that are not finite")
        views[name].copy_(values)
    return theta

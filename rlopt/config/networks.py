"""The networks that a run's options describe: by name, by a class or by a function of one's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from gymnasium import spaces

from rlopt.config.saved import read_choice
from rlopt.config.schema import construct, convert, options, parameters, part_class
from rlopt.envs.observations import as_image
from rlopt.envs.spaces import HeadOptions
from rlopt.errors import UserError
from rlopt.policy.mlp import NetworkFactory


@dataclass(frozen=True)
class PolicyOptions:
    """The policy's network, and the distribution over continuous actions."""

    network: NetworkFactory
    head: HeadOptions
    keys: tuple[str, ...] | None  # of a Dict observation, those that the network sees; None: all


def sees_images(network: NetworkFactory) -> bool:
    """Whether a network takes images, if they are large enough; one of a user's own takes everything."""
    try:
        if hasattr(network, "sees"):
            network.sees(_large_images())
    except ValueError:
        return False
    return True


@cache
def _large_images() -> spaces.Space[Any]:
    return as_image(spaces.Box(0, 255, (1000, 1000), np.uint8), "auto")


def parse_network(plain: Mapping[str, Any], where: str) -> tuple[NetworkFactory, dict[str, Any]]:
    """The network that ``_target_`` names, made of the options that it takes, and the other options."""
    kind = part_class(plain, where, "rlopt.policy")
    takes = parameters(kind)
    network: NetworkFactory = construct(kind, {name: plain[name] for name in takes if name in plain}, where)
    if not callable(getattr(network, "build", None)):
        raise UserError(
            f"{where}._target_ must name a class of networks, with a method build(space, outputs, generator); "
            f"{plain['_target_']} has none"
        )
    rest = {name: value for name, value in plain.items() if name not in (*takes, "_target_")}
    if (memory := rest.pop("memory", None)) is not None:
        network = _with_memory(network, memory, where)
    return network, rest


def _with_memory(network: NetworkFactory, memory: Any, where: str) -> NetworkFactory:
    """The network with a memory behind it; an option that ``memory`` does not have is as in conf/policy/gru.yaml."""
    from rlopt.policy.recurrent import Memory, WithMemory

    given, usual = options({"memory": memory}, "memory", f"{where}.", "size"), read_choice(where, "gru")
    cell = construct(Memory, {name: usual[name] for name in parameters(Memory)} | given, f"{where}.memory")
    return WithMemory(network, cell)


def without_memory(overrides: Sequence[str], functions: Collection[str]) -> list[str]:
    """The overrides but for those of the memory behind a network that a function makes, which no file has."""
    own = tuple(f"{where}.memory{sign}" for where in functions for sign in ".=")
    return [override for override in overrides if not override.startswith(own)]


def give_network(plain: dict[str, Any], where: str, function: str, typed: Mapping[str, Any]) -> None:
    """Put the network that a Python function makes in place of the one in ``plain``, whose options are taken out.

    A memory behind it is taken from what was typed. Raises UserError where one of the others' options was.
    """
    memory, prefix = typed.get(f"{where}.memory"), f"{where}.memory."
    if parts := {name.removeprefix(prefix): value for name, value in typed.items() if name.startswith(prefix)}:
        memory = {**(memory if isinstance(memory, Mapping) else {}), **parts}
    if memory is not None:
        plain[where]["memory"] = memory
    kind = part_class(plain[where], where, "rlopt.policy")
    for name in parameters(kind):
        if f"{where}.{name}" in typed:
            raise UserError(f"{where}.{name} has no effect: the network is made by the function {function}")
        plain[where].pop(name, None)
    plain[where] |= {"_target_": "rlopt.policy.own.Given", "role": where, "function": function}


def parse_policy(plain: Mapping[str, Any]) -> PolicyOptions:
    network, rest = parse_network(plain, "policy")
    keys = take_keys(rest, "policy")
    return PolicyOptions(network, construct(HeadOptions, rest, "policy"), keys)


def take_keys(plain: dict[str, Any], where: str) -> tuple[str, ...] | None:
    """The option ``keys`` of a network, which is taken out of ``plain``; configurations of before have none."""
    keys: tuple[str, ...] | None = convert(plain.pop("keys", None), tuple[str, ...] | None, f"{where}.keys")
    return keys

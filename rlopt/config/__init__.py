"""From the command line to a checked RunConfig: compose -> parse -> check.

compose(overrides)    plain values, from the files of conf/ and what was typed     (compose)
RunConfig.parse       objects: every type and range, once                          (options)
check(config)         refuses what does not go together, once                      (compatibility)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlopt.config.options import RunConfig


def read_config(
    overrides: Sequence[str], env_kwargs: Mapping[str, Any] | None = None, functions: Mapping[str, str] | None = None
) -> RunConfig:
    """The run that these overrides describe. Raises UserError with one clear line.

    ``env_kwargs`` are options of the environment that are not read as text; they win over those that are. Of policy
    and critic ``functions`` has the name of a Python function, where one makes the network.
    """
    from rlopt.config.compose import compose
    from rlopt.config.overrides import read_overrides

    typed = read_overrides(overrides)
    if functions:
        from rlopt.config.networks import give_network, without_memory

        overrides = without_memory(overrides, functions)
    plain = compose(overrides)
    plain["env"]["kwargs"] |= env_kwargs or {}
    if functions:
        for where, function in functions.items():
            give_network(plain, where, function, typed)
    return check_config(plain, typed)


def check_config(plain: Mapping[str, Any], typed: Sequence[str] | Mapping[str, Any] = ()) -> RunConfig:
    """The run that plain values describe, as a config.yaml has them; ``typed`` names the options that a user typed."""
    from rlopt.config.compatibility import check
    from rlopt.config.options import RunConfig

    config = RunConfig.parse(plain, tuple(typed))
    check(config)
    return config

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


def read_config(overrides: Sequence[str], env_kwargs: Mapping[str, Any] | None = None) -> RunConfig:
    """The run that these overrides describe. Raises UserError with one clear line.

    ``env_kwargs`` are options of the environment that are not read as text; they win over those that are.
    """
    from rlopt.config.compose import compose
    from rlopt.config.overrides import read_overrides

    plain = compose(overrides)
    plain["env"]["kwargs"] |= env_kwargs or {}
    return check_config(plain, read_overrides(overrides))


def check_config(plain: Mapping[str, Any], typed: Sequence[str] | Mapping[str, Any] = ()) -> RunConfig:
    """The run that plain values describe, as a config.yaml has them; ``typed`` names the options that a user typed."""
    from rlopt.config.compatibility import check
    from rlopt.config.options import RunConfig

    config = RunConfig.parse(plain, tuple(typed))
    check(config)
    return config

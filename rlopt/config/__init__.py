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


def read_config(overrides: Sequence[str]) -> RunConfig:
    """The run that these overrides describe. Raises UserError with one clear line."""
    from rlopt.config.compose import compose
    from rlopt.config.overrides import read_overrides

    return check_config(compose(overrides), read_overrides(overrides))


def check_config(plain: Mapping[str, Any], typed: Sequence[str] | Mapping[str, Any] = ()) -> RunConfig:
    """The run that plain values describe, as a config.yaml has them; ``typed`` names the options that a user typed."""
    from rlopt.config.compatibility import check
    from rlopt.config.options import RunConfig

    config = RunConfig.parse(plain, tuple(typed))
    check(config)
    return config

"""Precedence: who wins where several say what an option is. Knows Hydra.

From the weakest to the strongest: the values of conf/config.yaml and of each choice's file; those of env, algo, recipe
and experiment; the whole file of a choice that was typed in place of theirs; an option that was typed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from rlopt.config.choices import UPDATE_GROUPS, extra_dirs
from rlopt.config.overrides import CHOSEN, parse

_PRESETS = ("algo", "env", "recipe", "experiment")  # groups whose choices choose among the others
_WITH_VALUES = (*UPDATE_GROUPS, "policy", "critic")  # groups of whose options presets give values


def composed(overrides: list[str], in_hydras: list[str]) -> DictConfig:
    """The configuration of these overrides, which are given in Hydra's spelling too; interpolations are left in it."""
    typed = {override.key_or_group: override.value() for override in map(parse, overrides)}
    config = compose("config", overrides=in_hydras, return_hydra_config=True)
    OmegaConf.set_struct(config, False)
    chosen = config.pop("hydra").runtime.choices
    if any(_name(text).partition("@")[0] in _WITH_VALUES for text in in_hydras):
        own = _own_choices(tuple(text for text in in_hydras if _name(text) in _PRESETS), extra_dirs())
        for key, choice in own.items():
            group, _, place = key.partition("@")
            if group in _WITH_VALUES and chosen[key] != choice:
                _put_on_top(config, place or group, compose(f"{group}/{chosen[key]}")[group], typed)
    whole = {key: int(value) for key, value in typed.items() if isinstance(value, float) and value.is_integer()}
    if whole:
        _make_whole(config, whole, in_hydras)
    return config


@cache
def _own_choices(presets: tuple[str, ...], folders: tuple[Path, ...]) -> dict[str, str]:
    """What presets alone choose, by group or group@place; ``folders`` are those of extensions, which they may be in."""
    config = compose("config", overrides=list(presets), return_hydra_config=True)
    return dict(config.hydra.runtime.choices)


def _put_on_top(config: DictConfig, place: str, values: DictConfig, typed: Collection[str]) -> None:
    """Give the options at ``place`` these values, but for what was typed."""
    for name in map(str, values):
        key, value = f"{place}.{name}", values._get_node(name)
        if isinstance(value, DictConfig) and value and key not in typed:
            _put_on_top(config, key, value, typed)
        elif not any(option == key or option.startswith(f"{key}.") for option in typed):
            OmegaConf.update(config, key, value, force_add=True)


def _make_whole(config: DictConfig, values: Mapping[str, int], in_hydras: list[str]) -> None:
    """1e5, typed for an option that is a whole number, is one."""
    usual = compose("config", overrides=[text for text in in_hydras if "@" in _name(text) or _name(text) in CHOSEN])
    for key, value in values.items():
        if type(OmegaConf.select(usual, key)) is int:
            OmegaConf.update(config, key, value)


def _name(override: str) -> str:
    """What an override in Hydra's spelling is of."""
    return override.partition("=")[0].lstrip("+~")

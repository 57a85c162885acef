"""Parts of a sweep that rlopt gives to Hydra: `hydra/sweeper=optuna` and `hydra/launcher=ray`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

_NAME = "hydra_plugins.rlopt"
_MODULES = {"hydra/sweeper=optuna": "optuna_sweeper", "hydra/launcher=ray": "ray_launcher"}
EXTRAS = {"hydra/sweeper=optuna": "optuna", "hydra/launcher=ray": "ray"}  # what is typed -> the extra, and its package


def register(typed: Iterable[str]) -> None:
    """Make known to Hydra what is typed of these."""
    for text in typed:
        if text in _MODULES:
            import_module(f"rlopt.cli.plugins.{_MODULES[text]}").register()


def register_plugin(kind: type[Any], group: str, name: str, options: dict[str, Any]) -> None:
    """Make a launcher or a sweeper known to Hydra as ``group=name``, with these options.

    Hydra takes plugins from the package hydra_plugins alone, so the class is said to be in a module there. `set_up`
    takes that away: other processes, which do not have it, are then sent the class itself.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    kind.__module__ = _NAME
    sys.modules.setdefault(_NAME, ModuleType(_NAME)).__dict__[kind.__name__] = kind
    Plugins.instance().register(kind)
    node = {"_target_": f"{_NAME}.{kind.__name__}", **options}
    ConfigStore.instance().store(group=group, name=name, node=node, provider="rlopt")


def set_up() -> None:
    """Hydra has made the plugin."""
    sys.modules.pop(_NAME, None)

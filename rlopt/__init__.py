"""rlopt: policy-gradient training where the geometry of the update is a choice.

theta <- theta + alpha (M(theta) + lambda I)^-1 g
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlopt.library import curvature as curvature
    from rlopt.library import solve as solve

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The library's functions, imported when they are first asked for: the command line starts without torch."""
    if name in ("curvature", "solve"):
        from rlopt import library

        return getattr(library, name)
    raise AttributeError(f"module 'rlopt' has no attribute {name!r}")

"""rlopt: policy-gradient training where the geometry of the update is a choice.

theta <- theta + alpha (M(theta) + lambda I)^-1 g
"""

# `python -m rlopt` looks for modules in the working directory until rlopt/__main__.py takes it off: import none here
TYPE_CHECKING = False
if TYPE_CHECKING:
    from rlopt.api import curvature as curvature
    from rlopt.api import load as load
    from rlopt.api import resume as resume
    from rlopt.api import solve as solve
    from rlopt.api import train as train
    from rlopt.policy.export import export as export
    from rlopt.policy.policy import Policy as Policy

__version__ = "0.1.0"


_FROM = {
    "train": "rlopt.api", "resume": "rlopt.api", "load": "rlopt.api", "export": "rlopt.policy.export",
    "curvature": "rlopt.api", "solve": "rlopt.api", "Policy": "rlopt.policy.policy",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """The functions of the library, imported when they are first asked for: the command line starts without torch."""
    if name in _FROM:
        from importlib import import_module

        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module 'rlopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_FROM, "__doc__", "__name__", "__version__"])

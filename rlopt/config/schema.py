"""Schema: plain values -> objects. Types are checked here, ranges by the objects; messages name the option."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Mapping
from importlib import import_module
from inspect import Parameter
from typing import Any, TypeVar

from rlopt.config.choices import extra_dirs, nearest, short_name
from rlopt.config.extensions import module as extension
from rlopt.core.parts import Damping, Estimator, Metric, Objective, Solver, Step
from rlopt.errors import UserError, in_one_line

T = TypeVar("T")
_KINDS: dict[str, type[Any]] = {
    "objective": Objective, "metric": Metric, "solver": Solver, "damping": Damping, "step": Step,
    "estimator": Estimator,
}  # fmt: skip


def options(config: Mapping[str, Any], group: str, where: str = "", example: str = "NAME") -> dict[str, Any]:
    """The options of ``group`` in ``config``, of which ``example`` is one. Raises UserError where it is no mapping."""
    values, full = config.get(group), f"{where}{group}"
    if not isinstance(values, Mapping):
        raise UserError(f"{full} is a group of options, {full}.{example}=...; got {values!r}")
    return dict(values)


def construct(cls: type[T], values: Mapping[str, Any], where: str, **given: Any) -> T:
    """``cls(**values, **given)``, every value checked against its annotation; options' names begin with ``where``.

    Raises UserError that names the option, what was wanted and what came.
    """
    prefix = f"{where}." if where else ""
    known = _arguments(cls)
    wanted = {name: hint for name, (hint, _) in known.items() if name not in given}
    for name in values:
        if name not in wanted:
            raise UserError(f"{prefix}{name} is no option{nearest(name, list(wanted))}")
    for name, (_, optional) in known.items():
        if name in wanted and name not in values and not optional:
            raise UserError(f"{prefix}{name} is missing")
    converted = {name: convert(values[name], wanted[name], f"{prefix}{name}") for name in wanted if name in values}
    try:
        return cls(**converted, **given)
    except (ValueError, TypeError, OverflowError) as error:
        if re.split(r"\W", str(error), maxsplit=1)[0] in wanted:  # rlopt's own checks name the option first
            raise UserError(short_name(f"{prefix}{error}")) from error
        raise UserError(f"{where} cannot be built from its options: {in_one_line(error)}") from error


def part_class(values: Mapping[str, Any], where: str, package: str = "rlopt.core") -> type[Any]:
    """The class that ``_target_`` names: one of ``package``, or of a folder named by --extensions.

    So a config file can run no other code.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} must be a part, a mapping with _target_ and its options; got {values!r}")
    target = values.get("_target_")
    name, _, cls = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    own = name.startswith(f"{package}.")
    if not own and not extra_dirs():
        raise UserError(
            f"{where}._target_ must name a class within {package}; got {target!r}. For a class of your own, add the "
            "folder that holds it: --extensions DIR"
        )
    try:
        module = import_module(name) if own else extension(name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or name) in name
        why = f"there is no {target}" if missing else f"{target} cannot be imported: {in_one_line(error)}"
        raise UserError(f"{where}._target_: {why}") from error
    if module is None:
        folders = " or ".join(map(str, extra_dirs()))
        raise UserError(
            f"{where}._target_ must name a class within {package} or in {folders}, such as metric.mine.Mine for "
            f"Mine in metric/mine.py; got {target!r}"
        )
    found = getattr(module, cls, None)
    if not inspect.isclass(found) or found.__module__ != module.__name__:
        raise UserError(f"{where}._target_: there is no class {cls} in {name}")
    return found


def construct_part(values: Mapping[str, Any], where: str) -> Any:
    """The part that ``_target_`` names, made of the remaining values; ``where`` ends in its group."""
    part = construct(part_class(values, where), {k: v for k, v in values.items() if k != "_target_"}, where)
    group = where.rpartition(".")[2]
    if group in _KINDS and (lacking := _lacking(part, _KINDS[group])):
        raise UserError(
            f"{where}._target_ must name {_article(group)}; {values['_target_']} has no {' and no '.join(lacking)}"
        )
    return part


def _nested(value: Any, kind: type[Any], where: str) -> Any:
    """A part inside another's options; it must have all that the protocol ``kind`` asks for."""
    name = kind.__name__.lower()
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be null or {_article(name)}, a mapping with _target_; got {value!r}")
    part = construct_part(value, where)
    if _lacking(part, kind):
        raise UserError(f"{where}._target_ must name {_article(name)}; got {value['_target_']!r}")
    return part


def _lacking(part: Any, kind: type[Any]) -> list[str]:
    """What the protocol ``kind`` asks for and ``part`` has not."""
    asked = [*kind.__annotations__, *(name for name in vars(kind) if not name.startswith("_"))]
    return [name for name in asked if not hasattr(part, name)]


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


_known: dict[type[Any], dict[str, tuple[Any, bool]]] = {}


def _arguments(cls: type[Any]) -> dict[str, tuple[Any, bool]]:
    """A class's annotated arguments by name: the annotation, and whether there is a default. Looked up once."""
    if cls not in _known:
        hints = typing.get_type_hints(cls.__init__ if not hasattr(cls, "__dataclass_fields__") else cls)
        found = inspect.signature(cls).parameters
        _known[cls] = {n: (hint, found[n].default is not Parameter.empty) for n, hint in hints.items() if n in found}
    return _known[cls]


def parameters(cls: type[Any]) -> list[str]:
    """Names of a class's arguments."""
    return [name for name in inspect.signature(cls).parameters if name != "self"]


def convert(value: Any, hint: Any, where: str) -> Any:
    """``value`` as ``hint`` has it; whole floats pass for int and ints for float, nothing else is bent."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        others = [arg for arg in args if arg is not type(None)]
        return convert(value, others[0], where) if len(others) == 1 else value
    if getattr(hint, "_is_protocol", False):
        return _nested(value, hint, where)
    if origin is typing.Literal:
        if value not in args:
            words = ("false" if arg is False else str(arg) for arg in args)
            raise UserError(f"{where} must be one of {', '.join(words)}; got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            example = "[a,b]" if args[0] is str else "[64,64]"
            raise UserError(f"{where} must be a list such as {example}; got {value!r}")
        return tuple(convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(
                f"{where} must be a mapping such as {{key: value}}; got {value!r}. One entry: {where}.KEY=VALUE"
            )
        return dict(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, int) or (math.isfinite(value) and value == int(value)):
            return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise UserError(f"{where} must be {names.get(hint, hint)}; got {value!r}")

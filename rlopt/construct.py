"""From plain configuration to objects: types and ranges are checked here, with messages that name the option."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from rlopt.catalogue import nearest
from rlopt.errors import UserError

T = TypeVar("T")


def options(config: Mapping[str, Any], group: str, *names: str, where: str = "") -> dict[str, Any]:
    """The options of ``group`` in ``config``, or those that are named; raises UserError where one is missing."""
    values, place = config.get(group), f"{where}{group}"
    if not isinstance(values, Mapping):
        example = f"{place}.{names[0]}=..." if names else f"{place}.NAME=..."
        raise UserError(f"{place} is a group of options, {example}; got {values!r}")
    for name in names:
        if name not in values:
            raise UserError(f"{place}.{name} is missing")
    return {name: values[name] for name in names or values}


def construct(cls: type[T], values: Mapping[str, Any], where: str, **given: Any) -> T:
    """``cls(**values, **given)``, every value checked against its annotation; ``where`` is its place in the config.

    Raises UserError naming the option, what was wanted and what came.
    """
    hints = typing.get_type_hints(cls.__init__ if not hasattr(cls, "__dataclass_fields__") else cls)
    wanted = {k: v for k, v in hints.items() if k in parameters(cls) and k not in given}
    for name in values:
        if name not in wanted:
            raise UserError(f"{where}.{name} is no option{nearest(name, list(wanted))}")
    for name in wanted:
        if name not in values:
            raise UserError(f"{where}.{name} is missing")
    converted = {name: convert(values[name], wanted[name], f"{where}.{name}") for name in wanted}
    try:
        return cls(**converted, **given)
    except (ValueError, TypeError, OverflowError) as error:
        if str(error).split(".")[0].split(" ")[0] in wanted:  # rlopt's own checks name the option first
            raise UserError(f"{where}.{error}".removeprefix(".")) from error
        raise UserError(f"{where} cannot be made of {converted}: {error}") from error


def part_class(values: Mapping[str, Any], where: str) -> type[Any]:
    """The class that ``_target_`` names. Only rlopt's own are taken: a config file can run no other code."""
    target = values.get("_target_")
    if not isinstance(target, str) or not target.startswith("rlopt.core."):
        raise UserError(f"{where}._target_ must name a part of rlopt.core; got {target!r}")
    module, _, name = target.rpartition(".")
    try:
        found: type[Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}._target_: there is no {target}") from error
    if not inspect.isclass(found):
        raise UserError(f"{where}._target_ must name a part of rlopt.core; {target} is no class")
    return found


def construct_part(values: Mapping[str, Any], where: str) -> Any:
    """The part that ``_target_`` names, made of the remaining values."""
    rest = {k: v for k, v in values.items() if k != "_target_"}
    return construct(part_class(values, where), rest, where)


def _nested(value: Any, kind: type[Any], where: str) -> Any:
    """A part inside another's options; its class must have all that the protocol ``kind`` asks for."""
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be null or a {kind.__name__.lower()}, a mapping with _target_; got {value!r}")
    if any(not hasattr(part_class(value, where), name) for name in vars(kind) if not name.startswith("_")):
        raise UserError(f"{where}._target_ must name a {kind.__name__.lower()}; got {value['_target_']!r}")
    return construct_part(value, where)


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
            raise UserError(f"{where} must be one of {', '.join(map(str, args))}; got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} must be a list such as [64,64]; got {value!r}")
        return tuple(convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; got {value!r}")
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

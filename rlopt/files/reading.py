"""Reads files that may come from somebody else: regular ones only, of bounded size, and data of bounded depth.

Nothing here waits for a pipe, follows an alias, or hands over what yaml or JSON has no plain value for. All functions
raise ValueError, with one line that says what is wrong, and OSError where the file cannot be opened.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import IO, Any

import yaml

LARGEST_TEXT = 1_000_000  # bytes of a file of options or results; rlopt writes a few thousand
DEEPEST = 40  # levels of lists and mappings within one another
_LONGEST = 10_000  # characters of one value
_LARGEST_WHOLE = 2**63
_STRINGS = re.compile(r"\\.", re.DOTALL)
_FLOAT = re.compile(
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


def open_regular(path: Path, largest: int, follow: bool = True) -> IO[bytes]:
    """Open a regular file of at most ``largest`` bytes. Without ``follow``, a link is refused too."""
    seen = os.stat(path, follow_symlinks=follow)
    if not stat.S_ISREG(seen.st_mode):
        raise ValueError("it is a link" if stat.S_ISLNK(seen.st_mode) else "it is no regular file")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # the latter for Windows
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    file = open(os.open(path, flags), "rb")
    seen = os.fstat(file.fileno())  # of what was opened, should another file have taken its place
    if stat.S_ISREG(seen.st_mode) and seen.st_size <= largest:
        return file
    file.close()
    raise ValueError(f"it is larger than {largest:,} bytes" if seen.st_size > largest else "it is no regular file")


def exists(path: Path) -> bool:
    """True where there is something of this name, if only a link that leads nowhere."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """The text of a file, in UTF-8."""
    with open_regular(path, largest) as file:
        content = file.read(largest + 1)  # a file of /proc has no size
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest:,} bytes")
    return content.decode()


def read_yaml(path: Path) -> Any:
    """The plain values of a yaml file: mappings, lists, text, numbers, truth values and None."""
    text = read_text(path)
    try:
        _check_events(text)
        loader = _Loader(text)
        try:
            tree = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    _check_values(tree)
    return tree


def read_json(path: Path) -> Any:
    """The values of a JSON file."""
    text = read_text(path)
    check_depth(text)
    tree = json.loads(text)
    _check_values(tree)
    return tree


def check_depth(text: str, deepest: int = DEEPEST) -> None:
    """Raise ValueError where lists and objects of a JSON text stand too deep within one another."""
    depth = 0
    outside = "".join(_STRINGS.sub("", text).split('"')[::2])  # without what stands between quotes
    for bracket in re.findall(r"[][{}]", outside):
        depth += 1 if bracket in "[{" else -1
        if depth > deepest:
            raise ValueError(f"it is nested more than {deepest} deep")


def _check_events(text: str) -> None:
    """Raise ValueError for what yaml may make large or slow, before any value is made."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases (*NAME) are not read; write the value itself")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST:
            raise ValueError(f"a value has more than {_LONGEST:,} characters")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")


def _check_values(tree: Any) -> None:
    """Raise ValueError for a value that is not plain, and for a whole number that no option can have."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            _check_values(key)
            _check_values(value)
    elif isinstance(tree, list):
        for value in tree:
            _check_values(value)
    elif not (tree is None or isinstance(tree, (bool, int, float, str))):
        raise ValueError(f"{type(tree).__name__} is not a plain value")
    elif isinstance(tree, int) and abs(tree) >= _LARGEST_WHOLE:
        raise ValueError("a whole number is beyond 2^63")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain yaml as Hydra reads it: 1e-3 is a number, a date is text, and a key stands once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key must be text, line {key.start_mark.line + 1}")
            if key.value in seen:
                raise yaml.YAMLError(f"{key.value} stands twice in one mapping, line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_NOT_READ = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_READ]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))

"""Extensions: parts and environments of one's own, from folders that the command line names, and from nowhere else.

A folder has the shape of conf/, with the code beside the choice that stands for it:

    DIR/metric/mine.yaml     _target_: metric.mine.Mine, and its options
    DIR/metric/mine.py       class Mine
    DIR/env/*.py             imported at once, so that they can register environments; it may be all that there is
    DIR/wrapper/mine.py      class Mine, a wrapper of environments: env.wrappers=[wrapper.mine:Mine]

Its modules live in a package of their own, so that they can neither hide installed ones nor be hidden by them, and a
file may import its neighbours by relative imports. A config.yaml or a checkpoint can name what the folders hold; it
cannot name a folder.

A module that ``--import`` names may also lie in the working directory, which is searched after all other places.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from rlopt.config.choices import GROUPS, conf_dir, extra_dirs, nearest, own_choices, set_extra_dirs
from rlopt.errors import UserError

_PACKAGE = "rlopt_extensions"


_active: tuple[tuple[Path, ...], tuple[str, ...]] = ((), ())


def active() -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The folders and modules of `extended`, for another process to do the same."""
    return _active


@contextmanager
def extended(folders: Sequence[str | Path], modules: Sequence[str] = ()) -> Iterator[None]:
    """Within, the choices of ``folders`` are choices like rlopt's own; ``modules`` and env/*.py have been imported.

    Raises UserError where a folder holds neither a choice nor environments, or a choice that exists already, or where
    code cannot be imported.
    """
    global _active
    before, active_before = extra_dirs(), _active
    wanted = tuple(_checked(Path(folder).expanduser().resolve()) for folder in folders)
    _activate(wanted)
    searched = _missing(modules)
    sys.path += searched
    try:
        _refuse_doubles(wanted)
        for name in modules:
            _import(name, name)
        for folder in wanted:
            for file in sorted(folder.glob("env/*.py")):
                _import(f"{_PACKAGE}.env.{file.stem}", str(file))
        _active = wanted, tuple(modules)
        yield
    finally:
        for here in searched:
            if here in sys.path:
                sys.path.remove(here)
        _activate(before)
        _active = active_before


def _missing(modules: Sequence[str]) -> list[str]:
    """The working directory, if one of these modules is installed nowhere and no path leads there yet."""
    tops = {name.partition(".")[0] for name in modules} - set(sys.modules)
    here = os.getcwd() if tops else ""
    absent = here not in sys.path and any(importlib.util.find_spec(top) is None for top in tops if top.isidentifier())
    return [here] if absent else []


def module(name: str) -> ModuleType | None:
    """The module ``name`` of the folders, such as metric.mine; None where they have no file for it."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    files = (folder.joinpath(*parts).with_suffix(".py") for folder in extra_dirs())
    file = next((file for file in files if file.is_file()), None)
    return _import(f"{_PACKAGE}.{name}", str(file)) if file else None


def own_callable(module_name: str, name: str, where: str) -> Callable[..., Any]:
    """The class or function ``name`` of a module in a folder of --extensions, or of one that --import names.

    Raises UserError, which begins with the option ``where``, where there is none.
    """
    found = sys.modules.get(module_name) if module_name in _active[1] else module(module_name)
    if found is None:
        folders = " or ".join(map(str, extra_dirs())) or "a folder that --extensions DIR names"
        raise UserError(
            f"{where}: there is no module {module_name} in {folders}, and --import names none; mine.py in the folder's "
            "wrapper/ is wrapper.mine"
        )
    if not callable(thing := getattr(found, name, None)):
        raise UserError(f"{where}: there is no class or function {name} in {module_name}")
    return cast(Callable[..., Any], thing)


def own_wrappers(entries: Any) -> dict[str, Callable[..., Any]]:
    """The user's own wrappers among the entries of env.wrappers, by their entries."""
    from rlopt.envs.named_wrappers import own_name

    texts = [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list | tuple) else []
    named = {entry: found for entry in texts if (found := own_name(entry))}
    return {entry: own_callable(*found, "env.wrappers") for entry, found in named.items()}


def _activate(folders: tuple[Path, ...]) -> None:
    if folders == extra_dirs():
        return
    for name in [n for n in sys.modules if n.split(".")[0] == _PACKAGE]:
        del sys.modules[name]
    set_extra_dirs(folders)
    if folders:
        sys.modules[_PACKAGE] = package = ModuleType(_PACKAGE, "The folders that --extensions names.")
        package.__path__ = [str(folder) for folder in folders]
        importlib.invalidate_caches()


def _import(name: str, told: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError):
            place = f" in {error.filename}, line {error.lineno}"
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = "" if "importlib" in frame.filename else f" in {frame.filename}, line {frame.lineno}"
        said = " ".join(str(getattr(error, "msg", error)).split())
        raise UserError(f"{told} cannot be imported: {type(error).__name__}{place}: {said}") from error


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"--extensions {folder}: there is no such folder")
    if not any(_choices(folder)) and not any(any(folder.glob(f"{kind}/*.py")) for kind in ("env", "wrapper")):
        odd = sorted(file.parent.name for file in folder.glob("*/*.yaml"))
        hint = f"; {odd[0]} is no group{nearest(odd[0], list(GROUPS))}" if odd else ""
        raise UserError(
            f"--extensions {folder} holds no choice; a metric is metric/NAME.yaml and metric/NAME.py in it, and "
            f"environments are registered by env/NAME.py{hint}"
        )
    return folder


def _refuse_doubles(folders: tuple[Path, ...]) -> None:
    seen = {(group, name): conf_dir() for group in GROUPS for name in own_choices(group)}
    for folder in folders:
        for group, name in _choices(folder):
            if (group, name) in seen:
                raise UserError(f"--extensions {folder}: there is a {group} {name} already; give yours another name")
            seen[group, name] = folder


def _choices(folder: Path) -> list[tuple[str, str]]:
    return [(group, file.stem) for group in GROUPS for file in sorted((folder / group).glob("*.yaml"))]

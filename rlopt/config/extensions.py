"""Extensions: parts and environments of one's own, from folders that the command line names, and from nowhere else.

A folder has the shape of conf/, with the code beside the choice that stands for it:

    DIR/metric/mine.yaml     _target_: metric.mine.Mine, and its options
    DIR/metric/mine.py       class Mine
    DIR/env/*.py             imported at once, so that they can register environments; it may be all that there is
    DIR/wrapper/mine.py      class Mine, a wrapper of environments: env.wrappers=[wrapper.mine:Mine]

Its modules live in a package of their own, so that they can neither hide installed ones nor be hidden by them, and a
file may import its neighbours by relative imports. A config.yaml or a checkpoint can name what the folders hold; it
cannot name a folder.

A module that ``--import`` names may also lie in the working directory, which is searched after all other places, or be
a file, ``--import ./mine.py``, whose neighbours it may import. An environment that is typed as ``env.id=MODULE:CLASS``
or ``env.id=./mine.py:CLASS`` brings its module with it. A function that makes environments will do for a class.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import gymnasium as gym

from rlopt.config.choices import GROUPS, conf_dir, extra_dirs, nearest, own_choices, set_extra_dirs
from rlopt.errors import UserError

_PACKAGE = "rlopt_extensions"
PYTHON = "python"  # in the id of an environment that was given from Python and cannot be imported: python:NAME
_TYPED_ID = re.compile(r"(?:\+\+?)?env\.id=(.*)", re.DOTALL)


_files: dict[str, ModuleType] = {}  # modules of --import FILE.py, by what was typed
_given: dict[str, Callable[..., Any]] = {}  # environments given from Python, by their ids
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
    searched = _missing([name for name in modules if not is_file(name)])
    searched += [str(Path(name).expanduser().resolve().parent) for name in modules if is_file(name)]
    sys.path += (searched := [folder for folder in dict.fromkeys(searched) if folder not in sys.path])
    try:
        _refuse_doubles(wanted)
        for name in modules:
            _import_file(name) if is_file(name) else _import(name, name)
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


def is_file(name: str) -> bool:
    """Whether a module is typed as the path of a file."""
    return name.endswith(".py")


def modules_of(overrides: Iterable[str]) -> list[str]:
    """The modules of the environments MODULE:NAME that these overrides name, each once; a sweep may name several."""
    typed = [match[1] for text in overrides if (match := _TYPED_ID.match(text))]
    ids = [id.strip("'\" ") for text in typed for id in text.strip("'\" ").split(",")]
    return list(dict.fromkeys(id.rpartition(":")[0] for id in ids if ":" in id))


def imported(name: str) -> ModuleType | None:
    """A module that has been imported already, or a file that --import or env.id named; else None."""
    return _files.get(name) if is_file(name) else sys.modules.get(name)


@contextmanager
def given_environment(id: str, make: Callable[..., Any] | None) -> Iterator[None]:
    """Within, the environment ``id`` is what ``make`` makes: a class or a function that was given from Python."""
    before = dict(_given)
    if make is not None:
        _given[id] = make
    try:
        yield
    finally:
        _given.clear()
        _given.update(before)


def is_given(id: str) -> bool:
    """Whether the environment ``id`` was given from Python, so that `own_environment` has it or says why not."""
    return id in _given or id.startswith(f"{PYTHON}:")


def own_environment(env: Mapping[str, Any]) -> Callable[..., Any] | None:
    """What makes the environment that the options ``env`` name; None where Gymnasium's registry has it.

    A module counts only if --import or a typed env.id names it, and in it a class of environments or a function of its
    own: a config.yaml may come from a stranger. Raises UserError where the environment was given from Python and is not
    there, or where the module has something else of that name.
    """
    id = env.get("id")
    if not isinstance(id, str) or ":" not in id:
        return None
    if id in _given:
        return _given[id]
    place, _, name = id.rpartition(":")
    if place == PYTHON:
        raise UserError(
            f"env.id={id} was given to rlopt.train as {name}, which has no place to be imported from; from Python "
            "rlopt.load(RUN_DIR) gives the policy, and rlopt.resume(RUN_DIR, env=...) goes on"
        )
    found = imported(place) if place in _active[1] else None
    thing = getattr(found, name, None)
    if thing is None and not is_file(place):
        return None
    if thing is None and found is not None and name in gym.registry:
        return partial(gym.make, name, disable_env_checker=True)
    is_class = isinstance(thing, type) and (issubclass(thing, gym.Env) or _makes_games(thing))
    if is_class or (isfunction(thing) and found is not None and thing.__module__ == found.__name__):
        return cast("Callable[..., Any]", thing)
    if found is None:
        raise UserError(f"env.id={id} needs the file {place}; if you trust it, add --import {place}")
    known = [key for key, value in vars(found).items() if isinstance(value, type) and issubclass(value, gym.Env)]
    what = "nothing" if thing is None else "neither a gymnasium.Env nor a function of its own"
    raise UserError(f"env.id={id}: {name} in {place} is {what}{nearest(name, known)}")


def _makes_games(cls: type[Any]) -> bool:
    """Whether it is a class of games of several agents: these give each agent's spaces by methods."""
    return all(callable(getattr(cls, name, None)) for name in ("reset", "step", "observation_space", "action_space"))


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
    found = imported(module_name) if module_name in _active[1] else module(module_name)
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


def _import_file(path: str) -> None:
    """Import a file under its own name, or under another where a module of that name is there."""
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise UserError(f"{path}: there is no such file")
    name = file.stem if file.stem.isidentifier() and _place_of(file.stem) in (None, str(file)) else f"file_{file.stem}"
    known = sys.modules.get(name)
    same = known is not None and getattr(known, "__file__", None) == str(file)
    _files[path] = known if known and same else _explained(path, lambda: _load(name, file))


def _place_of(name: str) -> str | None:
    """The file of a module of this name, imported or only installed; None where there is none."""
    found: Any = sys.modules.get(name) or importlib.util.find_spec(name)
    return None if found is None else str(getattr(found, "__file__", getattr(found, "origin", "")))


def _load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = found = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[name]
        raise
    return found


def _import(name: str, told: str) -> ModuleType:
    return _explained(told, lambda: importlib.import_module(name))


def _explained(told: str, load: Callable[[], ModuleType]) -> ModuleType:
    """The module that ``load`` imports; an error in it becomes a UserError that begins with ``told``."""
    try:
        return load()
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

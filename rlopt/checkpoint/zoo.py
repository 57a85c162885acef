"""The zoo: trained policies that come with rlopt, by name, and how a policy is kept of a run.

zoo:ALGO-TASK, such as zoo:trpo-hopper, may stand where a command or a function takes the folder of a finished run: in
`rlopt eval`, `inspect`, `export` and `card`, in `rlopt.load` and in ``init.from``. In a clone the policies lie in
experiments/mujoco/policies, in an installed package in rlopt/zoo.

A kept policy is the folder of a run without most of its state: config.yaml, summary.json and one checkpoint with the
parameters of the policy (or their average), what the normalisers have seen and, where the file stays small enough, the
critic's parameters. The states of optimizers and solvers, of environments and of generators are left out, so a kept
policy acts, is inspected and is started from, but its run cannot go on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rlopt.checkpoint.format import file_name, write
from rlopt.checkpoint.manager import load_newest
from rlopt.config.choices import nearest
from rlopt.config.saved import load_run, to_yaml
from rlopt.core.parts import State
from rlopt.errors import UserError
from rlopt.files import replace_file
from rlopt.files.reading import read_json

PREFIX = "zoo:"
LARGEST = 300_000  # bytes of a kept checkpoint
KEPT = "kept"  # in the tree of a kept checkpoint: the networks that it holds
_LEFT_OUT = ("minibatches", "recent", "environments", "changes")  # of the run; what of `agent` is kept says `_part`


def zoo_dir() -> Path:
    """The folder of policies: inside an installed package, in experiments/ in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "zoo"
    return inside if inside.is_dir() else package.parent / "experiments/mujoco/policies"


def names() -> list[str]:
    """Names of the zoo's policies, without zoo: before them."""
    return sorted(path.parent.name for path in zoo_dir().glob("[!.]*/config.yaml"))


def in_zoo(run_dir: str | Path) -> bool:
    """Whether this is the name of a policy of the zoo, and no folder."""
    return str(run_dir).startswith(PREFIX)


def run_folder(run_dir: str | Path) -> Path:
    """The folder of zoo:NAME; any other path as it is. Raises UserError where the zoo has no such policy."""
    if not in_zoo(run_dir):
        return Path(run_dir)
    name = str(run_dir).removeprefix(PREFIX)
    if name in (known := names()):
        return zoo_dir() / name
    if not known:
        raise UserError(f"{PREFIX}{name} is not here: the zoo is empty, {zoo_dir()} holds no policy")
    raise UserError(f"the zoo has no policy {name!r}{nearest(name, known)}; `rlopt zoo` lists those that it has")


def output_folder(run_dir: Path) -> Path:
    """Where a command puts what it makes of a run: its folder, of a policy of the zoo the working directory."""
    return Path() if in_zoo(run_dir) else run_dir


def summaries() -> dict[str, dict[str, Any]]:
    """Name -> summary.json of each policy of the zoo."""
    return {name: read_json(zoo_dir() / name / "summary.json") for name in names()}


def keep(
    run_dir: Path, target: Path, largest: int = LARGEST, config: Mapping[str, Any] | None = None, **figures: Any
) -> Path:
    """Write the newest policy of the finished run in ``run_dir`` to the folder ``target``, in place of what is there.

    ``config`` takes the place of the run's, and ``figures`` come into its summary. The critic is left out where the
    checkpoint would have more than ``largest`` bytes. Returns the checkpoint's path. Raises UserError where the run is
    not finished, or the policy alone is larger.
    """
    if not (run_dir / "summary.json").exists():
        raise UserError(f"{run_dir} is not finished: it has no summary.json")
    summary = {**read_json(run_dir / "summary.json"), **figures}
    config = {**(config or load_run(run_dir, needs_environment=False)), "run_dir": None}
    step, tree = load_newest(run_dir)
    shutil.rmtree(target, ignore_errors=True)
    for networks in (("actor", "critic"), ("actor",)):
        path = _write(target, step, _reduced(tree, config, networks), config, summary)
        if (size := path.stat().st_size) <= largest:
            return path
    shutil.rmtree(target)
    raise UserError(f"the policy of {run_dir} takes {size:,} bytes, more than {largest:,}")


def saver(step: int, tree: Mapping[str, Any], config: Mapping[str, Any]) -> Callable[[str | Path], Path]:
    """A function that writes the policy of a checkpoint's ``tree`` to a new folder, and holds no more of the tree.

    It returns the folder, and raises UserError where there is one of the name.
    """
    config = {**config, "run_dir": None}
    kept = _reduced(tree, config, tuple(name for name in ("actor", "critic") if name in tree["agent"]))
    return partial(_save, step, kept, config)


def _save(step: int, kept: dict[str, Any], config: Mapping[str, Any], target: str | Path) -> Path:
    if (target := Path(target)).exists():
        raise UserError(f"{target} is there; a policy is saved in a folder of its own")
    _write(target, step, kept, config, {})
    return target


def _write(
    target: Path, step: int, kept: dict[str, Any], config: Mapping[str, Any], summary: Mapping[str, Any]
) -> Path:
    """Write the folder of a kept policy; the path of its checkpoint."""
    path = target / "checkpoints" / file_name(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, step, kept, summary.get("evaluation_return"))
    replace_file(target / "config.yaml", to_yaml(config))
    replace_file(target / "summary.json", json.dumps(summary, indent=2) + "\n")
    return path


def completed(start: State, agent: Any) -> State:
    """What a kept checkpoint has of an agent's state, and the rest as in ``start``, before the first step.

    Raises ValueError where ``agent``, from a file, is no tree of groups.
    """
    if not isinstance(agent, dict) or not all(isinstance(part, dict) for part in agent.values()):
        raise ValueError("its agent is no group of entries")
    return {name: {**part, **agent.get(name, {})} if isinstance(part, dict) else part for name, part in start.items()}


def _reduced(tree: Mapping[str, Any], config: Mapping[str, Any], networks: tuple[str, ...]) -> dict[str, Any]:
    """The tree of a kept checkpoint, with these networks where the run has them."""
    held = ("observations", "rewards", *networks)
    agent = {name: _part(name, part) for name, part in tree["agent"].items() if name in held}
    about = {name: value for name, value in tree.items() if name not in _LEFT_OUT}
    return {**about, "agent": agent, "config": dict(config), KEPT: [name for name in networks if name in agent]}


def _part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Of a network its parameters, of the normalisation of rewards what does not belong to single environments."""
    left_out = "parts" if name in ("actor", "critic") else "returns" if name == "rewards" else None
    return {key: value for key, value in part.items() if key != left_out}

"""The trials of a study of `hydra/sweeper=optuna`: where they are kept, the best one, and which options matter.

Importance is PED-ANOVA's (Watanabe, Bansal and Hutter 2023): how much an option's values in the better tenth of all
trials differ in distribution from those in all trials; the shares add up to 1.
"""

from __future__ import annotations

import importlib.util
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rlopt.errors import UserError, in_one_line, needs_extra

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

FILE = "optuna.db"  # where the sweeper keeps the trials, in sweep_dir
_LEAST = 5  # trials that are done, for importance to say something
_LARGEST = 256 * 2**20  # bytes of a file that is opened


def load(folder: Path) -> Study | None:
    """The study in a folder of runs; None where there is none. Raises UserError where it cannot be read."""
    path = folder / FILE
    if not path.exists():
        return None
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _LARGEST:
        raise UserError(f"{path} is no regular file of at most {_LARGEST / 2**20:.0f} MB")
    if importlib.util.find_spec("optuna") is None:
        raise UserError(needs_extra(f"{path} holds a study, for which rlopt report needs optuna", "optuna"))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = f"sqlite:///file:{quote(str(path.absolute()))}?mode=ro&uri=true"
        names = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=names[0], storage=storage) if names else None
    except Exception as error:  # of the data base, which may hold anything
        raise UserError(f"{path} is no study of Optuna's: {type(error).__name__}: {in_one_line(error)}") from error


def command(study: Study, trial: FrozenTrial) -> str:
    """What is typed to train with this trial's options."""
    fixed = [text for text in study.user_attrs.get("fixed", []) if isinstance(text, str) and "=" in text]
    options = [*fixed, *(f"{name}={value}" for name, value in trial.params.items())]
    return shlex.join(["rlopt", "train", *(text for text in options if not text.startswith("-"))])


def describe(study: Study) -> str:
    """How many trials there are of each kind."""
    count = {kind: len(trials_of(study, kind)) for kind in ("COMPLETE", "PRUNED", "FAIL", "RUNNING")}
    kinds = (("PRUNED", "pruned"), ("FAIL", "failed"), ("RUNNING", "not at their end"))
    others = [f"{count[kind]} {word}" for kind, word in kinds if count[kind]]
    return ", ".join([f"{count['COMPLETE']} trial{'s' * (count['COMPLETE'] != 1)} done", *others])


def best(study: Study) -> FrozenTrial | None:
    """The trial with the best value; None where none is done."""
    return study.best_trial if trials_of(study, "COMPLETE") else None


def importance(study: Study) -> dict[str, float]:
    """The share of each option, the largest first; empty where too few trials are done, or all are equally good."""
    import optuna

    done = trials_of(study, "COMPLETE")
    if len(done) < _LEAST or len({trial.value for trial in done}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def trials_of(study: Study, state: str) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == state]

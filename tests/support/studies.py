"""A small study of Optuna's, as rlopt's sweeper leaves it."""

from pathlib import Path
from typing import Any

import numpy as np


def make_study(folder: Path, count: int = 30, direction: str = "maximize") -> Any:
    """Of three options the first decides the value, and the last is text; one trial was pruned."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="rlopt", storage=f"sqlite:///{folder}/optuna.db", direction=direction,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    study.set_user_attr("fixed", ["algo=ppo", "policy.hidden=[8,8]", "--extensions", "--import=evil"])

    def value(trial: Any) -> float:
        x = trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
        trial.suggest_float("gamma", 0.9, 0.99)
        trial.suggest_categorical("optimizer", ["adam", "sgd"])
        if trial.number == 3:
            raise optuna.TrialPruned
        return -abs(np.log10(x) + 3)

    study.optimize(value, count)
    return study

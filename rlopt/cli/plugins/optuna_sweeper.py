"""`hydra/sweeper=optuna`: options are drawn by Optuna, to make the return as high as it can (Akiba et al. 2019).

    rlopt train -m algo=ppo 'optimizer.lr=tag(log,interval(1e-4,1e-2))' gamma=0.9,0.99 hydra/sweeper=optuna

| on the command line        | is drawn                                                    |
|---|---|
| `interval(1e-4,1e-2)`      | a number between the two                                    |
| `int(interval(1,8))`       | a whole number, both ends included                          |
| `range(16,128,step=16)`    | one of these; the end is not one of them, as in a sweep     |
| `choice(adam,sgd)`, `1,2`  | one of these                                                |
| `tag(log,interval(...))`   | on a logarithmic scale                                      |

| hydra.sweeper. | is                                                                                        |
|---|---|
| n_trials       | trials of the study, those of earlier sweeps in the same sweep_dir included               |
| n_jobs         | trials that the launcher is given at a time, such as n_jobs of hydra/launcher=joblib      |
| direction      | maximize or minimize                                                                      |
| sampler        | tpe (Bergstra et al. 2011), gp (a Gaussian process) or random                             |
| pruner         | median, halving (Jamieson and Talwalkar 2016) or none                                     |
| startup        | trials that are drawn at random, and before which none is pruned                          |
| reports        | times that a run reports its return, at equal distances, and may be pruned                |
| seed           | of the sampler                                                                            |
| storage        | an address of Optuna's; by default the file SWEEP_DIR/optuna.db                           |
| study_name     | the study's in the storage                                                                |

The first trial is the configuration as it is without the drawn options, where that lies within what may be drawn. A
trial's value is the run's evaluation return, or without evaluations the mean return of its last training episodes. A
run that is pruned reports the return of its last training episodes; its evaluation is left out. A run that diverged
(exit code 3) is a failed trial, and the study goes on. One that cannot begin with the values drawn is a failed trial
too, and ends the sweep; the next sweep draws others. The same command continues a study that was stopped, its
unfinished runs first; the trials do not depend on where it was stopped, unless several run at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial, TrialState

from rlopt.cli.plugins import register_plugin, set_up
from rlopt.cli.process import watching
from rlopt.config.compose import compose
from rlopt.config.overrides import from_sweeper, full_name, parse, to_sweeper
from rlopt.errors import Stopped, UserError, in_one_line
from rlopt.files import flatten
from rlopt.loggers import console
from rlopt.report import trials
from rlopt.training.callbacks import RunContext
from rlopt.training.trainer import Trainer

TRIAL = "study_trial"  # the name under which a job is told its trial
DIVERGED = 3  # exit code of a run whose numbers were not finite; also of one that was pruned
_OPTIONS: dict[str, Any] = {
    "n_trials": 20, "n_jobs": 1, "direction": "maximize", "sampler": "tpe", "pruner": "median", "startup": 5,
    "reports": 20, "seed": 0, "storage": None, "study_name": "rlopt",
}  # fmt: skip
_SAMPLERS = {
    "tpe": lambda seed, startup, jobs: optuna.samplers.TPESampler(
        n_startup_trials=startup, constant_liar=jobs > 1, seed=seed
    ),
    "gp": lambda seed, startup, jobs: optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed),
    "random": lambda seed, startup, jobs: optuna.samplers.RandomSampler(seed=seed),
}
_PRUNERS = {
    "median": lambda startup, reports: optuna.pruners.MedianPruner(startup, n_warmup_steps=reports // 4),
    "halving": lambda startup, reports: optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, reports // 4)),
    "none": lambda startup, reports: optuna.pruners.NopPruner(),
}


class OptunaSweeper(Sweeper):
    """Draws the options of each trial, gives them to the launcher, and tells Optuna what came of them."""

    def __init__(self, **options: Any):
        self._options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._folder = Path(str(config.hydra.sweep.dir))
        set_up()

    def sweep(self, arguments: list[str]) -> None:
        """Train until the study has n_trials trials."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        overrides = [parse(text) for text in arguments]
        space = {_typed_name(o): distribution(o) for o in overrides if o.is_sweep_override()}
        fixed = [text for text, o in zip(arguments, overrides, strict=True) if not o.is_sweep_override()]
        self._folder.mkdir(parents=True, exist_ok=True)
        study = open_study(self._options, create=True)
        study.set_user_attr("fixed", [from_sweeper(text) for text in fixed])
        if not study.trials and (preset := _preset([from_sweeper(text) for text in fixed], space)):
            study.enqueue_trial(preset)
        while batch := self._next_trials(study, space):
            jobs = [[*fixed, *_as_arguments(trial.params), f"+{TRIAL}={trial.number}"] for trial in batch]
            returned = self._launcher.launch(jobs, initial_job_idx=batch[0].number)
            for trial, result in zip(batch, returned, strict=True):
                _tell(study, trial, result.return_value)
        console.output(f"Study: {trials.describe(study)}")
        if best := trials.best(study):
            console.output(
                f"  best:      {trials.command(study, best)}  (trial {best.number}, return {best.value:,.6g})"
            )

    def _next_trials(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> list[Trial]:
        """The next trials to run, at most n_jobs: those that an earlier sweep left unfinished, then new ones."""
        known = study.get_trials(deepcopy=False)
        found = [Trial(study, t._trial_id) for t in known if t.state == TrialState.RUNNING]
        done = sum(t.state.is_finished() for t in known)
        count = min(max(1, self._options["n_jobs"]), self._options["n_trials"] - done)
        for number in range(done + len(found), done + count):
            study.sampler = _sampler(self._options, number)
            found.append(_drawn(study, space))
        return found[:count]


def _drawn(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> Trial:
    """A new trial. Raises UserError where earlier ones drew from something that the study cannot have beside it."""
    trial = study.ask()
    try:
        for name, one in space.items():
            trial._suggest(name, one)
    except ValueError as error:
        study.tell(trial, state=TrialState.FAIL)
        raise UserError(
            f"{name}: this study has drawn it otherwise before, and cannot have both; give another sweep_dir, or "
            f"hydra.sweeper.study_name ({in_one_line(error)})"
        ) from error
    return trial


@dataclass
class Watch:
    """What a run of a trial has reported: ``pruned`` once it is ended for that."""

    study: optuna.Study
    trial: Trial
    pruned: bool = False
    _known: set[int] = field(default_factory=set)

    def report(self, run: Trainer, moment: RunContext, reports: int) -> None:
        """Report the return once at each of the equally distant steps; raise Stopped where the pruner ends the run."""
        mark, recent = moment.steps * reports // run.config.total_steps, run.mean_return()
        if recent is None or not math.isfinite(recent) or not 1 <= mark < reports or mark in self._known:
            return
        self._known.add(mark)
        self.trial.report(recent, mark)
        if self.trial.should_prune():
            self.pruned = True
            raise Stopped(f"pruned at step {moment.steps:,}: others had done better by then")

    def fail(self) -> None:
        """The trial is done: a later sweep draws other values."""
        self.study.tell(self.trial, state=TrialState.FAIL)


@contextmanager
def trial_watched(options: Mapping[str, Any], number: int) -> Iterator[Watch]:
    """Within, the run that is trained in this process reports to the study's trial of this number."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(options)
    saved = study.get_trials(deepcopy=False)[number]
    watch = Watch(study, Trial(study, saved._trial_id))
    watch._known.update(saved.intermediate_values)
    with watching(lambda run, moment: watch.report(run, moment, options["reports"])):
        yield watch


def open_study(options: Mapping[str, Any], create: bool = False) -> optuna.Study:
    """The study of these options of the sweeper. Raises UserError for one that cannot be had."""
    for name, known in (("sampler", _SAMPLERS), ("pruner", _PRUNERS), ("direction", ("maximize", "minimize"))):
        if options[name] not in known:
            raise UserError(f"hydra.sweeper.{name}={options[name]}: choose from {', '.join(known)}")
    for name, least in (("n_trials", 1), ("n_jobs", 1), ("startup", 1), ("reports", 1)):
        if not isinstance(options[name], int) or options[name] < least:
            raise UserError(f"hydra.sweeper.{name}={options[name]}: a whole number is wanted, {least} or above")
    if options["storage"] is None:
        raise UserError("hydra.sweeper.storage=None: an address of Optuna's is wanted, such as sqlite:///trials.db")
    pruner = _PRUNERS[options["pruner"]](options["startup"], options["reports"])
    common = {"storage": options["storage"], "study_name": options["study_name"], "pruner": pruner}
    try:
        if not create:
            return optuna.load_study(**common)
        return optuna.create_study(**common, direction=options["direction"], load_if_exists=True)
    except Exception as error:  # of the storage, which may be any data base
        raise UserError(f"hydra.sweeper.storage={options['storage']}: {in_one_line(error)}") from error


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws from for an override of several values. Raises UserError for one that it cannot draw."""
    value, typed = override.value(), from_sweeper(str(override.input_line))
    tags: set[str] = getattr(value, "tags", set())
    if unknown := tags - {"log"}:
        raise UserError(f"{typed}: the tag may be log; got {', '.join(sorted(unknown))}")
    log = "log" in tags
    try:
        if isinstance(value, IntervalSweep):
            assert value.start is not None and value.end is not None
            if value.start > value.end:
                raise UserError(f"{typed}: the lower end comes first, interval({value.end},{value.start})")
            whole = isinstance(value.start, int) and isinstance(value.end, int)
            return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log=log)
        if isinstance(value, RangeSweep) and not value.shuffle:
            values = list(value.range())
            if log or len(values) < 2 or not all(isinstance(each, int) for each in values):
                return CategoricalDistribution([str(each) for each in values])
            return IntDistribution(min(values), max(values), step=abs(values[1] - values[0]))
    except ValueError as error:
        raise UserError(f"{typed}: {in_one_line(error)}") from error
    assert isinstance(value, ChoiceSweep | RangeSweep)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _typed_name(override: Override) -> str:
    return from_sweeper(str(override.input_line)).partition("=")[0]


def _as_arguments(params: Mapping[str, Any]) -> list[str]:
    """A trial's options as jobs are given them."""
    return [to_sweeper(parse(f"{name}={value}")) for name, value in params.items()]


def _sampler(options: Mapping[str, Any], number: int) -> optuna.samplers.BaseSampler:
    """For the trial of this number: each has a seed of its own, so that a study does not depend on its stops."""
    return _SAMPLERS[options["sampler"]](options["seed"] * 100_003 + number, options["startup"], options["n_jobs"])


def _preset(fixed: list[str], space: Mapping[str, BaseDistribution]) -> dict[str, Any] | None:
    """The values that the drawn options have without the study; None unless all may be drawn."""
    plain = flatten(compose(fixed))
    found = {name: plain.get(full_name(parse(f"{name}=0"))) for name in space}
    found = {name: str(v) if isinstance(space[name], CategoricalDistribution) else v for name, v in found.items()}
    return found if all(_may_be(value, space[name]) for name, value in found.items()) else None


def _may_be(value: Any, one: BaseDistribution) -> bool:
    """Whether this value may be drawn."""
    if isinstance(one, CategoricalDistribution):
        return value in one.choices
    assert isinstance(one, FloatDistribution | IntDistribution)
    if not isinstance(value, int | float) or isinstance(value, bool) or not one.low <= value <= one.high:
        return False
    return not isinstance(one, IntDistribution) or (value - one.low) % one.step == 0


def _tell(study: optuna.Study, trial: Trial, value: float | None) -> None:
    """``value``: None for a run that was pruned, NaN for one that failed."""
    if value is None:
        study.tell(trial, state=TrialState.PRUNED)
    elif math.isfinite(value):
        study.tell(trial, value)
    else:
        study.tell(trial, state=TrialState.FAIL)


def register() -> None:
    """Make `hydra/sweeper=optuna` known to Hydra."""
    register_plugin(OptunaSweeper, "hydra/sweeper", "optuna", _OPTIONS)

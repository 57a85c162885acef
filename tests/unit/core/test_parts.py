"""A part of one's own that sets each field of Requirements: a run that does not meet it is refused, another trains."""

from dataclasses import fields

import pytest
import torch
from torch import nn

import rlopt
from rlopt.core import heads
from rlopt.core.metrics.gauss_newton import GaussNewton
from rlopt.core.parts import Requirements
from rlopt.errors import UserError

PART = """
from dataclasses import dataclass
from {module} import {base}
from rlopt.core.parts import Requirements
from rlopt.core.requirements import Incompatible, Remedy


def too_many(factors, samples):
    if factors * samples > 80:
        raise Incompatible(f"{{factors}} times {{samples}} are too many", Remedy.FEWER_SAMPLES, unused=3)


def small(size):
    if size > 50:
        raise Incompatible(f"{{size}} parameters are too many")


@dataclass(frozen=True)
class Asks:
    asks: str
    unused: float

    @property
    def requirements(self):
        values = dict(check_size=small, check_samples=too_many, unread={{"unused": "asks"}}, reads_damping=False, linear=False)
        taken = {{"instead": {{"unused": 2}}}} if self.asks == "first_step_only" else {{}}
        return Requirements(**taken, **{{self.asks: values.get(self.asks, True)}}) if self.asks != "nothing" else Requirements()

    {needs} = {base}({options}).{needs}

    def init(self):
        return {{}}

    def {method}(self, *arguments):
        return {base}({options}).{method}(*arguments)
"""
FILES = {
    "metric": dict(module="rlopt.core.metrics.gauss_newton", base="GaussNewton", options="", needs="supplies", method="bind"),
    "solver": dict(module="rlopt.core.solvers.dense", base="Dense", options="'refuse'", needs="needs", method="prepare"),
}  # fmt: skip
SMALL = ["algo=npg", "env=cartpole", "env.num_envs=4", "batch_size=40", "total_steps=40", "policy.hidden=[4]",
         "critic.hidden=[4]", "critic.schedule.epochs=1", "evaluation.episodes=0"]  # fmt: skip
MINIBATCH = ["step=trust_region", "schedule=minibatch", "schedule.minibatch=20"]

# what is asked, of which part, what is typed that does not meet it, and what the refusal says
ASKED = [
    ("needs_damping", "solver", ["damping.value=0"], "solver=asks needs damping above 0"),
    ("needs_chain", "solver", ["policy.layer_norm=true"], "solver=asks needs a multilayer perceptron without"),
    ("reads_damping", "solver", ["damping.value=1"], "damping.value has no effect: solver=asks takes no damping"),
    ("first_step_only", "metric", MINIBATCH, "in the first step .* schedule.epochs=1, or type metric.unused=2"),
    ("whole_batch", "metric", MINIBATCH, "metric=asks needs .*; add schedule=whole_batch"),
    ("whole_batch", "solver", MINIBATCH, "solver=asks needs .*; add schedule=whole_batch"),
    ("linear", "preconditioner", [], "solver.preconditioner must be null or a solver that is linear in g"),
    ("check_size", "metric", ["policy.hidden=[8]"], "metric=asks: 58 parameters are too many"),
    ("check_size", "solver", ["policy.hidden=[8]"], "solver=asks: 58 parameters are too many"),
    (
        "check_samples",
        "solver",
        ["batch_size=44"],
        "solver=asks: 2 times 44 are too many; type solver.unused=3, or lower",
    ),
    ("unread", "metric", ["metric.unused=1"], "metric.unused has no effect with metric.asks=unread"),
    ("unread", "solver", ["solver.unused=1"], "solver.unused has no effect with solver.asks=unread"),
]


@pytest.fixture
def folder(tmp_path):
    for group, values in FILES.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "asks.py").write_text(PART.format(**values))
        (tmp_path / group / "asks.yaml").write_text(
            f"# asks\n_target_: {group}.asks.Asks\nasks: nothing\nunused: 0.0\n"
        )
    return tmp_path


def typed(part: str, asks: str) -> list[str]:
    if part == "preconditioner":
        return ["metric=fisher", "solver=cg", "solver.preconditioner=asks", f"solver.preconditioner.asks={asks}"]
    other = {"metric": "solver=dense", "solver": "metric=fisher"}[part]
    return [other, f"{part}=asks", f"{part}.asks={asks}"]


def train(folder, *options: str) -> None:
    given = {option.partition("=")[0] for option in options}
    kept = [option for option in SMALL if option.partition("=")[0] not in given]
    rlopt.train(*kept, *options, extensions=[folder], run_dir=folder / "run")


@pytest.mark.parametrize(("asks", "part", "options", "says"), ASKED)
def test_what_a_part_asks_is_obeyed(folder, asks, part, options, says):
    with pytest.raises(UserError, match=says) as refused:
        train(folder, *typed(part, asks), *options)
    assert "\n" not in str(refused.value) and not (folder / "run").exists()
    train(folder, *typed(part, "nothing"), *options)


@pytest.mark.parametrize(
    ("asks", "part"), sorted({(asks, part) for asks, part, *_ in ASKED} - {("linear", "preconditioner")})
)
def test_a_run_that_meets_it_trains(folder, asks, part):
    train(folder, *typed(part, asks))
    assert (folder / "run/summary.json").is_file()


def test_a_part_for_one_rank_is_refused_on_two(folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("rlopt.config.compatibility.world_size", lambda: 2)
        with pytest.raises(UserError, match="solver=asks needs all samples in one process.*These work.*solver=cg"):
            train(folder, *typed("solver", "one_rank"))
    train(folder, *typed("solver", "one_rank"))


def test_a_metric_that_reads_actions_gets_them_in_the_library():
    class ReadsActions(GaussNewton):
        requirements = Requirements(reads_actions=True)

    module, inputs = nn.Linear(3, 2), torch.zeros(5, 3)
    with pytest.raises(ValueError, match="actions"):
        rlopt.curvature(module, heads.Categorical(2), inputs, metric=ReadsActions())
    rlopt.curvature(module, heads.Categorical(2), inputs, metric=ReadsActions(), actions=torch.zeros(5).long())


def test_every_field_is_asked_here():
    elsewhere = {"one_rank", "reads_actions", "instead", "batches"}  # the last with first_step_only
    elsewhere |= {"holds_matrix", "work"}  # by rlopt inspect
    elsewhere |= {"root_alone", "solves_again"}  # tests/unit/config: test_schema_solvers.py, test_compatibility.py
    elsewhere |= {"reads_samples"}  # of networks with memory alone: tests/system/test_memory.py
    assert {asks for asks, *_ in ASKED} | elsewhere == {field.name for field in fields(Requirements)}


def test_a_part_that_says_nothing_of_it_is_no_part(folder):
    file = folder / "solver" / "asks.py"
    file.write_text(file.read_text().replace("def requirements", "def other"))
    with pytest.raises(UserError, match="solver._target_ must name a solver; .* has no requirements"):
        train(folder, *typed("solver", "nothing"))

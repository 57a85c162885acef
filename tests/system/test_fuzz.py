"""Whatever is typed ends in exit code 0 or 2 and at most one line: 2,000 cases by `pytest -m fuzz`, a few by default.

Names come from the option tree of all choices, values from it and from what goes wrong: other types, numbers that are
no numbers, huge, negative, empty, quoted, cut off, not ASCII, several where one is wanted.
"""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlopt.cli import main as cli
from rlopt.config import choices as catalogue
from rlopt.errors import UserError
from rlopt.training.trainer import Trainer

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # of all names there are
]
CASES = [pytest.param(60, id="few"), pytest.param(1000, id="many", marks=pytest.mark.fuzz)]


@cache
def options() -> dict[str, list[str]]:
    """name -> values that are typed where all is well."""
    found: dict[str, set[str]] = {}

    def walk(node: object, name: str) -> None:
        if isinstance(node, dict):
            for key, inner in node.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        if name and not isinstance(node, dict):
            text = (
                "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node).replace(" ", "")
            )
            found.setdefault(name, set()).add("1" if "${" in text else text)

    top = yaml.safe_load((catalogue.conf_dir() / "config.yaml").read_text())
    walk({k: v for k, v in top.items() if k != "defaults"}, "")
    for group in catalogue.GROUPS:
        names = catalogue.choices(group)
        found.setdefault(group, set()).update(names)
        for name in names:
            text = catalogue.file(group, name).read_text()
            values = {k: v for k, v in (yaml.safe_load(text) or {}).items() if k != "defaults"}
            places = [""] if "@package _global_" in text else [f"{group}."]
            places += [f"critic.{group}."] if group in catalogue.UPDATE_GROUPS else []
            for place in places:
                for key, value in values.items():
                    walk(value, f"{place}{key}")
    for group in catalogue.UPDATE_GROUPS:
        found[f"critic.{group}"] = found[group]
    found["solver.preconditioner"] = {"null", "none", "diagonal", "kfac", "cg"}
    return {name: sorted(values) for name, values in found.items()}


WRONG = st.one_of(
    st.sampled_from([
        "null", "none", "true", "false", "", "abc", "[]", "[1]", "[64,64]", "[a,b]", "[[1]]", "[nan]", "{}", "{a:1}", "{name:Adam}",
        "{_target_:os.system}", "{_target_:rlopt.core.metrics.fisher.Fisher,samples:null,seed:0}", "nan", "inf", "-inf", "-1",
        "0", "1", "2", "0.5", "-0.0", "1e3", "1e400", "1e18", "99999999999999999999", "-99999999999999999999", "1_000", "0x10",
        "1e-400", "'quoted'", '"quoted"', "'open", '"open', "'a b'", "a b", " ", "[1", "{a", "1]", "\\", "\\,", "a=b", "a:b", "é", "漢字",
        "\u202e", "\x00", "\n", "a\nb", "'a\nb'", "\t", "\udc80", "${seed}", "${nothing}", "${env:HOME}", "${oc.env:HOME}",
        "${eval:1}", "${divide_up:1,0}", "${", "???", "1,2", "a,b", "range(3)", "interval(0,1)", "choice(1,2)", "glob(*)", "sort(2,1)",
        "shuffle(1,2)", "int(3)", "float(a)", "json_str(1)", "tag(a,1)", "__import__('os')", "%s", "{0}", "..", "/", "a" * 300,
    ]),
    st.integers().map(str), st.floats().map(str), st.text(max_size=6),
)  # fmt: skip
NAMES = st.sampled_from(sorted(options()))
PREFIX = st.sampled_from([""] * 12 + ["+", "++", "~"])
FITTING = NAMES.flatmap(lambda name: st.sampled_from(options()[name]).map(lambda value: f"{name}={value}"))
WRONG_VALUE = st.builds(lambda sign, name, value: f"{sign}{name}={value}", PREFIX, NAMES, WRONG)
OTHERS_VALUE = st.builds(lambda n, m, i: f"{n}={options()[m][i % len(options()[m])]}", NAMES, NAMES, st.integers(0, 9))
WRONG_NAME = st.builds(
    lambda name, value: f"{name}={value}",
    st.one_of(
        st.sampled_from([
            "", "~", "+", "critic", "critic.", ".", ".gamma", "gamma.", "a..b", "optimizer.x", "hydra", "hydra.x", "hydra/launcher",
            "hydra.searchpath", "seed@x", "metric@", "@", "metric@critic.metric", "metric@env", "recipe", "solver._target_",
            "critic.solver._target_", "_target_", "defaults", "extensions", "GAMMA", "gam ma", "solver.preconditioner.x",
        ]),
        st.text(max_size=5),
        st.builds(lambda name, at: name[:at] + name[at + 1 :], NAMES, st.integers(0, 9)),
    ),
    WRONG,
)  # fmt: skip
OVERRIDE = st.one_of(FITTING, FITTING, WRONG_VALUE, WRONG_VALUE, OTHERS_VALUE, WRONG_NAME, st.text(max_size=8))
OVERRIDES = st.lists(OVERRIDE, min_size=1, max_size=4).flatmap(
    lambda found: st.sampled_from([found, [*found, found[0]]])  # a name twice
)
# what would fill memory, start processes, read files or call other people's code while the run is built
COSTLY = re.compile(
    r"env\.num_envs=\D*\d{3}|workers|backend|hidden=.*\d{4}|^\W*env=(?!cartpole|pendulum)|env\.id|recipe=|run_dir"
)
NO_FLAG = st.lists(st.one_of(FITTING, FITTING, FITTING, WRONG_VALUE, OTHERS_VALUE), min_size=1, max_size=4)


def check(code: int, out: str, err: str) -> None:
    assert code in (0, 2)
    if code:
        assert out == ""
        assert err.startswith("rlopt: ") and err.endswith("\n") and len(err.splitlines()) == 1, err
        assert len(err) < 1500 and "Traceback" not in err
    assert list(Path.cwd().iterdir()) == []


def fuzzed(examples: int):
    return settings(
        max_examples=examples, deadline=None, derandomize=examples < 100, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


@pytest.mark.parametrize("examples", CASES)
def test_no_override_ends_in_a_traceback(capsys, examples):
    @fuzzed(examples)
    @given(OVERRIDES.filter(lambda overrides: not any(o.startswith("-") for o in overrides)))
    def composed(overrides):
        code = cli.main(["train", "--cfg", *overrides])
        captured = capsys.readouterr()
        check(code, captured.out, captured.err)

    composed()


@pytest.mark.parametrize("examples", CASES)
def test_no_override_ends_in_a_traceback_when_the_run_is_built(capsys, monkeypatch, examples):
    def built(self: Trainer) -> None:
        self.collector.close()
        raise UserError("built")

    monkeypatch.setattr(Trainer, "run", built)

    @fuzzed(examples)
    @given(NO_FLAG.filter(lambda overrides: not any(COSTLY.search(override) for override in overrides)))
    def assembled(overrides):
        code = cli.main(["train", *overrides])
        captured = capsys.readouterr()
        assert code == 2
        check(code, captured.out, captured.err)

    assembled()


@pytest.mark.parametrize("examples", CASES)
def test_no_override_of_several_runs_ends_in_a_traceback(capsys, monkeypatch, examples):
    monkeypatch.setattr("rlopt.cli.train._train", lambda overrides: 0)

    @fuzzed(examples // 4)
    @given(OVERRIDES.filter(lambda overrides: not any(o.startswith("-") for o in overrides)))
    def swept(overrides):
        code = cli.main(["train", "-m", *overrides])
        captured = capsys.readouterr()
        if code == 0:
            for path in sorted(Path.cwd().rglob("*"), reverse=True):  # Hydra's own multirun.yaml
                path.unlink() if path.is_file() else path.rmdir()
        check(code, "" if code else captured.out, captured.err)

    swept()

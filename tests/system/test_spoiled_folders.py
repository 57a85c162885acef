"""Whatever a stranger has put into a run's folder: each command ends with 0 or 2, one line, soon, and runs no code.

60 folders by default, 2,000 by `pytest -m fuzz`, which prints the counts.
"""

import collections
import os
import random

import pytest

from tests.support.strange_folders import COMMANDS, KINDS, SECONDS, cases, tried

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
ALL = cases(2000)
SOME = random.Random(os.environ.get("SPOILED_SEED", "1")).sample(ALL, 60)


@pytest.mark.parametrize("chosen", [pytest.param(SOME, id="few"), pytest.param(ALL, id="many", marks=pytest.mark.fuzz)])
def test_every_command_ends_soon_with_0_or_2_and_runs_no_code(tmp_path, template, chosen):
    (tmp_path / "here").mkdir()
    codes: collections.Counter[tuple[str, int | None]] = collections.Counter()
    slowest, wrong = 0.0, []
    for case, code, seconds, said in tried(chosen, template, tmp_path / "here"):
        codes[case.command, code] += 1
        slowest = max(slowest, seconds)
        if said or code is None or seconds > SECONDS:
            wrong.append(f"{case}: code {code}, {seconds:.1f} s, {said}")
    print(f"{len(chosen)} folders, slowest {slowest:.1f} s: {dict(sorted(codes.items(), key=str))}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(chosen)}", *wrong])


def test_every_kind_meets_every_command():
    assert {(case.kind, case.command) for case in ALL} == {(kind, command) for kind in KINDS for command in COMMANDS}
    assert len(ALL) == 2000 and len({case.number for case in ALL}) == 2000

"""What a part may ask of a run, and the error that says it is not met."""

from dataclasses import fields

import pytest

from rlopt.core.requirements import Incompatible, Remedy, Requirements
from rlopt.errors import UserError


def test_the_defaults_ask_for_nothing():
    plain = Requirements()
    wanted = {
        "reads_damping": True,
        "batches": 1,
        "linear": True,
        "check_size": None,
        "check_samples": None,
        "work": None,
        "unread": {},
        "instead": {},
    }
    assert {f.name: getattr(plain, f.name) for f in fields(plain)} == {
        **dict.fromkeys((f.name for f in fields(plain)), False), **wanted,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [UserError, ValueError])
def test_what_is_incompatible_is_a_mistake_of_the_user(kind):
    with pytest.raises(kind, match="^the matrix is too large$") as caught:
        raise Incompatible("the matrix is too large", Remedy.OTHER_SOLVER, largest=40)
    error = caught.value
    assert (error.reason, error.remedy, error.options) == (
        "the matrix is too large",
        Remedy.OTHER_SOLVER,
        {"largest": 40},
    )
    assert Incompatible("no").remedy is None and Incompatible("no").options == {}

import pytest

from rlopt.core import checks


@pytest.mark.parametrize(
    ("check", "fits", "does_not"),
    [
        (checks.positive, 3.4e38, [3.5e38, 1e308, 10**400]),
        (checks.non_negative, 3.4e38, [3.5e38, 1e308, 10**400]),
        (checks.at_least_one, 10**15, [10**15 + 1, 10**400]),
    ],
)
def test_what_a_computer_cannot_hold_is_refused(check, fits, does_not):
    check("x", fits)
    for value in does_not:
        with pytest.raises(ValueError, match="x must be at most "):
            check("x", value)

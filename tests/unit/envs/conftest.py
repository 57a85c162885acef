import pytest


@pytest.fixture(autouse=True)
def _nothing_is_left(nothing_is_left: None) -> None:
    """Every test here leaves no process and no alarm."""

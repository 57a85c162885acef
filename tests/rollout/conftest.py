import multiprocessing
import signal
from collections.abc import Callable, Iterator

import pytest

from rlopt.training.trainer import Trainer
from tests.probes import make_trainer


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No process that a test began, and no alarm, outlives it."""
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0) and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Callable[..., Trainer]:
    """A function from overrides to a run; what it opened is closed."""

    def start(*overrides: str) -> Trainer:
        run = make_trainer(*overrides)
        request.addfinalizer(lambda: run.collector.close())
        return run

    return start

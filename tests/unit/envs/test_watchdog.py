"""The watchdog: what moves may take as long as it needs, and what stands still is interrupted."""

import itertools
import signal
import threading
import time

import pytest

from rlopt.envs import watchdog
from rlopt.envs.watchdog import watched
from rlopt.errors import EnvironmentFault


def test_the_watchdog_lets_what_moves_run_as_long_as_it_takes():
    looks = itertools.count()
    seen = [0]
    with watched(lambda: seen.append(next(looks)) or seen[-1], 0.04, str):
        deadline = time.monotonic() + 20
        while seen[-1] <= 3 * watchdog._CHECKS and time.monotonic() < deadline:
            pass
    assert seen[-1] > 3 * watchdog._CHECKS


def test_the_watchdog_does_not_count_time_of_a_suspended_run(monkeypatch):
    looks = []
    monkeypatch.setattr(signal, "setitimer", lambda *given: None)
    with watched(lambda: 0, 100.0, lambda: "it"):
        look = signal.getsignal(signal.SIGALRM)
        for _ in range(watchdog._CHECKS - 1):  # of which a suspended process gets one, however long it was
            look(signal.SIGALRM, None)
            looks.append(1)
        with pytest.raises(EnvironmentFault, match="it has not come back for env.timeout=100 seconds"):
            look(signal.SIGALRM, None)
    assert len(looks) == watchdog._CHECKS - 1


def test_the_watchdog_leaves_other_threads_and_no_timeout_alone():
    before, seen = signal.getsignal(signal.SIGALRM), []

    def elsewhere() -> None:
        with watched(lambda: 0, 0.01, str):
            seen.append(signal.getsignal(signal.SIGALRM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    with watched(lambda: 0, None, str):
        seen.append(signal.getsignal(signal.SIGALRM))
    assert seen == [before, before]

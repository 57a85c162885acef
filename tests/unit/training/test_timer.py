import time

import pytest

from rlopt.training.timer import Timer


def test_training_is_all_but_start_up_and_evaluations(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Timer()

    def passes(seconds: float) -> None:
        now[0] += seconds

    clock.restore(training=10.0, wall=20.0)
    passes(7)  # start-up
    clock.start()
    passes(3)
    assert clock.lap() == 13
    passes(0.5)  # a save
    with clock.paused():
        passes(40)
    passes(2)
    assert clock.training == 13 and clock.lap() == clock.training == pytest.approx(15.5)
    passes(1)
    assert clock.training == 15.5 and clock.wall == pytest.approx(66.5)

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from rlopt.loggers import progress
from rlopt.loggers.progress import PairsDisplay, ProgressDisplay


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_without_a_terminal_start_and_end_are_plain_lines(monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 1e9)
    stream = io.StringIO()
    display = ProgressDisplay(3000, Console(file=stream))
    for steps in (1000, 2000, 3000):
        display.update(steps, steps / 500, 12.345, 0.01234)
    display.close()
    assert lines(stream) == [
        "1,000 / 3,000 steps  500 steps/s  return 12.3  KL 0.0123  0:04 left",
        "3,000 / 3,000 steps  500 steps/s  return 12.3  KL 0.0123  0:00 left",
    ]


def test_what_is_not_known_yet_is_a_dash():
    stream = io.StringIO()
    ProgressDisplay(10_000_000, Console(file=stream)).update(1000, 1.0, None, None)
    assert lines(stream) == ["1,000 / 10,000,000 steps  1,000 steps/s  return -  KL -  2:46:39 left"]


def test_no_time_passed_is_no_error():
    stream = io.StringIO()
    ProgressDisplay(10, Console(file=stream)).update(1, 0.0, 1.0, 0.0)
    assert "0 steps/s" in lines(stream)[0]


@pytest.mark.parametrize("steps", [500, 2000])
def test_on_a_terminal_there_is_a_bar_that_never_passes_its_end(steps):
    stream = io.StringIO()
    display = ProgressDisplay(1000, Console(file=stream, force_terminal=True, width=120))
    display.update(steps, 1.0, 5.0, 0.01)
    display.close()
    assert f"{min(steps, 1000):,} / 1,000 steps" in stream.getvalue()
    assert "return 5.0" in stream.getvalue()


@pytest.mark.parametrize(("seconds", "shown"), [(1e9, []), (-1.0, ["0 / 7 pairs  metric=a", "3 / 7 pairs  metric=b"])])
def test_pairs_without_a_terminal_are_lines_now_and_then(monkeypatch, seconds, shown):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", seconds)
    stream = io.StringIO()
    with PairsDisplay(7, Console(file=stream)) as display:
        display.update(0, "metric=a")
        display.update(3, "metric=b")
    assert lines(stream) == shown
    with PairsDisplay(7, Console(file=io.StringIO()), lines=False) as silent:
        silent.update(0, "metric=a")
    assert not silent._console.file.getvalue()


def test_pairs_on_a_terminal_are_a_bar():
    stream = io.StringIO()
    with PairsDisplay(7, Console(file=stream, force_terminal=True, width=120)) as display:
        display.update(3, "metric=b solver=cg")
    assert "3 / 7 pairs" in stream.getvalue() and "metric=b solver=cg" in stream.getvalue()


def test_a_notebook_has_a_bar_that_moves(monkeypatch):
    """By IPython's display, in one place of the cell; a stand-in for the kernel takes what it would show."""
    shown = []
    handle = SimpleNamespace(update=shown.append)
    shell = SimpleNamespace(ZMQInteractiveShell=SimpleNamespace(initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", shell)
    made = SimpleNamespace(HTML=str, display=lambda html, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython.display", made)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=made))
    display = ProgressDisplay(3000)
    for steps in (1000, 4000):
        display.update(steps, 1.0, 12.345, 0.01)
    display.close()
    assert 'value="0.3333"' in shown[0] and "return 12.3" in shown[0] and 'value="1.0000"' in shown[1]
    shell.ZMQInteractiveShell.initialized = lambda: False  # imported, but this is no kernel
    assert progress._notebook() is None

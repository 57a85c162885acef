"""Ctrl-C at the start: one line and 130 within an import, an exception elsewhere, and nothing where it is ignored."""

import importlib
import os
import signal
import sys

import pytest

from rlopt.errors import Signalled
from rlopt.parallel.interrupts import depth, is_importing, leave_imports_on_interrupt
from rlopt.training.signals import SignalHandler

INTERRUPTING = "import os, signal, sys\nsignal.raise_signal(signal.SIGINT)\nsys.stderr.write('went on')\n"


def forked(work) -> tuple[int, str]:
    """Exit code and stderr of a child that does this."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        try:
            work()
        finally:
            os._exit(77)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """A module during whose import the user presses Ctrl-C."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "interrupting_here.py").write_text(INTERRUPTING)
    importlib.invalidate_caches()
    yield "interrupting_here"
    sys.modules.pop("interrupting_here", None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_an_interrupt_within_an_import_is_one_line_and_130(module):
    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        leave_imports_on_interrupt()
        importlib.import_module(module)

    assert forked(work) == (130, "rlopt: interrupted\n")


def test_an_interrupt_elsewhere_is_an_exception():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        leave_imports_on_interrupt()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("other", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "another's"])
def test_a_handler_of_somebody_else_stays(other):
    before = signal.signal(signal.SIGINT, other)
    try:
        leave_imports_on_interrupt()
        assert signal.getsignal(signal.SIGINT) is other
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_finishes_an_import_before_it_ends(module, capsys):
    with SignalHandler().installed(), pytest.raises(Signalled):
        importlib.import_module(module)
        assert capsys.readouterr().err == "went on"
        signal.pause()


def test_a_run_that_a_module_begins_can_be_interrupted(tmp_path, monkeypatch):
    """A script that is imported and trains: the import around the run is none to wait for."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "training_here.py").write_text(
        "import signal\nfrom rlopt.training.signals import SignalHandler\n"
        "with SignalHandler().installed():\n    signal.raise_signal(signal.SIGTERM)\n    raise AssertionError('went on')\n"
    )
    importlib.invalidate_caches()
    with pytest.raises(Signalled):
        importlib.import_module("training_here")


def test_only_imports_within_are_seen():
    assert not is_importing(sys._getframe()) and not is_importing(None)
    assert depth(None) == 0 and depth(sys._getframe()) == depth(sys._getframe().f_back) + 1

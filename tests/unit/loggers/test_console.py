"""What is printed beside the work: a stream that cannot be written costs what would have been printed, and no more."""

import io

import pytest
from rich.console import Console

from rlopt.cli import main as cli
from rlopt.loggers import console
from rlopt.loggers import console as telling
from rlopt.loggers.console import TolerantStream
from rlopt.loggers.progress import ProgressDisplay

SHORT = ["total_steps=80", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=1"]


class Gone(io.TextIOBase):
    """A terminal that nothing can be written to: a full disk, a closed pipe, a closed file, or one of other letters."""

    errors = "strict"

    def __init__(self, error: Exception, terminal: bool = False):
        self._error, self._terminal, self.tries = error, terminal, 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise self._error

    def isatty(self) -> bool:
        return self._terminal


FULL, CLOSED = OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")
ERRORS = [FULL, CLOSED, ValueError("I/O operation on closed file"), UnicodeEncodeError("ascii", "é", 0, 1, "no")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_is_said_to_nobody_raises_nothing(monkeypatch, error):
    for name, tell in (("stderr", console.info), ("stdout", console.output)):
        for stream in (gone := Gone(error), None):
            monkeypatch.setattr(telling.sys, name, stream)
            tell("text")
        assert gone.tries == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_the_progress_display_switches_itself_off(monkeypatch, terminal):
    gone = Gone(CLOSED)
    display = ProgressDisplay(100, Console(file=TolerantStream(gone), force_terminal=terminal))
    for steps in (50, 100):
        display.update(steps, 1.0, 1.0, 0.1)
    display.close()
    assert gone.tries == 1


@pytest.mark.parametrize("error", ERRORS[:2], ids=["full", "closed"])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_is_done_though_nobody_hears_of_it(elsewhere, tmp_path, monkeypatch, error, terminal):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(telling.sys, name, Gone(error, terminal))
    assert cli.main(["train", *SHORT, "run_dir=here"]) == 0
    assert (tmp_path / "here/summary.json").is_file()


def test_an_unread_answer_is_quiet_a_failed_one_is_reported(monkeypatch, capsys):
    for error, code, told in ((CLOSED, 141, ""), (FULL, 2, "rlopt: [Errno 28] No space left on device\n")):
        monkeypatch.setattr(telling.sys, "stdout", Gone(error))
        assert cli.main(["train", "--help"]) == code
        assert capsys.readouterr().err == told


def test_letters_that_a_terminal_has_not_are_spelled(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(telling.sys, "argv", ["rlopt", "--version"])
    monkeypatch.setattr(telling.sys, "stdout", io.TextIOWrapper(buffer, "ascii"))
    assert cli.main() == 0
    console.output("é ☃ \udcc3")
    assert buffer.getvalue().splitlines()[1] == b"\\xe9 \\u2603 \xc3"


@pytest.mark.parametrize(("encoding", "text", "shown"), [
    ("ascii", "r/\udcc3\udcbc.csv", b"r/\xc3\xbc.csv"),  # ü, as Python reads it where the locale has no such letter
    ("ascii", "ü☃ \udcff", b"\\xfc\\u2603 \xff"),
    ("latin-1", "ü☃", b"\xfc\\u2603"),
    ("latin-1", "ü\udce2\udc98\udc83", b"\xfc\xe2\x98\x83"),
    ("utf-8", "ü☃\udcff\ud800", "ü☃".encode() + b"\xff\\ud800"),
])  # fmt: skip
def test_a_name_is_shown_as_the_file_system_has_it(monkeypatch, encoding, text, shown):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    monkeypatch.setattr("sys.stderr", stream)
    console.show_every_name()
    console.info(text)
    assert raw.getvalue() == shown + b"\n"


def test_control_characters_are_shown_and_move_nothing(capsys):
    console.info("a\x1b[2Jb\x07\x9b\tc\nd")
    assert capsys.readouterr().err == "a\\x1b[2Jb\\x07\\x9b\tc\nd\n"


@pytest.mark.parametrize(("value", "shown"), [
    (3.14159, "3.1"), (-123456.7, "-123456.7"), (31750000477757052481084871147520.0, "3.175e+31"), (-1e300, "-1.000e+300"),
    (float("nan"), "nan"), (float("inf"), "inf"), (1e6, "1.000e+06"),
])  # fmt: skip
def test_a_large_number_has_four_significant_digits(value, shown):
    assert console.short(value) == shown

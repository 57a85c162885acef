"""Folders that cannot be looked into, are gone, or have names that some place cannot hold: one line, or no matter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlopt
from rlopt.errors import UserError
from tests.support.command_line import SHORT, one_line
from tests.support.launching import environment

pytestmark = pytest.mark.usefixtures("elsewhere")
LONG = "x" * 300
COMMANDS = [["eval"], ["resume"], ["inspect"], ["plot"], ["report"], ["train", *SHORT]]


def at(command: list[str], place: str) -> list[str]:
    return [*command, f"run_dir={place}" if command[0] == "train" else place]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_name_that_is_too_long_is_one_line(run, command):
    code, _, err = run(*at(command, LONG))
    assert code == 2 and LONG in one_line(err) and "File name too long" in err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_folder_that_is_closed_is_one_line(run, monkeypatch, command):
    """As it is to whoever is not root."""
    stat = os.stat

    def closed(path: object, *rest: object, **more: object) -> os.stat_result:
        if "locked/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *rest, **more)

    monkeypatch.setattr(os, "stat", closed)
    code, _, err = run(*at(command, "locked/run"))
    assert code == 2 and "locked/run" in one_line(err) and "Permission denied" in err


def test_a_working_directory_that_is_gone_is_one_line(run, monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError(2, "No such file or directory")))
    code, _, err = run("train", *SHORT)
    assert code == 2 and "the current folder cannot be found" in one_line(err)


def test_a_name_that_no_folder_can_have_is_refused():
    with pytest.raises(UserError, match="run_dir must be a path"):
        rlopt.train(*SHORT, run_dir="a\0b")


def test_a_name_that_needs_quotes_is_told_with_them(run):
    code, out, err = run("train", *SHORT, "run_dir='a b'")
    assert code == 0 and "--logdir 'a b'" in err
    assert "--logdir 'a b'" in out and "eval 'a b'" in out


def test_letters_that_the_locale_has_not_are_no_matter(tmp_path):
    """In a process of its own, which reads them as bytes that are no letters."""
    variables = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-m", "rlopt", "train", *SHORT, "run_dir='é ☃'"], cwd=tmp_path,
                          env=environment(**variables), capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path("é ☃/summary.json").is_file() and "eval 'é ☃'" in done.stdout.decode()
    assert b"cannot be written" not in done.stderr

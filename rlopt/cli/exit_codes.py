"""Exit codes of all commands, and how they report an error: one line on stderr, which begins with "rlopt: ".

0        done
1        another rank of the run was lost
2        the user's mistake, or an environment that failed
3        the failure policy stopped the run
128 + n  signal n ended the run
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from rlopt.errors import RankLost, Signalled, Stopped, UserError, needs_extra
from rlopt.loggers import console
from rlopt.parallel import ranks

_FEWER = "raise the limit (ulimit -n, ulimit -u), or lower workers or env.num_envs"
_LIMITS = {  # of the system -> what to do about it
    errno.ENOSPC: "", errno.EMFILE: _FEWER, errno.ENFILE: _FEWER, errno.EAGAIN: _FEWER,
    errno.ENOMEM: "lower workers, batch_size or env.num_envs",
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError, so that its errors are reported like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def exit_code(command: Callable[[], int]) -> int:
    """Run ``command``; return its exit code, or report its error and return the error's code.

    An error without a code of its own is a defect of rlopt and is raised.
    """
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where an error of it can still be reported
        return code
    except UserError as error:
        _report(str(error), error)
        return 2
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        return 128 + getattr(signal, "SIGPIPE", 13)
    except OSError as error:
        if not error.filename and error.errno not in _LIMITS:
            raise  # neither one of the user's files nor a limit of the system
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _report(what + (f"; {advice}" if (advice := _LIMITS.get(error.errno or 0)) else ""), error)
        return 2
    except Stopped as error:
        _report(str(error), error)
        return 3
    except RankLost as error:
        _report(str(error), error)
        return 1
    except KeyboardInterrupt as error:
        if not getattr(error, "reported", False):
            error.reported = True  # type: ignore[attr-defined]
            _report("interrupted", error)
        return 128 + (error.number if isinstance(error, Signalled) else signal.SIGINT)


def _report(message: str, error: BaseException) -> None:
    if ranks.should_report(error):
        console.info(f"rlopt: {message}")


def check_plotting(command: str) -> None:
    """Raise UserError unless the packages that ``command`` draws with are installed."""
    absent = [name for name in ("matplotlib", "scipy") if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(needs_extra(f"{command} needs {' and '.join(absent)}", "plot"))

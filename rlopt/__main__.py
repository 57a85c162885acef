"""`python -m rlopt`, and the console script `rlopt`.

`python -m` puts the working directory before all other places that modules come from. It may be a stranger's folder, so
it is taken off at once, and `--import MODULE` alone brings it back. Where rlopt itself comes from there, it stays.
"""

import os
import sys


def main() -> int:
    """Run the command that was typed; returns the exit code."""
    from rlopt.parallel.interrupts import leave_imports_on_interrupt

    leave_imports_on_interrupt()
    from rlopt.cli.main import main

    return main()


def _forget_working_directory() -> None:
    """Take off the entry that `python -m` has added."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.flags.safe_path or not sys.path or os.path.abspath(sys.path[0] or os.curdir) == own:
        return
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]


if __name__ == "__main__":
    _forget_working_directory()
    raise SystemExit(main())

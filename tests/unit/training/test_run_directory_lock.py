"""Who holds a run's folder: see tests/system/test_run_directory.py for two that would train one run."""

import multiprocessing
import os
import time
from pathlib import Path

from rlopt.training.run_directory import exclusive_run_directory, try_lock
from tests.support.launching import until


def free(folder: Path) -> bool:
    """Whether nobody holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def test_a_fork_of_the_holder_does_not_keep_the_folder(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,), daemon=True)
    with exclusive_run_directory(tmp_path):
        child.start()
        assert not free(tmp_path)
    try:
        assert until(lambda: free(tmp_path), 20) and child.is_alive()  # as soon as it has run at all
    finally:
        child.kill()
        child.join()

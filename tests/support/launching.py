"""Other processes: a port and an environment for ranks, waiting for what they do, and their end."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(**variables: object) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return plain | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | {k: str(v) for k, v in variables.items()}


@contextmanager
def ended(*processes: subprocess.Popen) -> Iterator[None]:
    """Afterwards none of them runs; torchrun, asked first, ends its ranks."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            except ValueError:  # its pipes were read to the end
                pass


def children(process: int) -> list[int]:
    """Those that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(status[1]) == process and status[0] != "Z":
            found.append(int(place.name))
    return found


def until(holds: Callable[[], object], seconds: float = 60) -> bool:
    """Whether it holds, now or before long."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(holds())

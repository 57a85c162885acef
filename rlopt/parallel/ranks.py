"""Ranks: several processes, on one host or many, that train one policy together. torchrun starts them.

    torchrun --nproc-per-node=2 -m rlopt train ...

Each rank has its own part of the environments (`collectives.local_slice`) and the same theta. Every sum over samples
goes over all ranks (parallel/collectives.py). Rank 0 alone reads the command line, writes files and prints. This module
imports torch only where torchrun started more than one process.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from rlopt.errors import EnvironmentFault, RankLost, Stopped, UserError, first_line

T = TypeVar("T")
# A rank that dies closes its connections, so the others notice at once. These limits are for a rank that hangs or has
# lost its network: at the start, and later, when it must exceed any difference in the time that ranks take to collect.
_START, _PATIENCE = timedelta(minutes=5), timedelta(minutes=30)
_ADDRESS = 0x8915  # SIOCGIFADDR, Linux: the address of a network interface


def is_distributed() -> bool:
    """True where torchrun started this process together with others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def is_first_rank() -> bool:
    """True on rank 0, which alone writes and prints, and in a process without other ranks."""
    return not is_distributed() or os.environ["RANK"] == "0"


def should_report(error: BaseException) -> bool:
    """True where this process must print the error, so that it is printed once.

    Rank 0 prints an error that all ranks have. The first rank of every host prints one that only its host may have, as
    before the ranks are connected. Every rank prints that another is lost.
    """
    if is_first_rank() or isinstance(error, RankLost):
        return True
    shared = isinstance(error, (Stopped, EnvironmentFault)) or (isinstance(error, UserError) and error.on_all_ranks)
    return not shared and os.environ.get("LOCAL_RANK") == "0"


@contextmanager
def process_group() -> Iterator[None]:
    """Within, torch.distributed connects the ranks: gloo between CPUs, nccl between GPUs. Does nothing for one process.

    Raises UserError where the ranks cannot reach one another.
    """
    if not is_distributed():
        yield
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    from rlopt.parallel.processes import end_with_parent

    if interface := _interface():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        store, rank, count = next(rendezvous("env://", timeout=_START))
        store.set_timeout(_START)
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"the ranks did not find one another through {where}: {first_line(error)}; where a host has several "
            "networks, name the one to use: GLOO_SOCKET_IFNAME=eth0 (and NCCL_SOCKET_IFNAME), say"
        ) from error
    end_with_parent()  # torchrun may be killed
    try:
        yield
    except UserError as error:
        if error.on_all_ranks:  # all ranks raise it, and can disconnect in order
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # not after other errors: the other ranks may no longer answer


def local_device(name: str) -> str:
    """The device of this rank. ``cuda`` becomes a GPU of its own, by the rank's number on its host."""
    if not is_distributed() or not name.startswith("cuda"):
        return name
    if name != "cuda":
        raise UserError(f"device={name}: every rank needs a GPU of its own; type device=cuda")
    return f"cuda:{os.environ['LOCAL_RANK']}"


def broadcast_from_first(make: Callable[[], T]) -> T:
    """Call ``make`` on rank 0; return its result on every rank, or raise its UserError there."""
    if not is_distributed():
        return make()
    result: T = _call(lambda: make() if is_first_rank() else None, send=True)[0]
    return result


def on_all_ranks(make: Callable[[], T]) -> T:
    """Call ``make`` on every rank; return this rank's result.

    Where it raises UserError on one rank, all raise that error. It names the rank unless every rank has the same one.
    """
    if not is_distributed():
        return make()
    result: T = _call(make, send=False)[0]
    return result


def _call(make: Callable[[], Any], send: bool) -> list[Any]:
    """Result of this rank, or with ``send`` every rank's; an error of one becomes the error of all."""
    from rlopt.parallel.collectives import gather

    result, failure = None, None
    try:
        result = make()
    except UserError as error:
        failure = type(error), str(error), socket.gethostname(), traceback.format_exc()
    gathered = gather((result if send else None, failure))
    failures = {i: failure for i, (_, failure) in enumerate(gathered) if failure}
    if not failures:
        return [each for each, _ in gathered] if send else [result]
    rank, (kind, message, host, trace) = next(iter(failures.items()))
    same = len(failures) == len(gathered) and len({text for _, text, _, _ in failures.values()}) == 1
    shared = kind(message if same or rank == 0 else f"rank {rank} on {host}: {message}")
    shared.on_all_ranks = True
    raise shared from RuntimeError(trace)


def _interface() -> str | None:
    """The network interface that leads to MASTER_ADDR. Gloo would take that of the host's name, often the loopback."""
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))  # sends nothing
            address = socket.inet_aton(s.getsockname()[0])
            for _, name in socket.if_nameindex():
                with suppress(OSError):  # an interface without an address
                    if fcntl.ioctl(s, _ADDRESS, name.encode().ljust(40, b"\0"))[20:24] == address:
                        return name
    except (ImportError, OSError, KeyError, ValueError):  # not Linux, or not IPv4: gloo chooses
        pass
    return None

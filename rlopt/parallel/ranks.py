"""Ranks: processes, on one host or many, that train one policy together, started by torchrun.

    torchrun --nproc-per-node=2 -m rlopt train ...

Each has its own part of the environments (`core.distributed.own`) and the same theta; every sum over samples goes over
all of them (`core.distributed`). Rank 0 alone resolves the command line, writes and prints. Imports torch only where
torchrun started more than one process.
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
# A rank that dies is noticed at once, its connections closing. These are for one that hangs or lost its network: at the
# start, and later, when it must be longer than any difference in the time that ranks take for a rollout.
_START, _PATIENCE = timedelta(minutes=5), timedelta(minutes=30)
_ADDRESS = 0x8915  # SIOCGIFADDR, Linux: the address of a network interface


def launched() -> bool:
    """Whether torchrun started this process together with others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def leads() -> bool:
    """Whether this process is rank 0, which alone writes and prints, or the only one."""
    return not launched() or os.environ["RANK"] == "0"


def tells(error: Exception) -> bool:
    """Whether it is for this process to print the error: all know of one that was agreed, so rank 0 tells it.

    Before the ranks have joined, the first of every host tells of it; of ranks that are lost, every one.
    """
    if leads() or isinstance(error, RankLost):
        return True
    known = isinstance(error, (Stopped, EnvironmentFault)) or hasattr(error, "agreed")
    return not known and os.environ.get("LOCAL_RANK") == "0"


@contextmanager
def joined() -> Iterator[None]:
    """Within, torch.distributed connects the ranks: gloo between CPUs, nccl between GPUs. Alone, nothing happens."""
    if not launched():
        yield
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

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
    try:
        yield
    except UserError as error:
        if hasattr(error, "agreed"):  # all ranks raise it, and leave in order
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # not after other errors, when the others may no longer answer


def own_device(name: str) -> str:
    """Where this rank computes: ``cuda`` is a GPU of its own, by its number on its host."""
    if not launched() or not name.startswith("cuda"):
        return name
    if name != "cuda":
        raise UserError(f"device={name}: every rank needs a GPU of its own; type device=cuda")
    return f"cuda:{os.environ['LOCAL_RANK']}"


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives on rank 0, on every rank; so too the UserError that it raises."""
    if not launched():
        return make()
    return agreed(lambda: make() if leads() else None, send=True)[0]


def agreed(make: Callable[[], Any], send: bool = False) -> Any:
    """What ``make`` gives on this rank, or with ``send`` a list of what it gives on every rank.

    A UserError that it raises on one is raised on all, naming the rank where it is not every one's.
    """
    if not launched():
        return [make()] if send else make()
    from rlopt.parallel.collectives import gather

    value, fault = None, None
    try:
        value = make()
    except UserError as error:
        fault = type(error), str(error), socket.gethostname(), traceback.format_exc()
    found = gather((value if send else None, fault))
    faults = {i: fault for i, (_, fault) in enumerate(found) if fault}
    if not faults:
        return [value for value, _ in found] if send else value
    rank, (kind, said, host, trace) = next(iter(faults.items()))
    everywhere = len(faults) == len(found) and len({text for _, text, _, _ in faults.values()}) == 1
    shared = kind(said if everywhere or rank == 0 else f"rank {rank} on {host}: {said}")
    shared.agreed = True  # type: ignore[attr-defined]  # for `tells`
    raise shared from RuntimeError(trace)


def _interface() -> str | None:
    """The network that leads to MASTER_ADDR. Gloo would take that of the host's own name, often the loopback."""
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))  # sends nothing
            address = socket.inet_aton(s.getsockname()[0])
            for _, name in socket.if_nameindex():
                with suppress(OSError):  # one without an address
                    if fcntl.ioctl(s, _ADDRESS, name.encode().ljust(40, b"\0"))[20:24] == address:
                        return name
    except (ImportError, OSError, KeyError, ValueError):  # no Linux, or no IPv4: left to gloo
        pass
    return None

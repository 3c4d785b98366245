"""Joining the processes that torchrun started, and ending with them in one line.

A dead process is noticed by torchrun's agent, which ends the others of its machine (SIGTERM, SIGKILL 30 s later), and
by gloo, whose collectives fail as soon as a connection closes. Here is only what turns both into one line.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from reseen.distributed.ranks import ALONE, STEP_LIMIT, WAIT_LIMIT, Ranks
from reseen.errors import ReseenError
from reseen.files import alive

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them
ARRIVAL = timedelta(minutes=10)  # for all processes to be there; a machine may load its packages slowly
NEWS = 2.0  # seconds that news of a dead process may take longer than its effects


class _ToldToStop(BaseException):
    """SIGTERM came."""


@contextlib.contextmanager
def join() -> Iterator[Ranks]:
    """Take part in the job that torchrun started; without torchrun (or with one process) touch nothing.

    When a process dies, one of the others raises one line about it and all end. An error is raised in the process
    that meets it first. The others end silently, with exit code 2. After an error SIGTERM stays ignored:
    the process is expected to end.

    Raises:
        ReseenError: the other processes cannot be reached, do not come, or one of them is gone.
    """
    if not all(name in os.environ for name in VARIABLES) or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    rank, ranks, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    store, wait_group = _meet(rank, ranks)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield Ranks(rank, ranks, local, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), wait_group=wait_group)
        dist.barrier(group=wait_group)  # leave together: the first may still be writing
        dist.destroy_process_group()
    except BaseException as error:
        _hear_no_more()
        line = _last_line(error, rank, ranks, store)
        if not _first_to_speak(store, rank, ranks, own=line is None):
            raise SystemExit(2) from None
        if line is not None:
            raise ReseenError(line) from error
        raise
    signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    _hear_no_more()
    raise _ToldToStop


def _hear_no_more() -> None:
    """Let nothing come before this process's last line: torchrun's SIGTERM goes to its loader processes as well."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises where a loader process was stopped


def _meet(rank: int, ranks: int) -> tuple[Any, Any]:
    """The store that all share, and the group that waits long."""
    try:
        store, _, _ = next(rendezvous("env://", timeout=ARRIVAL))
        store.set(f"process/{rank}", f"{os.getpid()} {platform.node()}")
        dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=STEP_LIMIT)
        return store, dist.new_group(timeout=WAIT_LIMIT)
    except (OSError, RuntimeError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ReseenError(
            f"process {rank + 1} of {ranks} cannot join the others at {place} ({words}): "
            "check that every machine was started and that no firewall lies between them"
        ) from error


def _last_line(error: BaseException, rank: int, ranks: int, store: Any) -> str | None:
    """What ``error`` means where it comes from the end of other processes; None for one of this process's own."""
    collective = isinstance(error, RuntimeError) and (
        isinstance(error, dist.DistError) or "gloo" in str(error)
    )
    if not collective and not isinstance(error, _ToldToStop):
        return None
    if collective and "timed out" in str(error).lower():
        return (
            f"process {rank + 1} of {ranks} has waited in vain for the others: see whether their machines are up "
            "and connected, and continue with --resume"
        )
    lost = _lost(store, ranks)
    if lost is None and not collective:
        return f"process {rank + 1} of {ranks} was told to stop: continue with --resume"
    if lost is None and ranks == 2:
        lost = 1 - rank
    who = f"process {lost + 1} of {ranks}" if lost is not None else f"another of {ranks} processes"
    return (
        f"{who} ended early, so process {rank + 1} stops too: "
        "see what it said, if anything, and continue with --resume"
    )


def _lost(store: Any, ranks: int) -> int | None:
    """A process of this machine that is gone and did not say why; None where none is found in ``NEWS`` seconds.

    It is there until its parent, torchrun's agent, has collected it.
    """
    until = time.monotonic() + NEWS
    with contextlib.suppress(RuntimeError):  # the store went with its process
        while time.monotonic() < until:
            for rank in range(ranks):
                process, _, machine = store.get(f"process/{rank}").decode().partition(" ")
                if (
                    machine == platform.node()
                    and not alive(int(process))
                    and not store.check([f"end/{rank}"])
                ):
                    return rank
            time.sleep(0.05)
    return None


def _first_to_speak(store: Any, rank: int, ranks: int, *, own: bool) -> bool:
    """Whether no other process has said why the job ends: one line is enough. ``own``: it is this one's error."""
    try:
        first = bool(store.add("said", 1) == 1)
        # last: the first process, which may hold the store, waits for it and leaves
        store.set(f"end/{rank}", "")
    except RuntimeError:  # the store went with its process
        return True
    if own and rank == 0:  # the store may be here, and the others about to run into the same error
        with contextlib.suppress(RuntimeError):
            store.wait([f"end/{other}" for other in range(ranks)], timedelta(seconds=NEWS))
    return first

"""Joining the processes that torchrun started, and noticing when one of them is gone.

A dead process is not always seen by the others: between cards they would wait for it for ever, and torchrun tells
only those of its own machine. So each process keeps a connection to the first, over which nothing is sent
before the end. The system closes it when a process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from reseen.errors import ReseenError
from reseen.training.ranks import ALONE, PATIENCE, Ranks

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them
ARRIVAL = timedelta(minutes=10)  # for all processes to be there; a machine may load its packages slowly
GRACE = 3.0  # seconds to end in order after bad news, before a process that hangs in a collective is ended
NEWS = 1.0  # seconds that news of a dead process may take longer than its effects
SAME_ERROR = 0.5  # seconds in which the others may run into the same error before they hear of this one's end
FAREWELL = b"bye"


@contextlib.contextmanager
def join() -> Iterator[Ranks]:
    """Take part in the job that torchrun started; without torchrun (or with one process) touch nothing.

    When a process dies or stops with an error, every other one ends with one line on stderr and exit code 1. An
    error that several processes run into is raised in one of them; the others end silently with exit code 2. After an
    error SIGTERM stays ignored: the process is expected to end.

    Raises:
        ReseenError: the other processes cannot be reached or do not come.
    """
    if not all(name in os.environ for name in VARIABLES) or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    rank, ranks, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    watch = _Watch(rank, ranks)
    with watch.signals():
        try:
            store, _, _ = next(rendezvous("env://", timeout=ARRIVAL))
            watch.meet(store, os.environ["MASTER_ADDR"])
            dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=PATIENCE)
        except (OSError, RuntimeError) as error:
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise ReseenError(
                f"process {rank + 1} of {ranks} cannot join the others at {place} ({_one_line(error)}): "
                "check that every machine was started and that no firewall lies between them"
            ) from error
        try:
            yield Ranks(rank, ranks, local, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
            dist.all_reduce(torch.zeros(1))  # leave together: the first may still be writing
            dist.destroy_process_group()
            watch.leave()
        except ReseenError as error:
            watch.ending = True
            said = _said_by_another(store, str(error))
            time.sleep(SAME_ERROR)
            if said:
                raise SystemExit(2) from None
            raise
        except RuntimeError:
            watch.expect_news()  # the near end of a collective that broke at the far one
            raise


class _Watch:
    """Connections between the first process and each other one; ``lost`` is the rank that was found to be gone."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks
        self.lost: int | None = None
        self.ending = False
        self._others: dict[int, socket.socket] = {}
        self._listeners: list[threading.Thread] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._close)  # a loader process must not keep connections open

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Inside, SIGTERM ends the process in order and with one line. Torchrun sends it, and so does :meth:`_end`."""
        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            yield
        except BaseException:
            # torchrun's must not come before this process's last line
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise
        else:
            signal.signal(signal.SIGTERM, before)
        finally:
            self.ending = True
            for connection in self._others.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # close() would wait for the thread that listens
            if self.lost is None:  # a thread that wakes up while the interpreter ends can abort the process
                for thread in self._listeners:
                    thread.join(NEWS)

    def meet(self, store: Any, address: str) -> None:
        """Connect to the first process, or as the first wait for all others. Raises OSError or RuntimeError."""
        deadline = time.monotonic() + ARRIVAL.total_seconds()
        if self.rank == 0:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            with socket.create_server(("", 0), family=family, dualstack_ipv6=both) as server:
                token = secrets.token_hex(16)
                store.set("watch", f"{server.getsockname()[1]} {token}")
                while len(self._others) < self.ranks - 1:
                    self._admit(server, token, deadline)
        else:
            port, token = store.get("watch").decode().split()
            connection = socket.create_connection((address, int(port)), timeout=30)
            connection.sendall(f"{token} {self.rank:08d}".encode())
            connection.settimeout(None)
            self._others[0] = connection
        for other, connection in self._others.items():
            # A machine without power closes nothing: after some minutes the system's own probes do.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            listener = threading.Thread(target=self._listen, args=(other, connection), daemon=True)
            listener.start()
            self._listeners.append(listener)

    def leave(self) -> None:
        """Say farewell, so that the end of this process alarms nobody."""
        self.ending = True
        for connection in self._others.values():
            with contextlib.suppress(OSError):
                connection.sendall(FAREWELL)

    def expect_news(self) -> None:
        """Give the news of a dead process time to arrive; it ends this one from within (:meth:`_stop`)."""
        until = time.monotonic() + NEWS
        while time.monotonic() < until:
            time.sleep(0.02)

    def _admit(self, server: socket.socket, token: str, deadline: float) -> None:
        server.settimeout(max(0.1, deadline - time.monotonic()))
        connection, _ = server.accept()
        connection.settimeout(30)
        words = connection.recv(len(token) + 9, socket.MSG_WAITALL).decode(errors="replace").split()
        if len(words) == 2 and secrets.compare_digest(words[0], token):
            connection.settimeout(None)
            self._others[int(words[1])] = connection
        else:
            connection.close()  # somebody else's

    def _listen(self, other: int, connection: socket.socket) -> None:
        """Wait for the end of one connection; what the first process says on it is who is gone."""
        try:
            word = connection.recv(16)
        except OSError:
            word = b""
        if word != FAREWELL and not self.ending:
            self._end(int(word) if word else other)

    def _end(self, lost: int) -> None:
        with self._lock:
            if self.lost is not None:
                return
            self.lost = lost
        if self.rank == 0:
            for connection in self._others.values():
                with contextlib.suppress(OSError):
                    connection.sendall(str(lost).encode())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(GRACE)  # in which the main thread ends in order, if it is not stuck in a collective
        print(self._line(), file=sys.stderr, flush=True)
        os._exit(1)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        # torch's handler would raise in here, about a loader process that is stopped along with this one
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        until = time.monotonic() + NEWS
        while self.lost is None and time.monotonic() < until:  # torchrun may be quicker than the news
            time.sleep(0.02)
        raise SystemExit(self._line())

    def _line(self) -> str:
        if self.lost is None:
            return f"reseen: process {self.rank + 1} of {self.ranks} was told to stop: continue with --resume"
        return (
            f"reseen: process {self.lost + 1} of {self.ranks} ended early, so process {self.rank + 1} stops too: "
            "see what it said, if anything, and continue with --resume"
        )

    def _close(self) -> None:
        for connection in self._others.values():
            with contextlib.suppress(OSError):
                connection.close()


def _said_by_another(store: Any, text: str) -> bool:
    """Whether another process has raised the same error before: one line about it is enough."""
    try:
        return bool(store.add(f"said/{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}", 1) > 1)
    except RuntimeError:  # the store went with its process
        return False


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

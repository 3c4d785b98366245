"""Processes of their own, to be killed or asked at once, without the ten CPU seconds that their imports take.

Forked from a server that holds the imports and nothing else: no thread, no open gallery, no file of a test.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from itertools import count
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["reseen.tasks", "reseen.reports", "reseen.commands.train"])
_FOLDER, _NUMBERS = TemporaryDirectory(), count()

# What the script `reseen` holds.
RESEEN = "import sys\nfrom reseen.cli import main\nsys.exit(main(sys.argv[1:]))"


class Started:
    """A running process and the file that takes what it says on both outputs, :attr:`said`."""

    def __init__(self, process: BaseProcess, said: Path) -> None:
        self.process, self._said = process, said

    def wait(self, seconds: float = 300) -> tuple[int, str]:
        """Exit status and all that it said."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            raise AssertionError(f"not done after {seconds} s:\n{self.kill()}")
        return self.process.exitcode, self.said

    def until(self, file: Path, seconds: float = 240) -> None:
        """Wait for a file that it is to write; an error where it ends, or time does, before that."""
        end = time.monotonic() + seconds
        while not file.exists() and self.running and time.monotonic() < end:
            time.sleep(0.02)
        assert file.exists(), self.said

    def kill(self) -> str:
        """SIGKILL; what it had said."""
        self.process.kill()
        self.process.join()
        return self.said

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")


def start(code: str, *words: object, cwd: Path | None = None, **environment: str) -> Started:
    """``python -c code words``, on one thread."""
    said = Path(_FOLDER.name) / f"{next(_NUMBERS)}.said"
    said.touch()
    given = (code, [str(word) for word in words], str(said), str(cwd or Path.cwd()), environment)
    process = FORKS.Process(target=_run, args=given)
    process.start()
    return Started(process, said)


def reseen(*words: object, cwd: Path | None = None, **environment: str) -> Started:
    """``reseen words``."""
    return start(RESEEN, *words, cwd=cwd, **environment)


def start_two(code: str, *words: object) -> list[Started]:
    """:func:`start` twice, as the ranks of one job that find each other without torchrun's help."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [start(code, *words, **where, RANK=rank, LOCAL_RANK=rank) for rank in "01"]


def together(code: str, *words: object) -> list[tuple[int, str]]:
    """Exit status and words of :func:`start_two`."""
    return [process.wait() for process in start_two(code, *words)]


def _run(code: str, words: list[str], said: str, cwd: str, environment: dict[str, str]) -> None:
    with open(said, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(1)
    os.chdir(cwd)
    os.environ.update(environment)
    sys.argv = ["-c", *words]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # that of a fresh process
    exec(compile(code, "-c", "exec"), {"__name__": "__main__"})

"""How a job of real processes ends: killed, stopped, or waiting in vain; and that waiting for work does not end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from processes import start_two, together
from reseen.distributed import joining

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
JOB = Path(__file__).with_name("stalls_job.py")
CODE = JOB.read_text()
LOST = (
    "reseen: process {} of 2 ended early, so process {} stops too: see what it said, if anything, "
    "and continue with --resume"
)


class LeftStore:
    """One that goes as soon as its process, the first, hears that the second has ended; the first has spoken."""

    here = True

    def add(self, key: str, amount: int) -> int:
        if not self.here:
            raise RuntimeError("connection reset by peer")
        return 1 + amount

    def set(self, key: str, value: str) -> None:
        self.here = not key.startswith("end/")


def test_the_second_is_silent_also_where_the_first_leaves_at_once():
    assert not joining._first_to_speak(LeftStore(), 1, 2, own=True)


def until(*files: Path) -> None:
    deadline = time.monotonic() + 240
    while not all(file.exists() for file in files) and time.monotonic() < deadline:
        time.sleep(0.02)


def process_of(parent: int, rank: int) -> int:
    """Process number of a rank that torchrun started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                of = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if of == parent and f"RANK={rank}".encode() in variables:
                return int(entry.name)
    raise AssertionError(f"no process of rank {rank}")


def lines(*said: str) -> list[str]:
    return [line for text in said for line in text.splitlines() if "reseen: " in line]


def test_a_long_work_of_the_first_ends_no_step(tmp_path: Path) -> None:
    """The others wait three times as long as a step may take."""
    ended = together(CODE, "work", tmp_path, 6)
    assert [status for status, _ in ended] == [0, 0], ended
    assert {file.name for file in tmp_path.glob("done.*")} == {"done.0", "done.1"}


def test_a_process_that_closes_nothing_is_given_up(tmp_path: Path) -> None:
    """As of a machine without power: connections stay open and nothing comes."""
    processes = start_two(CODE, "step", tmp_path, 0)
    until(tmp_path / "joined.0", tmp_path / "joined.1")
    os.kill(processes[1].process.pid, signal.SIGSTOP)
    status, said = processes[0].wait(120)
    processes[1].kill()
    assert status == 2
    (line,) = lines(said)
    assert line.startswith("reseen: process 1 of 2 has waited in vain for the others")


@pytest.mark.parametrize(("what", "rank"), [("work", 0), ("step", 1)])
def test_without_torchrun_the_other_notices_by_its_collective(what: str, rank: int, tmp_path: Path) -> None:
    """The first holds the store that they meet in; it goes with it."""
    processes = start_two(CODE, what, tmp_path, 200)
    until(tmp_path / "joined.0", tmp_path / "joined.1", *([tmp_path / "working"] if what == "work" else []))
    processes[rank].kill()
    killed = time.monotonic()
    ended = [process.wait(120) for process in processes]
    assert time.monotonic() - killed < 30
    assert lines(*(said for _, said in ended)) == [LOST.format(rank + 1, 2 - rank)]
    assert ended[1 - rank][0] == 2


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process in /proc")
@pytest.mark.parametrize("victim", ["the one that waits", "torchrun"])
def test_while_the_first_works_alone_torchrun_ends_it(victim: str, tmp_path: Path) -> None:
    """No collective of the first could tell it."""
    job = subprocess.Popen(
        [*TORCHRUN, str(JOB), "work", str(tmp_path), "200"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(tmp_path / "joined.1", tmp_path / "working")
    if victim == "torchrun":
        job.terminate()
    else:
        os.kill(process_of(job.pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    said = job.communicate(timeout=120)[1]
    assert time.monotonic() - killed < 30
    assert job.returncode != 0
    told = "reseen: process 1 of 2 was told to stop: continue with --resume"
    assert lines(said) == [told if victim == "torchrun" else LOST.format(2, 1)]

"""Many epochs and many requests: memory, open files and threads of a process stay what they were.

A few here; `make endurance` has 1,500 epochs (as many as twelve hours of the recipe `cpu`) and 100,000 requests.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import processes
from drill_works import networks, settings
from reseen.training import LAST
from worlds import TINY, people

EPOCHS = int(os.environ.get("RESEEN_EPOCHS", "8"))
REQUESTS = int(os.environ.get("RESEEN_REQUESTS", "600"))
LONG = EPOCHS >= 1000
BETWEEN = 10 if LONG else 3  # epochs from one kill to the next
ROWS, DIM = 2000, 64
GROWTH = 1.02  # of resident memory: some allocations that are still kept
SERVER = """
import socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import serve
listener = socket.create_server(("127.0.0.1", 0))
Path(sys.argv[2]).write_text(str(listener.getsockname()[1]))
serve.serve(listener.detach(), int(sys.argv[3]), int(sys.argv[4]))
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


class Watched:
    """What a process held at one moment after the other: MiB resident, open files, threads."""

    def __init__(self, pid: int) -> None:
        self.place, self.seen = Path(f"/proc/{pid}"), []

    def look(self) -> None:
        try:
            lines = (self.place / "status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines)
            files = len(list((self.place / "fd").iterdir()))
        except (OSError, ValueError):  # it has ended
            return
        if "VmRSS" in status:
            self.seen.append((int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"])))

    def check(self, what: str) -> None:
        """At the end (median of the last tenth) it holds no more than at most in its first half."""
        first, last = np.array(self.seen[: len(self.seen) // 2]), np.array(self.seen[-len(self.seen) // 10 :])
        (memory, files, threads), ends = first.max(0), np.median(last, axis=0)
        print(
            f"\n{what}: at most {memory:.1f} MiB, {files:.0f} files, {threads:.0f} threads in the first half; "
            f"{ends[0]:.1f}, {ends[1]:.0f}, {ends[2]:.0f} at the end ({len(self.seen):,} looks)"
        )
        if LONG:  # a short one is still filling its caches
            assert ends[0] <= GROWTH * memory
        assert ends[1] <= files + 1
        assert ends[2] <= threads


def epochs(run_dir: Path) -> int:
    metrics = run_dir / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


@pytest.mark.timeout(7200)
def test_many_epochs(tmp_path: Path) -> None:
    people(tmp_path / "photos", identities=8)
    words = ["train", "cacl", "--data", tmp_path / "photos", "--weights", "none", "--resume"]
    words += [*settings(*TINY, f"train.epochs={EPOCHS}"), "--run"]
    whole = processes.reseen(*words, tmp_path / "whole")
    watched = Watched(whole.process.pid)
    while whole.running:
        if 1 < epochs(tmp_path / "whole") < EPOCHS:  # what comes before and after is not repeated
            watched.look()
        time.sleep(0.02)
    status, said = whole.wait()
    assert status == 0, said
    assert epochs(tmp_path / "whole") == EPOCHS
    watched.check(f"{EPOCHS} epochs")

    place, starts = tmp_path / "killed", 0
    while epochs(place) < EPOCHS:
        process, end, starts = processes.reseen(*words, place), epochs(place) + BETWEEN, starts + 1
        while process.running and (epochs(place) < end or end >= EPOCHS):
            time.sleep(0.01)
        said = process.kill()
        assert "Traceback" not in said, said
    one, other = (networks(run_dir / "checkpoint" / LAST) for run_dir in (tmp_path / "whole", place))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [json.loads(line)["epoch"] for line in (place / "metrics.jsonl").read_text().splitlines()] == [
        *range(1, EPOCHS + 1)
    ]
    print(f"{EPOCHS} epochs with {starts - 1} kills: the same weights, bit for bit")


def asking(connection: http.client.HTTPConnection, picture: bytes) -> Callable[[str, str, bytes], bytes]:
    def ask(method: str, path: str, body: bytes = b"") -> bytes:
        kind = "image/png" if body[:4] == picture[:4] else "application/json"
        connection.request(method, path, body or None, {"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status in (200, 201, 202), (path, answer.status, content)
        return content

    return ask


@pytest.mark.timeout(7200)
def test_many_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Persons are found and searched for, pages turned, pictures fetched, rows added and erased."""
    benchmarks, told = Path(__file__).parents[1] / "benchmarks", tmp_path / "port"
    monkeypatch.syspath_prepend(benchmarks)
    from serve import picture

    server = processes.start(SERVER, benchmarks, told, ROWS, DIM)
    server.until(told)
    draw = np.random.default_rng(0)
    pictures = [picture(draw) for _ in range(50)]
    connection = http.client.HTTPConnection("127.0.0.1", int(told.read_text()), timeout=60)
    ask = asking(connection, pictures[0])
    asked, rounds = 0, 0
    ask("GET", "/healthz")
    try:
        watched = Watched(server.process.pid)
        while asked < REQUESTS:
            found = json.loads(ask("POST", "/api/find", pictures[rounds % 50]))
            query = {"query": found["persons"][0]["query"], "cameras": [rounds % 6]}
            for _ in range(5):
                page = json.loads(ask("POST", "/api/search", json.dumps(query).encode()))
                query["cursor"] = page["next"]
            for match in page["matches"][:12]:
                ask("GET", f"/api/rows/{match['row']}/thumbnail")
            asked, rounds = asked + 6 + len(page["matches"][:12]), rounds + 1
            watched.look()
            if rounds % 50 == 0:
                added = json.loads(ask("POST", "/api/rows?camera=7", pictures[0]))["rows"]
                ask("POST", "/api/forget", json.dumps({"rows": added}).encode())
                asked += 2
        watched.check(f"{asked:,} requests")
    finally:
        connection.close()
        server.kill()

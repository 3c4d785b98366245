"""Kill -9 at random moments, and disks that are full, until the work is done: it ends as if nothing had happened.

A kill and a full disk of each kind here; `make drills` has fifty (docs/reliability.md).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import drill_works as works
import processes

ROUNDS = int(os.environ.get("RESEEN_DRILLS", "1"))
KINDS = ("crops", "scenes", "two-step", "index", "erase", "reproduce")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def work(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> works.Work:
    if kind == "index":
        images = request.getfixturevalue("world") / "bounding_box_train"
        return works.indexing(tmp_path, request.getfixturevalue("trained")[0], images)
    if kind in ("scenes", "two-step"):
        make = {"scenes": works.scenes, "two-step": works.two_step}[kind]
        return make(tmp_path, request.getfixturevalue("scenes_folder"))
    return {"crops": works.crops, "erase": works.erasing, "reproduce": works.reproducing}[kind](tmp_path)


def undisturbed(work: works.Work, folder: Path) -> float:
    """Does it once in ``whole``; the seconds that it took."""
    processes.start("pass").wait()  # from here on every start is as quick as the next
    begun = time.monotonic()
    status, said = work.start(folder / "whole").wait()
    assert status == 0, said
    seconds = time.monotonic() - begun
    work.check(folder / "whole")
    return seconds


def leftovers(place: Path) -> list[Path]:
    return list(place.rglob("*.partial"))


def test_kills(kind: str, work: works.Work, tmp_path: Path) -> None:
    if ROUNDS == 1 and kind in ("two-step", "reproduce"):
        pytest.skip("killed in each of its parts by tests of its own")
    seconds = undisturbed(work, tmp_path)
    draw, kills, count = random.Random(kind), 0, 0
    while kills < ROUNDS:
        place, count = tmp_path / f"{kind}-{count}", count + 1
        while True:
            process = work.start(place)
            if kills < ROUNDS:
                process.process.join(draw.uniform(work.imports * seconds, seconds))
            if kills == ROUNDS or not process.running:
                status, said = process.wait()
                assert status == 0, said
                break
            process.kill()
            kills += 1
        work.check(place)
        assert leftovers(place) == []
        shutil.rmtree(place)
    print(f"\n{kind}: {kills} kills in {count} works of {seconds:.1f} s, 0 lost")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, whose size :func:`resize` sets."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={max(size, 4096)}", disk], check=True)


def used(place: Path) -> int:
    """Bytes in whole pages, as a tmpfs counts them."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in place.rglob("*") if path.is_file())


def test_full_disks(kind: str, work: works.Work, disk: Path, tmp_path: Path) -> None:
    """It has room for a part of the work, says so in a line, leaves nothing torn, and goes on when there is more."""
    if ROUNDS == 1 and kind in ("scenes", "two-step", "reproduce"):
        pytest.skip("writes as the others do; in `make drills`")
    undisturbed(work, tmp_path)
    least = used(tmp_path / "filled") if kind == "erase" else 0
    most, full = used(tmp_path / "whole"), 0
    for number in range(ROUNDS):
        place = disk / f"{kind}-{number}"
        resize(disk, least + (most - least) * (number + 1) // (ROUNDS + 1))
        status, said = work.start(place).wait()
        assert status in (0, 2), said
        assert "Traceback" not in said
        if status:
            full += 1
            assert [line for line in said.splitlines() if "reseen: " in line] == said.splitlines()[-1:], said
            assert "o space" in said, said
        assert leftovers(place) == []
        resize(disk, 2**26)
        status, said = work.start(place).wait()
        assert status == 0, said
        work.check(place)
        shutil.rmtree(place)
    print(f"\n{kind}: {ROUNDS} disks of up to {most:,} bytes, {full} of them full, 0 lost")

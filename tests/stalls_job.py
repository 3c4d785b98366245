"""What each process of tests/test_distributed.py runs: the first works alone, the others wait for it or for a step.

Words: what the first does, "work" (in Python) or "step" (a collective that all take part in), and the seconds that a
step may take.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from reseen.distributed import join, joining
from reseen.errors import ReseenError


def work(folder: Path) -> float:
    until = time.monotonic() + float(sys.argv[3])
    (folder / "working").touch()
    while time.monotonic() < until:
        time.sleep(0.05)
    return 2.5


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    joining.STEP_LIMIT = timedelta(seconds=2)
    with join() as ranks:
        (folder / f"joined.{ranks.rank}").touch()
        if what == "work":
            assert ranks.broadcast(lambda: work(folder)) == 2.5
            (folder / f"done.{ranks.rank}").touch()
        else:
            while True:
                ranks.mean(torch.ones(3))


if __name__ == "__main__":
    try:
        main()
    except ReseenError as error:
        print(f"reseen: {error}", file=sys.stderr)
        sys.exit(2)

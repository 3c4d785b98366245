"""How long the command line takes to appear: CPU and wall seconds of fresh processes (docs/performance/start.md).

    python benchmarks/startup.py

The first line is Python alone. CPU seconds are the figure on a machine that does other work too.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

RESEEN = str(Path(sysconfig.get_path("scripts")) / "reseen")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import reseen'": [sys.executable, "-c", "import reseen"],
    "reseen --help": [RESEEN, "--help"],
    "reseen train --help": [RESEEN, "train", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=7)
    times = parser.parse_args().times
    print(f"best and median of {times} processes, seconds\n")
    print("| command | CPU, best | CPU, median | wall, best | wall, median | imports torch |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, command in COMMANDS.items():
        cpu, wall = zip(*(once(command) for _ in range(times)), strict=True)
        figures = (min(cpu), statistics.median(cpu), min(wall), statistics.median(wall))
        print(
            f"| `{name}` | {' | '.join(f'{f:.3f}' for f in figures)} | {'yes' if torch_in(command) else 'no'} |"
        )


def once(command: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of one child process and of its children."""
    before, started = children(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return children() - before, time.perf_counter() - started


def children() -> float:
    """CPU seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def torch_in(command: list[str]) -> bool:
    """Whether torch was imported, by what Python says about its imports."""
    words = [sys.executable, "-X", "importtime", *(command if command[0] == RESEEN else command[1:])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return any(line.rsplit("|", 1)[-1].strip() == "torch" for line in done.stderr.splitlines())


if __name__ == "__main__":
    main()

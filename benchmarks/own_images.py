"""A user's way on real crops: 60 persons of Market-1501 in folders of their names (docs/own-images.md).

    taskset -c 0 python benchmarks/own_images.py --data MARKET --out FOLDER

The crops of 60 training persons are copied into a folder per person, the camera in the name, six of them damaged, six
twice and two in two persons' folders. Then each command of docs/own-images.md runs as a process of its own, and its
CPU and wall seconds are printed. --resume goes on with a training that was stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from market1501 import baselines
from reseen.data import open_data
from reseen.files import write_file
from startup import children

FIRST = (
    "Ana",
    "Bo",
    "Chloé",
    "Dev",
    "Eun",
    "Femi",
    "Gül",
    "Hana",
    "Ivo",
    "João",
    "Kai",
    "Lea",
    "Mio",
    "Nia",
    "Oz",
)
LAST = ("Adler", "de Boer", "Costa", "Diaz")  # 15 x 4 persons, blanks and accents as people have them
PATTERN = ("--camera-pattern", r"cam(\d)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="Market-1501")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="a setting of the training; repeatable")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    root = given.out.resolve()
    if not given.resume:
        named_by_person(given.data, root / "people")
    os.chdir(root)
    settings = [word for setting in given.set for word in ("--set", setting)]
    more = ["--resume"] if given.resume else []
    timed("doctor", "people", *PATTERN, "--time")
    timed("split", "people", *PATTERN, "--queries", "1", "--validation", "0.2", "--seed", "0")
    timed("train", "cacl", "--data", "split.csv", "--recipe", "cpu", "--run", "run", *settings, *more)
    timed("evaluate", "run", "--data", "split.csv", "--test-on", "validation")
    timed("evaluate", "run", "--data", "split.csv", "--lists", "ranked.csv")
    timed("cluster", "run", "--data", "people", *PATTERN)
    timed("evaluate", "run/checkpoint/start.safetensors", "--data", "split.csv")
    for name, scores in baselines(Path("split.csv")).items():
        print(f"{name}: mAP {scores['mean_ap']:.1%}  rank-1 {scores['rank1']:.1%}")


def named_by_person(market: Path, root: Path) -> None:
    """Crops of the first training persons in ``root``, named and spoilt as folders of people's own are."""
    if root.exists():
        shutil.rmtree(root)
    data = open_data(market)
    assert data.train_identities is not None
    names = [f"{first} {last}" for last in LAST for first in FIRST]
    persons = np.unique(data.train_identities)[: len(names)].tolist()
    for number, (crop, identity) in enumerate(zip(data.train, data.train_identities.tolist(), strict=True)):
        if identity in persons:
            place = root / names[persons.index(identity)] / f"cam{crop.camera} {number:05}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(crop.path, place)
    folders = sorted(root.iterdir())
    for number, folder in enumerate(folders[:6]):
        first, second = sorted(folder.iterdir())[:2]
        shutil.copy(second, folder / f"{second.stem} (copy).jpg")
        write_file(first, first.read_bytes()[: 300 * number], "")  # the first of them is empty
    for here, there in ((10, 11), (12, 13)):
        shutil.copy(min(folders[here].iterdir()), folders[there] / "cam1 by mistake.jpg")


def timed(*words: str) -> None:
    """Run a command and print what it said, and the CPU and wall seconds that it took."""
    cpu, began = children(), time.perf_counter()
    print("$ reseen", *words, flush=True)
    subprocess.run([sys.executable, "-m", "reseen", *words], check=True)
    print(
        f"-- {words[0]}: {children() - cpu:.0f} s of CPU, {time.perf_counter() - began:.0f} s\n", flush=True
    )


if __name__ == "__main__":
    main()

"""The data of a table: a set that was given, or a street that is drawn for each seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reseen.distributed import ALONE
from reseen.errors import ReseenError
from reseen.files import claimed
from reseen.progress import Progress
from reseen.reproduce.kinds import Kind
from reseen.reproduce.scales import STREET
from reseen.reproduce.streets import Streets
from reseen.tasks import Reading, Scoring

FIRST_STREET = 100  # seed k is drawn as street 100 + k: the recipes were made looking at streets 0 to 5


@dataclass(frozen=True)
class Source:
    """Where the data of a table is; ``path`` None: the drawn street. ``name``: what tables call it, "" = as read."""

    path: Path | None
    name: str = ""

    @property
    def drawn(self) -> bool:
        return self.path is None


def parse_source(words: str) -> Source:
    """``PATH``, ``NAME=PATH`` or ``street``. Raises ReseenError where nothing is said."""
    if words == STREET:
        return Source(None, STREET)
    name, found, path = words.partition("=")
    if not found or Path(words).expanduser().exists():
        name, path = "", words
    if not path or "/" in name:
        raise ReseenError(f"--data {words}: give PATH, NAME=PATH (a NAME without /) or street")
    return Source(Path(path), name)


def open_source(
    source: Source, kind: Kind, out: Path, seed: int, wanted_by: str, streets: Streets, max_bad_share: float
) -> Any:
    """The data of one seed, without what cannot be read; a given data set is the same for each seed.

    Raises:
        ReseenError: no such data, of the other kind, or without a test part that can be scored.
    """
    with Progress() as progress:
        if source.path is None:
            folder = out / STREET / f"{kind.images.replace('images', 'crops')}-{seed}"
            with claimed(folder.with_suffix(".lock"), wait=True):
                count = progress.counter(f"draw street {seed}")
                data = kind.draw(folder, FIRST_STREET + seed, count, streets)
        else:
            opened = kind.task.open(source.path, wanted_by, Reading(train_on_test=False))
            data = kind.task.usable(opened, max_bad_share, progress, ALONE)
    if not kind.task.tested(data):
        raise ReseenError(
            f"{source.path} has no test part to score on: {wanted_by} needs a benchmark's layout (docs/data.md)"
        )
    kind.task.check_test(data, Scoring())  # before hours of training
    return data

"""``reseen compose``: a composite person search data set from a folder of crops."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reseen.errors import ReseenError
from reseen.progress import Progress
from reseen.records import SearchData
from reseen.street import Composition, compose


def compose_scenes(crops: Path, out: Path, *, sizes: Sequence[str] = (), **given: Any) -> SearchData:
    """:func:`reseen.street.compose` with a bar, and a line about what came of it.

    Args:
        sizes: of scenes, ``WIDTHxHEIGHT`` in pixels; ``given``: other fields of :class:`reseen.street.Composition`.
    """
    if sizes:
        given["sizes"] = tuple(_size(words) for words in sizes)
    composition = Composition(**given)
    with Progress() as progress:
        data = compose(crops, out, composition, progress=progress.counter("compose scenes"))
    print(
        f"{out}: {data.name}, {len(data.train):,} training scenes with {data.train_boxes:,} persons, "
        f"{len(data.test):,} test scenes, {len(data.probes):,} queries"
    )
    return data


def _size(words: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", words.lower())
    if match is None:
        raise ReseenError(f"--size {words}: give WIDTHxHEIGHT in pixels, e.g. 960x540")
    return int(match[1]), int(match[2])

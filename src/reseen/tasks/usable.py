"""Every command looks at its images before it begins: bad ones are named and left out, or end it with one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from reseen.data import scan_images, scan_scenes
from reseen.data.paths import shown
from reseen.distributed import ALONE, Ranks
from reseen.progress import Progress
from reseen.records import Crop, LabelledCrops, Labels, ReidData, SearchData

NAMED = 20  # skipped files that are named; beyond that they are counted


def usable(images: ReidData, max_bad_share: float, progress: Progress, ranks: Ranks = ALONE) -> ReidData:
    """``images`` without the files that cannot be read, in every split; a split without images stays as it is.

    Of several processes the first looks, and knows why; the others leave out what it left out.

    Raises:
        ReseenError: more than ``max_bad_share`` of a split is unreadable.
    """
    skipped = list(images.skipped)

    def scan(crops: tuple[Crop, ...], name: str) -> tuple[tuple[Crop, ...], Labels]:
        if not crops:  # a benchmark of which only the test part is there
            return crops, np.empty(0, dtype=np.int64)

        def look() -> Labels:
            _, kept, problems = scan_images(
                crops, max_bad_share=max_bad_share, progress=progress.counter(f"check {name}")
            )
            skipped.extend(problems)
            return kept

        kept = ranks.broadcast(look)
        return tuple(crops[row] for row in kept), kept

    def scan_labelled(part: LabelledCrops | None, name: str) -> LabelledCrops | None:
        if part is None:
            return part
        good, kept = scan(part.crops, name)
        return LabelledCrops(good, part.identities[kept])

    train, kept = scan(images.train, "images")
    query, gallery = scan_labelled(images.query, "query"), scan_labelled(images.gallery, "gallery")
    identities = images.train_identities[kept] if images.train_identities is not None else None
    whole = replace(images, train=train, train_identities=identities, query=query, gallery=gallery)
    say_read(whole, skipped, progress.say)
    return whole


def say_read(images: ReidData, skipped: Sequence[str], say: Callable[[str], object]) -> None:
    """What ends each reading of crops: what is left out by name, then a summary."""
    say_skipped(skipped, say)
    parts = (
        (images.validation, "for validation"),
        (images.query, "queries"),
        (images.gallery, "gallery images"),
    )
    counts = [
        (len(images.train), "training images"),
        *((len(part), what) for part, what in parts if part is not None),
    ]
    say(summary(f"{shown(images.name)} ({images.layout})", counts, len(skipped)))


def say_skipped(lines: Sequence[str], say: Callable[[str], object]) -> None:
    """The first :data:`NAMED` of what is left out, and how many more there are."""
    for line in lines[:NAMED]:
        say(f"skipped: {line}")
    if len(lines) > NAMED:
        say(f"skipped: {len(lines) - NAMED} more (reseen doctor names them all)")


def summary(name: str, counts: Sequence[tuple[int, str]], left_out: int) -> str:
    """The line that ends a reading: sizes of the parts, and how many things, named before, are left out."""
    words = ", ".join(f"{count:,} {what}" for count, what in counts if count) or "nothing"
    left = {0: "nothing is left out", 1: "1 thing is left out, named above"}
    return f"read {name}: {words}; {left.get(left_out, f'{left_out:,} things are left out, named above')}"


def usable_scenes(
    data: SearchData, max_bad_share: float, progress: Progress, ranks: Ranks = ALONE
) -> SearchData:
    """``data`` without scenes that cannot be read and boxes outside of them; says what was left out."""
    checked, problems = scan_scenes(
        data, max_bad_share=max_bad_share, progress=progress.counter("check scenes")
    )
    say_skipped((*checked.skipped, *problems), progress.say)
    counts = [(len(checked.train), "training scenes"), (len(checked.test), "test scenes")]
    counts.append((len(checked.probes), "queries"))
    progress.say(summary(shown(checked.name), counts, len(checked.skipped) + len(problems)))
    return checked

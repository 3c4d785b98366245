"""``reseen split``: a validation split of labelled training images, as a manifest."""

from __future__ import annotations

from pathlib import Path

from reseen.data.split import validation_split, write_manifest
from reseen.records import ReidData
from reseen.tasks import Reading
from reseen.tasks.opening import open_crops


def split(
    data: Path,
    *,
    out: Path = Path("split.csv"),
    held_out: int = 100,
    identities: int | None = None,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
) -> ReidData:
    """Write a manifest whose query and gallery are training identities that were held out (the last ones).

    ``reseen train`` and ``reseen evaluate`` take it as --data: settings that are chosen by its scores never saw the
    test set. See :func:`reseen.data.split.validation_split`.
    """
    opened = open_crops(data, "reseen split", Reading(camera_pattern, identity_pattern))
    parts = validation_split(opened, held_out, identities=identities)
    assert parts.query is not None
    assert parts.gallery is not None
    write_manifest(out, parts)
    print(
        f"{out}: {len(parts.train):,} training images, {len(parts.query):,} queries and {len(parts.gallery):,} gallery "
        f"images of {held_out} identities that are held out"
    )
    return parts

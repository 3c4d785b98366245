"""``reseen gallery``: what a gallery holds, and a copy of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np

from reseen.errors import ReseenError
from reseen.gallery import Gallery
from reseen.gallery.places import models_in, taken


def gallery(gallery: str, *, copy_to: str | None = None) -> list[Gallery]:
    """Print what each model's table holds, or copy all rows, with their numbers, to another place.

    Raises:
        ReseenError: no gallery, or rows of these models at the other place.
    """
    opened = [Gallery.open(gallery, about.fingerprint) for about in models_in(gallery)]
    if not opened:
        raise ReseenError(
            f"{gallery} is no gallery yet: reseen index RUN PATH --gallery {gallery} begins one"
        )
    for one in opened:
        if copy_to is not None:
            print(f"{one.copy_to(copy_to)} rows of {one.about} -> {copy_to}")
        else:
            print("\n".join(_lines(one)))
    if copy_to is None:
        print(taken(gallery))
    return opened


def _lines(one: Gallery) -> list[str]:
    held = one.held
    lines = [f"{len(held)} rows of {one.about}, {one.about.dim} dimensions, of {len(one.sources())} sources"]
    cameras, counts = np.unique(held.column("camera"), return_counts=True)
    known = [f"{camera} ({count} rows)" for camera, count in zip(cameras, counts, strict=True) if camera >= 0]
    if known:
        lines.append(f"  cameras {', '.join(known[:20])}")
    times = held.column("time")[~np.isnan(held.column("time"))]
    if len(times):
        first, last = (datetime.fromtimestamp(when, UTC) for when in (times.min(), times.max()))
        lines.append(f"  seen from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC")
    why = one.why_no_probability
    lines.append(f"  matches have no probability: {why}" if why else "  matches have a probability")
    expired = int((held.column("expiry") <= time.time()).sum())
    if expired:
        lines.append(f"  {expired} rows have expired and are not found: reseen forget {one.place} --expired")
    if one.unfinished:
        lines.append(f"  an erasure of {one.unfinished} rows was stopped: reseen forget {one.place} --finish")
    return lines

"""From rows as the gallery has them to rows as they are shown: no NaN, no byte that a page cannot hold."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from reseen.data.paths import shown
from reseen.gallery.rows import NONE, Hit
from reseen.gallery.server.schemas import Match, Shown
from reseen.records import UNKNOWN_CAMERA

COLUMNS = (
    *("rank", "row", "similarity", "source", "frame", "seconds", "time", "camera"),
    *("x1", "y1", "x2", "y2", "score", "track"),
)


def row_of(hit: Hit) -> Shown:
    return Shown(**_details(hit))


def match_of(hit: Hit) -> Match:
    return Match(**_details(hit), similarity=hit.similarity, track_rows=list(hit.track_rows))


def _details(hit: Hit) -> dict[str, Any]:
    return {
        "row": hit.row,
        "source": shown(hit.source),
        "frame": None if hit.frame == NONE else hit.frame,
        "seconds": number(hit.seconds),
        "time": moment(hit.time),
        "camera": None if hit.camera == UNKNOWN_CAMERA else hit.camera,
        "box": list(hit.box),
        "score": number(hit.score),
        "track": None if hit.track == NONE else hit.track,
        "expiry": moment(hit.expiry),
    }


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def moment(seconds: float) -> datetime | None:
    """Seconds since 1970 as a time of day, UTC; None where there is none, or none that a calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # nan, or beyond the year 9999
        return None


def csv_of(hits: Sequence[Hit]) -> str:
    """Hits as CSV for a spreadsheet, which would take a text that begins with =, +, - or @ for a formula."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for rank, hit in enumerate(hits, 1):
        row = match_of(hit)
        when = "" if row.time is None else row.time.isoformat()
        cells = (rank, row.row, f"{row.similarity:.4f}", harmless(row.source), row.frame, row.seconds, when)
        writer.writerow((*cells, row.camera, *row.box, row.score, row.track))
    return file.getvalue()


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text

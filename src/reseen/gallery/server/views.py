"""From rows as the gallery has them to rows as they are shown: no NaN, no byte that a page cannot hold."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from reseen.data.paths import shown
from reseen.files import write_table
from reseen.gallery.rows import NONE, Hit
from reseen.gallery.server.scenes import NO_SCENES, Scenes
from reseen.gallery.server.schemas import Match, Probability, Shown
from reseen.metrics.calibration import in_words
from reseen.records import UNKNOWN_CAMERA

COLUMNS = (
    *("rank", "row", "similarity", "probability", "probability_low", "probability_high"),
    *("source", "frame", "seconds", "time", "camera"),
    *("x1", "y1", "x2", "y2", "score", "track"),
)


def row_of(hit: Hit, scenes: Scenes = NO_SCENES) -> Shown:
    return Shown(**_details(hit, scenes))


def match_of(hit: Hit, scenes: Scenes = NO_SCENES) -> Match:
    details, rows = _details(hit, scenes), list(hit.track_rows)
    return Match(**details, similarity=hit.similarity, probability=probability_of(hit), track_rows=rows)


def probability_of(hit: Hit) -> Probability | None:
    if math.isnan(hit.probability):
        return None
    return Probability(
        value=hit.probability,
        low=hit.probability_low,
        high=hit.probability_high,
        words=in_words(hit.probability),
    )


def _details(hit: Hit, scenes: Scenes) -> dict[str, Any]:
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
        "scene": scenes.shows(hit),
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
    """Hits as CSV for a spreadsheet."""
    file = io.StringIO()
    write_table(file, COLUMNS, (_cells(rank, match_of(hit)) for rank, hit in enumerate(hits, 1)))
    return file.getvalue()


def _cells(rank: int, row: Match) -> tuple[Any, ...]:
    when = None if row.time is None else row.time.isoformat()
    sure = row.probability
    digits = (sure.value, sure.low, sure.high) if sure is not None else (None,) * 3
    start = (rank, row.row, round(row.similarity, 4), *digits)
    seen = (PurePosixPath(row.source), row.frame, row.seconds, when, row.camera)
    return (*start, *seen, *row.box, row.score, row.track)

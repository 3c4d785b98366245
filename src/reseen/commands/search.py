"""``reseen search``: where else a gallery has the person of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.files import write_csv
from reseen.gallery import Gallery, Hit
from reseen.gallery.how_sure import RERANKED
from reseen.gallery.queries import feature_of, model_of

COLUMNS = [field.name for field in fields(Hit)]


def search(
    gallery: str,
    image: Path,
    *,
    run: Path | None = None,
    box: Sequence[float] | None = None,
    cameras: Sequence[int] | None = None,
    not_cameras: Sequence[int] | None = None,
    after: str | None = None,
    before: str | None = None,
    sources: Sequence[str] | None = None,
    top: int = 10,
    rerank: bool = False,
    csv: Path | None = None,
) -> list[Hit]:
    """Print the rows of a gallery that are most similar to the person of an image, and write them to ``csv``.

    Beside the similarity stands how probable it is that both show one person, or below why that is not known.

    Args:
        run: the model; None: where it was when the gallery was indexed.
        box: xyxy of the person in the image.
        cameras, not_cameras, after, before, sources, rerank: see :meth:`reseen.Gallery.search`.

    Raises:
        ReseenError: no gallery, model or image; nobody in the image; a model that the gallery has no rows of.
    """
    if top < 1:
        raise ReseenError(f"--top {top} finds nothing: give 1 or more")
    model = model_of(gallery, run)
    opened = Gallery.open(gallery, model)
    feature = feature_of(model, image, box)
    filters = {"cameras": cameras, "not_cameras": not_cameras, "after": after, "before": before}
    hits = opened.search(feature, top, rerank=rerank, sources=sources, **filters)
    if csv is not None:
        rows = ([_cell(hit, name) for name in COLUMNS] for hit in hits)
        write_csv(csv, COLUMNS, rows, "choose another --csv")
    for place, hit in enumerate(hits, 1):
        print(f"{place:>4}  {hit.similarity:6.3f}  {sure_of(hit)}{line_of(hit)}")
    if not hits:
        print(f"nothing in {gallery} passes: it holds {len(opened)} rows")
    elif why := RERANKED if rerank else opened.why_no_probability:
        print(f"no probability: {why}")
    return hits


def sure_of(hit: Hit) -> str:
    """Digits, interval and word of its probability; "" where it has none."""
    if hit.probability != hit.probability:
        return ""
    from reseen.metrics.calibration import in_percent, in_words

    value, low, high = map(in_percent, (hit.probability, hit.probability_low, hit.probability_high))
    return f"{f'{value} % ({low} to {high})':<20}{in_words(hit.probability):<24}"


def line_of(hit: Hit) -> str:
    """Row, source, and what is known about it."""
    words = [f"row {hit.row}", shown(hit.source)]
    if hit.frame >= 0:
        words.append(f"frame {hit.frame} at {hit.seconds:.1f} s")
    if hit.track >= 0:
        words.append(f"track {shown(hit.source)}#{hit.track}")
        words += [f"{len(hit.track_rows)} more of it"] if hit.track_rows else []
    if hit.camera >= 0:
        words.append(f"camera {hit.camera}")
    if hit.time == hit.time:
        words.append(datetime.fromtimestamp(hit.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
    return ", ".join(words)


def _cell(hit: Hit, name: str) -> Any:
    """What is not known is empty; numbers of other rows of a track are apart by spaces."""
    value = getattr(hit, name)
    if name == "source":
        return PurePosixPath(value)  # so that no spreadsheet takes a name for a formula
    if isinstance(value, tuple):
        return " ".join(f"{one:g}" for one in value)
    return "" if value != value or value == -1 else value

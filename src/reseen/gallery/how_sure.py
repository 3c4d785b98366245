"""How sure a gallery is of its hits: its model's calibration under the prior of its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.files import from_json
from reseen.gallery.rows import Held, Hit

if TYPE_CHECKING:
    from reseen.metrics.calibration import Calibration

OTHERS, PAIRS = 20_000, 2**22  # rows that a prior is fitted on, and pairs of them, at most
LEAST_PAIRS = 400  # 20 rows with 20: a share of fewer is anybody's guess
BLOCK = 2048  # rows that are raised to float32 together
NONE_KEPT = (
    "the gallery has no calibration of its model: reseen report RUN --data PATH makes one where it can, and "
    "reseen index RUN PATH --gallery G --resume takes it along"
)
FEW = "the gallery holds too few rows across cameras to say how many of them show one person: index more"
RERANKED = "re-ranked matches are ordered by their neighbours, and a calibration is of similarities"
REFINED = "the query is made of several images, and a calibration is of pairs of images"
Floats = NDArray[np.float64]


class HowSure:
    """Of one gallery and its model. ``text``: the calibration as JSON, "" where there is none.

    The prior is fitted when it is first asked for, and anew once the rows are a tenth more or fewer.
    """

    def __init__(self, text: str = "") -> None:
        self.text = text
        self._fitted: tuple[int, float | None] | None = None  # number of rows, and their prior

    def why_not(self, held: Held) -> str:
        """Why hits among these rows have no probability; "" where they have one."""
        if isinstance(self._calibration, str):
            return self._calibration
        return FEW if self._prior(held) is None else ""

    def probabilities(self, held: Held, similarities: Any) -> tuple[Floats, Floats, Floats]:
        """That a row shows the person of a query, by their similarity ``[n]``, with the ends of its interval.

        Raises:
            ReseenError: there is none; says why, and what may be named in its place.
        """
        if why := self.why_not(held):
            raise ReseenError(f"no probability: {why}; or name a similarity (--above-similarity)")
        calibration, prior = self._calibration, self._prior(held)
        assert not isinstance(calibration, str)
        assert prior is not None
        return calibration.probability(similarities, prior)

    def said(self, held: Held, lists: Sequence[list[Hit]]) -> list[list[Hit]]:
        """Hits with their probabilities, where there are any."""
        if self.why_not(held):
            return list(lists)
        similarities = [hit.similarity for hits in lists for hit in hits]
        numbers = zip(*(column.tolist() for column in self.probabilities(held, similarities)), strict=True)
        names = ("probability", "probability_low", "probability_high")
        return [
            [replace(hit, **dict(zip(names, next(numbers), strict=True))) for hit in hits] for hits in lists
        ]

    @cached_property
    def _calibration(self) -> Calibration | str:
        """Or why there is none."""
        if not self.text:
            return NONE_KEPT
        from reseen.metrics.calibration import Calibration  # with torch, which most of a gallery needs not

        try:
            return Calibration.from_json(from_json(self.text))
        except ValueError:
            return NONE_KEPT
        except ReseenError as error:
            return str(error)

    def _prior(self, held: Held) -> float | None:
        if self._fitted is None or abs(len(held) - self._fitted[0]) * 10 > self._fitted[0]:
            assert not isinstance(self._calibration, str)
            self._fitted = (len(held), prior_of(self._calibration, held))
        return self._fitted[1]


def prior_of(calibration: Calibration, held: Held) -> float | None:
    """The share of pairs of rows that show one person, by their similarities alone; None where pairs are too few.

    Of an even sample, across cameras; where no two cameras are known across sources, for one image or video is no
    "elsewhere".
    """
    from reseen.metrics.calibration import BINS, PRIOR_ROWS, bin_of, fitted_prior, spread

    if held.table is None:
        return None
    rows = spread(len(held), OTHERS)
    anchors = rows[spread(len(rows), min(PRIOR_ROWS, PAIRS // len(rows)))]
    groups = held.column("camera")
    if len(np.unique(groups[groups >= 0])) < 2:
        groups = held.table["source"].combine_chunks().dictionary_encode().indices.to_numpy()
    asked, counts = held.vectors(anchors), np.zeros(BINS, np.int64)
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        apart = groups[anchors, None] != groups[some]
        counts += np.bincount(bin_of((asked @ held.vectors(some).T)[apart]), minlength=BINS)
    return None if counts.sum() < LEAST_PAIRS else fitted_prior(calibration.log_ratio, counts)

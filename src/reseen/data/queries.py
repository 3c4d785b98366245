"""Who of a set of labelled images asks, and who answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reseen.data.numbering import rows_of_each
from reseen.records import DISTRACTOR, UNKNOWN_CAMERA, Labels


def choose_queries(
    identities: Labels, cameras: Labels, *, each: int = 1, across: bool | None = None
) -> NDArray[np.bool_]:
    """Which of M labelled images are queries, bool ``[M]``; the others are the gallery.

    The first ``each`` images of every person under every camera, as far as the gallery keeps an image of the person
    under another camera for each of them. Nobody else is one: neither junk, distractors, nor a person whom nothing
    could answer.

    Args:
        across: whether an answer has to be of another camera, both of them known, as the cross-camera protocol
            (:mod:`reseen.evaluation.protocol`) wants it; None: where somebody is seen under two known cameras.
    """
    if across is None:
        chosen = choose_queries(identities, cameras, each=each, across=True)
        return chosen if chosen.any() else choose_queries(identities, cameras, each=each, across=False)
    chosen = np.zeros(len(identities), dtype=bool)
    for rows in rows_of_each(identities, identities > DISTRACTOR):
        groups = [rows]
        if across:
            groups = [rows[part] for part in rows_of_each(cameras[rows], cameras[rows] != UNKNOWN_CAMERA)]
            if len(groups) < 2:
                continue
        large = [group for group in groups if len(group) > 1]
        for group in large:
            chosen[group[: min(each, len(group) - 1)]] = True
        if not large and len(groups) > 1:  # one image under each camera
            chosen[min(group[0] for group in groups)] = True
        if len(large) > 1:  # both keep one, so whoever is alone under their camera finds an answer
            chosen[[group[0] for group in groups if len(group) == 1]] = True
    return chosen


def across_cameras(cameras: Labels) -> bool:
    """Whether there are two known cameras, so that a match across cameras can be asked for."""
    return len(np.unique(cameras[cameras != UNKNOWN_CAMERA])) > 1

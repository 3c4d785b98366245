"""What ``reseen evaluate`` can score, said by the doctor before an hour of training, by the functions that score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reseen.data.doctor import Report
from reseen.data.parts import folder_per_person
from reseen.errors import ReseenError
from reseen.evaluation.protocol import CROSS_CAMERA, SAME_CAMERA, NothingToScoreError, in_words, open_test
from reseen.evaluation.search import open_search_test
from reseen.records import DISTRACTOR, ReidData, SearchData

Found = tuple[list[str], list[str], list[str]]  # facts, what is left out, warnings


def foresee(report: Report) -> Report:
    """``report`` with what can be scored, by which protocol and why not more; warnings where nothing can be."""
    found: Found = ([], [], [])
    if report.crops is not None:
        found = _of_crops(report.crops)
    elif report.scenes is not None:
        found = _of_scenes(report.scenes)
    facts, skipped, warnings = found
    return replace(
        report,
        facts=(*report.facts, *(f"scores: {fact}" for fact in facts)),
        skipped=(*report.skipped, *skipped),
        warnings=(*report.warnings, *warnings),
    )


def _of_crops(images: ReidData) -> Found:
    if not images.query or not images.gallery:
        return [_no_test_part(images)], [], []
    facts, warnings = [], []
    try:
        test = open_test(images, CROSS_CAMERA)
        facts.append(test.words)
        more = test.coverage.only_same_camera > 0
    except NothingToScoreError as error:
        warnings.append(str(error))
        more = True
    if more:  # by the other protocol
        try:
            facts.append(f"{open_test(images, SAME_CAMERA).words} (--protocol same-camera)")
        except NothingToScoreError:
            facts = facts or ["none"]
    if images.train_identities is not None:
        persons = images.train_identities[images.train_identities > DISTRACTOR]
        both = np.intersect1d(persons, images.query.identities)
        if len(both):
            warnings.append(
                f"{len(both):,} persons are trained on and tested on: scores say less about new ones"
            )
    return facts, [], warnings


def _no_test_part(images: ReidData) -> str:
    if images.query or images.gallery:
        return f"none, the {'gallery' if images.query else 'query'} part is missing"
    if images.train_identities is not None:
        return "none without a test part, which reseen split makes"
    if folder_per_person(images):
        return "none without a test part, which reseen split makes; each sub-folder would be a person"
    return "none, nobody has said who is who (--identity-pattern, a folder per person, or a column identity)"


def _of_scenes(scenes: SearchData) -> Found:
    if not scenes.test or not scenes.probes:
        return [], [], []  # the report has said so
    try:
        test = open_search_test(scenes)
    except ReseenError as error:  # nothing to score, or galleries that cannot be read
        return [], [], [str(error)]
    return [in_words(test.record)], list(test.left_out), []

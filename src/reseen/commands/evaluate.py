"""``reseen evaluate``: a trained model on a benchmark's query and gallery, or on its scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from reseen.commands.features_file import evaluate_file
from reseen.commands.lists import check_lists, rank, write_lists
from reseen.distributed import ALONE
from reseen.errors import ReseenError
from reseen.evaluation.protocol import CROSS_CAMERA
from reseen.metrics import ReidScores
from reseen.progress import Progress
from reseen.tasks import (
    Reading,
    Scoring,
    announce,
    max_bad_share,
    method_of_run,
    refuse_options,
    task_of,
)


def evaluate_run_or_file(*, run: Path | None, features: Path | None, **given: Any) -> None:
    """The command: a trained model, or the features of another in a file."""
    if (run is None) == (features is None):
        raise ReseenError("reseen evaluate scores a RUN, or --features FILE: give one of them")
    if run is not None:
        evaluate(run, **given)
    elif features is not None:
        of_file = (
            "data",
            "camera_pattern",
            "identity_pattern",
            "test_on",
            "rerank",
            "protocol",
            "lists",
            "top",
        )
        used = {key: given.pop(key) for key in of_file}
        wrong = [key for key, value in given.items() if value and (key, value) != ("epoch", "last")]
        if wrong:
            raise ReseenError(f"--{wrong[0].replace('_', '-')} is for a RUN, not for --features")
        evaluate_file(features, **used)


def evaluate(
    run: Path,
    *,
    data: Path,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
    test_on: str = "test",
    epoch: str = "last",
    branch: str | None = None,
    view: Literal["colour", "grey"] | None = None,
    rerank: bool = False,
    protocol: str | None = None,
    gallery_sizes: Sequence[int] | None = None,
    paths: Literal["search", "both"] | None = None,
    lists: Path | None = None,
    top: int | None = None,
    queries: Path | None = None,
) -> ReidScores | dict[str, Any] | Path:
    """Score ``run`` on the test part of ``data``; prints the scores and adds lines to RUN/evaluations.jsonl.

    With ``lists`` also what was found for each query, as a CSV. Where ``data`` has no test part, or with ``queries``,
    that is all: each image (or each of ``queries``) is searched for among the others, and nothing is scored.

    A model for crops gives mAP and CMC (with ``rerank`` those after re-ranking), one that searches scenes the record of
    :func:`reseen.evaluation.search.search_record`.

    Args:
        epoch, branch, view, rerank, protocol, gallery_sizes, paths: see :class:`reseen.tasks.Scoring`.
        camera_pattern, identity_pattern: where file names hold the camera and the person, for folders of crops.
        test_on: ``test``, or ``validation``, for crops.
        top: images of a list (10).

    Raises:
        ReseenError: no such run, an option or ``data`` of the other kind, or no test part that can be scored.
    """
    check_lists(lists, top, queries)
    method = method_of_run(run)
    task = task_of(method)
    how = Scoring(epoch, branch, view, rerank, protocol or CROSS_CAMERA, tuple(gallery_sizes or ()), paths)
    given: dict[str, object] = {
        "branch": branch,
        "view": view,
        "rerank": rerank,
        "protocol": protocol,
        "gallery_size": gallery_sizes,
        "paths": paths,
        "camera_pattern": camera_pattern,
        "identity_pattern": identity_pattern,
        "test_on": test_on != "test",
    }
    refuse_options(task, f"{run}, a run of {method}", given)
    reading = Reading(camera_pattern, identity_pattern, test_on)
    opened = task.open(data, f"{run} ({method})", reading)
    if lists is not None and (queries is not None or not task.tested(opened)):
        asked = None if queries is None else task.open(queries, f"{run} ({method})", Reading())
        return rank(run, task, opened, asked, how, lists, top)
    task.check_test(opened, how)
    with Progress() as progress:
        usable = task.usable(opened, max_bad_share(task, task.trained(run, epoch)), progress, ALONE)
        scored = task.score(run, usable, how, progress)
    for one in scored:
        announce(one, run)
    if lists is not None and scored[0].lists is not None:
        write_lists(lists, scored[0].lists, [usable.root], top)
    result: ReidScores | dict[str, Any] = scored[-1].result
    return result

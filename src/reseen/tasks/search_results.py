"""A search result to look at: a few queries, each searched in a part of its gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reseen.data import Targets
from reseen.evaluation.lists import Hit, ranked_hits
from reseen.evaluation.protocol import NothingToScoreError
from reseen.evaluation.search import Finder, open_search_test
from reseen.records import SearchData
from reseen.tasks.pictures import Place, SearchResults

QUERIES, TOP = 4, 4  # rows and columns
SCENES = 25  # of a query's gallery that are searched
SHOWING = 10  # of these with the person, at most


def search_results(data: SearchData, find: Finder) -> SearchResults | None:
    """A few queries, spread evenly over all and not picked; None without queries that have an answer."""
    if not data.test or not data.probes:
        return None
    try:
        galleries = open_search_test(data)
    except NothingToScoreError:
        return None
    rows = even(np.arange(len(galleries.probes)), QUERIES)
    probes = [data.probes[galleries.probes[row]] for row in rows]
    parts = [some_scenes(galleries.targets[row]) for row in rows]
    used = sorted({*(row for part in parts for row in part), *(probe.scene for probe in probes)})
    names = [data.test_names[row] for row in used]
    moved = [replace(probe, scene=used.index(probe.scene)) for probe in probes]
    found = find([data.test[row] for row in used], names, moved)
    paths = {data.test_names[row]: data.test[row].path for row in used}
    queries, lists = [], []
    for row, probe, part, feature in zip(rows, probes, parts, found.probes, strict=True):
        gallery = {data.test_names[scene]: galleries.targets[row][data.test_names[scene]] for scene in part}
        showing = sum(box is not None for box in gallery.values())
        lines = (f"in {len(gallery)} scenes,", f"{showing} of them", "with the person")
        queries.append(Place(data.test[probe.scene].path, probe.box, lines))
        hits = ranked_hits(feature.numpy(), gallery, found.detections, top=TOP)
        lists.append([_place(hit, paths) for hit in hits])
    return SearchResults(
        queries,
        lists,
        TOP,
        root=data.root,
        alt=f"{len(queries)} queries spread evenly over all (not picked), each searched in up to {SCENES} scenes of "
        f"its gallery, up to {SHOWING} of which show the person. That is an easier task than the one that is scored.",
    )


def some_scenes(targets: Targets) -> list[int]:
    """At most :data:`SCENES` rows of the test scenes, :data:`SHOWING` at most with the person; spread evenly."""
    shown = np.array([box is not None for _, box in targets.items()], dtype=bool)
    with_person = even(targets.rows[shown], SHOWING)
    return sorted(with_person + even(targets.rows[~shown], SCENES - len(with_person)))


def _place(hit: Hit, paths: Mapping[str, Path]) -> Place:
    lines = (f"similarity {hit.similarity:.3f}", f"detection {hit.score:.2f}")
    return Place(paths[hit.scene], hit.box, lines, hit.right)


def even(rows: NDArray[np.integer], count: int) -> list[int]:
    """At most ``count`` of ``rows``, spread evenly."""
    if len(rows) <= count:
        return [int(row) for row in rows]
    return [int(rows[place]) for place in np.linspace(0, len(rows) - 1, count).astype(np.int64)]

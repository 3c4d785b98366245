"""The pictures of a run that searches scenes: a search result, and its persons in feature space (Fig. 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reseen.data import Targets, open_galleries
from reseen.evaluation.search import FoundScenes, Step, find_persons
from reseen.evaluation.search_lists import Finder, Hit, ranked_hits
from reseen.inference import PersonSearcher
from reseen.records import UNLABELLED, Probe, Scene, SearchData
from reseen.reports.canvas import save_figure
from reseen.reports.search_figures import Place, search_results
from reseen.reports.tsne import tsne
from reseen.training import LAST, START, load_searcher

QUERIES, TOP = 4, 4  # rows and columns of the search result
SCENES, SHOWING = (
    25,
    10,
)  # of a query's gallery that are searched for the picture, and of these with the person
TSNE_PEOPLE, TSNE_BOXES = 10, 60  # identities (Fig. 6), and boxes of each at most


def search_pictures(run: Path, data: SearchData, *, step: Step | None = None) -> None:
    """The search result, where there are queries, and the t-SNE, where training identities are known."""
    start, _ = load_searcher(run / "checkpoint" / START)
    last, checkpoint = load_searcher(run / "checkpoint" / LAST)
    config = checkpoint.config

    def find(scenes: Sequence[Scene], names: Sequence[str], probes: Sequence[Probe]) -> FoundScenes:
        return find_persons(last, scenes, names, config, probes=probes, step=step)

    result_picture(run, data, find)
    models = {"before training": start, "after training": last}
    searchers = {name: PersonSearcher(network, config) for name, network in models.items()}
    tsne_picture(run, data, searchers, seed=config.seed, step=step)


def result_picture(run: Path, data: SearchData, find: Finder) -> None:
    """RUN/report/search-result.png: a few queries, each searched in a part of its gallery; nothing without queries."""
    if not data.test or not data.probes:
        return
    galleries = open_galleries(data)
    rows = _even(np.arange(len(galleries.probes)), QUERIES)
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
    save_figure(
        search_results(queries, lists, top=TOP),
        run / "report" / "search-result.png",
        title="Search result",
        alt=f"{len(queries)} queries spread evenly over all (not picked), each searched in up to {SCENES} scenes of "
        f"its gallery, up to {SHOWING} of which show the person. That is an easier task than the one that is scored.",
    )


def some_scenes(targets: Targets) -> list[int]:
    """At most :data:`SCENES` rows of the test scenes, :data:`SHOWING` at most with the person; spread evenly."""
    shown = np.array([box is not None for _, box in targets.items()], dtype=bool)
    with_person = _even(targets.rows[shown], SHOWING)
    return sorted(with_person + _even(targets.rows[~shown], SCENES - len(with_person)))


def tsne_picture(
    run: Path,
    data: SearchData,
    models: Mapping[str, PersonSearcher],
    *,
    seed: int,
    step: Step | None = None,
) -> Path | None:
    """RUN/report/tsne.png: boxes of training scenes of the persons who have most of them, under each model.

    Identities choose and colour the points and do nothing else. None, and nothing is drawn, where they are not known.
    """
    if data.train_identities is None:
        return None
    counts = Counter(person for labels in data.train_identities for person in labels.tolist())
    del counts[UNLABELLED]
    people = sorted(counts, key=lambda person: (-counts[person], person))[:TSNE_PEOPLE]
    places = np.array(
        [
            (scene, row, person)
            for scene, labels in enumerate(data.train_identities)
            for row, person in enumerate(labels.tolist())
            if person in people
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    places = places[
        sorted(row for person in people for row in _even(np.flatnonzero(places[:, 2] == person), TSNE_BOXES))
    ]
    if len(places) < 5:
        return None
    return save_figure(
        tsne(
            {
                name: embed_boxes(searcher, data.train, places[:, :2], partial(_told, step))
                for name, searcher in models.items()
            },
            places[:, 2],
            seed=seed,
        ),
        run / "report" / "tsne.png",
        title="Persons of training scenes in feature space (t-SNE)",
        alt=f"{len(places)} boxes of the {len(people)} persons who have most of them in the training scenes, under "
        "each model, coloured by identity (Fig. 6); identities choose and colour the points and do nothing else.",
    )


def embed_boxes(
    searcher: PersonSearcher,
    scenes: Sequence[Scene],
    places: NDArray[np.int64],
    told: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Features ``[n, D]`` of annotated boxes, by rows (scene, box in it) ``[n, 2]`` in the order of the scenes."""
    parts = []
    numbers = np.unique(places[:, 0]).tolist()
    for done, scene in enumerate(numbers, start=1):
        own = places[places[:, 0] == scene, 1]
        parts.append(searcher.embed(scenes[scene].path, scenes[scene].boxes[own]))
        told(done, len(numbers))
    return np.concatenate(parts)


def _told(step: Step | None, done: int, total: int) -> None:
    if step is not None:
        step("embed persons", done, total)


def _place(hit: Hit, paths: Mapping[str, Path]) -> Place:
    lines = (f"similarity {hit.similarity:.3f}", f"detection {hit.score:.2f}")
    return Place(paths[hit.scene], hit.box, lines, hit.right)


def _even(rows: NDArray[np.integer], count: int) -> list[int]:
    """At most ``count`` of ``rows``, spread evenly."""
    if len(rows) <= count:
        return [int(row) for row in rows]
    return [int(rows[place]) for place in np.linspace(0, len(rows) - 1, count).astype(np.int64)]

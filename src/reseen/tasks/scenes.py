"""Whole scenes with person boxes: one network that finds persons and tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.config import Config
from reseen.data.galleries import DEFAULT_SIZE
from reseen.distributed import ALONE, Ranks
from reseen.errors import ReseenError
from reseen.evaluation.encoders import Keep
from reseen.evaluation.lists import Lists, answered_lists, open_lists
from reseen.evaluation.protocol import REASONS, NothingToScoreError, in_words
from reseen.evaluation.search import (
    Finder,
    FoundScenes,
    evaluate_searcher,
    find_persons,
    open_search_test,
    require_queries,
    search_record,
)
from reseen.inference import PersonSearcher, load_searcher
from reseen.methods import get_method
from reseen.progress import Progress
from reseen.records import UNLABELLED, Labels, Probe, Scene, SearchData
from reseen.tasks.configure import configuration, trained
from reseen.tasks.opening import open_scenes
from reseen.tasks.pictures import FeatureMap, Picture
from reseen.tasks.search_results import even, search_results
from reseen.tasks.task import Scored, Scoring, Task
from reseen.tasks.usable import usable_scenes
from reseen.tasks.watched import Watch, watcher
from reseen.training import LAST, START, Method, Run, fit
from reseen.training.run_folder import chosen_file, keep_per_query

TSNE_PEOPLE, TSNE_BOXES = 10, 60  # identities (Fig. 6), and boxes of each at most


def train(
    config: Config,
    scenes: SearchData,
    run_dir: Path,
    resume: bool,
    ranks: Ranks = ALONE,
) -> Run:
    """One run on scenes that are already :func:`usable_scenes`, in each of the processes ``ranks``.

    Raises:
        ReseenError: fewer than two persons to tell apart, or see :func:`reseen.training.fit`.
    """
    if config.weights == "none" and config.search.freeze:
        raise ReseenError(
            "search.freeze=true keeps pretrained layers as they are, and --weights none has none to keep: "
            "set search.freeze=false, or give weights"
        )
    if scenes.train_boxes < 2:
        raise ReseenError(
            f"{scenes.root} has {scenes.train_boxes} persons to train on: give scenes with more boxes"
        )
    with Progress(quiet=not ranks.first) as progress:
        return fit(
            config,
            scenes.train,
            get_method(config.method),
            folder=run_dir,
            root=scenes.root,
            resume=resume,
            watch=scene_watcher(config, scenes, keep_per_query(run_dir), scored=foreseen(scenes, progress)),
            step=progress.step,
            say=progress.say,
            ranks=ranks,
        )


def foreseen(scenes: SearchData, progress: Progress) -> bool:
    """Whether there is something to score; what of it cannot be scored is said before anything is trained."""
    if not scenes.test or not scenes.probes:
        return False
    try:
        test = open_search_test(scenes)
    except NothingToScoreError as error:
        progress.say(f"no scores during training: {error}")
        return False
    if test.record["scored"] < test.record["queries"]:
        progress.say(f"test part of {scenes.name}: will be {in_words(test.record)}")
    return True


def scene_watcher(
    config: Config, scenes: SearchData, keep: Keep | None = None, *, scored: bool = True
) -> Watch:
    """Diagnostics of a run on scenes, and test scores where it is ``scored``: each query's are given to ``keep``."""
    identities: Labels | None = None
    if scenes.train_identities is not None and config.search.cluster:
        identities = np.concatenate(scenes.train_identities)
    return watcher(identities, partial(_score_epoch, scenes if scored else None, keep))


def _score_epoch(
    scenes: SearchData | None, keep: Keep | None, run: Run, method: Method[Any, Any]
) -> dict[str, Any] | None:
    """Test scores after an epoch, by the first of several processes."""
    if scenes is None or not run.ranks.first:
        return None
    network = method.deployed(run.networks)
    return evaluate_searcher(network, scenes, run.config, step=run.step, keep=keep)


def score(source: Path, scenes: SearchData, how: Scoring, progress: Progress) -> list[Scored]:
    """Score a run folder or a checkpoint file on the test scenes: features are computed once for all gallery sizes."""
    find, about = _finder(source, how, progress)
    return score_found(scenes, find, how, {"data": scenes.name, **about}, progress)


def score_found(
    scenes: SearchData, find: Finder, how: Scoring, about: Mapping[str, Any], progress: Progress
) -> list[Scored]:
    """Scores of what ``find`` finds in the test scenes, and for the first gallery size its lists."""
    sizes = gallery_sizes(scenes, how.gallery_sizes)
    asked = sizes or (None,)
    tests = {size: open_search_test(scenes, size) for size in asked}  # before hours of searching
    found = find(scenes.test, scenes.test_names, scenes.probes)
    kept: list[NDArray[np.float64]] = []
    record = search_record(found, scenes, sizes=asked, tests=tests, step=progress.step, keep=kept.append)
    lists = answered_lists(scenes, found, tests[asked[0]])
    return [replace(scenes_scored(record, kept[0], sizes, about), lists=lists)]


def rank(
    source: Path, scenes: SearchData, asked: SearchData | None, how: Scoring, progress: Progress
) -> Lists:
    """See :func:`reseen.evaluation.lists.open_lists`."""
    return open_lists(scenes, asked, _finder(source, how, progress)[0])


def _finder(source: Path, how: Scoring, progress: Progress) -> tuple[Finder, dict[str, Any]]:
    """What finds persons by a run folder or a checkpoint file, and what result files say of it."""
    network, checkpoint = load_searcher(chosen_file(source, how.epoch))
    config = checkpoint.config
    if how.paths is not None:
        config = replace(config, search=replace(config.search, paths_at_test=how.paths))

    def find(some: Sequence[Scene], names: Sequence[str], probes: Sequence[Probe]) -> FoundScenes:
        return find_persons(network, some, names, config, probes=probes, step=progress.step)

    about = {"epoch": checkpoint.state["epoch"], "chosen": how.epoch}
    return find, about | {"paths": config.search.paths_at_test}


def gallery_sizes(scenes: SearchData, asked: Sequence[int]) -> tuple[int, ...]:
    """The gallery sizes to score: those asked for, or the usual one; empty where the data has one gallery.

    Raises:
        ReseenError: no test scenes with queries, or no gallery of such a size.
    """
    require_queries(scenes)
    there = scenes.gallery_sizes
    for size in asked:
        if size not in there:
            hint = f"give {', '.join(map(str, there))}" if there else "it has one gallery"
            raise ReseenError(f"{scenes.name} has no gallery of {size} images: {hint}")
    usual = () if not there else (DEFAULT_SIZE if DEFAULT_SIZE in there else max(there),)
    return tuple(asked) or usual


def check_test(scenes: SearchData, how: Scoring) -> None:
    """Raises ReseenError as :func:`gallery_sizes` does, and where no query can be scored."""
    open_search_test(scenes, next(iter(gallery_sizes(scenes, how.gallery_sizes)), None))


def scenes_scored(
    record: dict[str, Any],
    average_precision: NDArray[np.float64],
    sizes: Sequence[int],
    about: Mapping[str, Any],
) -> Scored:
    """A record of :func:`reseen.evaluation.search.search_record` for people and for evaluations.jsonl."""
    lines = [f"left out: {line}" for line in record.get("left_out", ())]
    galleries = record.get("galleries") or {"all" if not sizes else str(sizes[0]): record}
    persons = {name: record[name] for name in ("detection_ap", "detection_recall")}
    log = []
    for size, scores in galleries.items():
        name = about["data"] if size == "all" else f"{about['data']}, gallery of {size}"
        kept = {key: scores[key] for key in scores if key == "mean_ap" or key.startswith("top")}
        tops = "  ".join(f"top-{key[3:]} {value:.1%}" for key, value in kept.items() if key != "mean_ap")
        counts = {key: scores[key] for key in ("queries", "scored", *REASONS) if key in scores}
        lines.append(f"{name}: mAP {kept['mean_ap']:.1%}  {tops}  ({in_words(counts)})")
        log.append({**about, "gallery": size, **counts, **kept, **persons})
    lines.append(f"persons found: AP {persons['detection_ap']:.1%}  recall {persons['detection_recall']:.1%}")
    return Scored(record, record, average_precision, tuple(lines), tuple(log))


def pictures(run_dir: Path, scenes: SearchData, progress: Progress) -> list[Picture]:
    """A search result, where there are queries, and t-SNE, where training identities are known."""
    start, _ = load_searcher(run_dir / "checkpoint" / START)
    last, checkpoint = load_searcher(run_dir / "checkpoint" / LAST)
    config = checkpoint.config

    def find(some: Sequence[Scene], names: Sequence[str], probes: Sequence[Probe]) -> FoundScenes:
        return find_persons(last, some, names, config, probes=probes, step=progress.step)

    searchers = {"before training": start, "after training": last}
    models = {name: PersonSearcher(network, config) for name, network in searchers.items()}
    found: list[Picture | None] = [
        search_results(scenes, find),
        feature_map(scenes, models, config.seed, progress),
    ]
    return [picture for picture in found if picture is not None]


def feature_map(
    scenes: SearchData, models: Mapping[str, PersonSearcher], seed: int, progress: Progress
) -> FeatureMap | None:
    """Boxes of training scenes of the persons who have most of them, under each model.

    Identities choose and colour the points and do nothing else. None where they are not known.
    """
    if scenes.train_identities is None:
        return None
    counts = Counter(person for labels in scenes.train_identities for person in labels.tolist())
    del counts[UNLABELLED]
    people = sorted(counts, key=lambda person: (-counts[person], person))[:TSNE_PEOPLE]
    places = np.array(
        [
            (scene, row, person)
            for scene, labels in enumerate(scenes.train_identities)
            for row, person in enumerate(labels.tolist())
            if person in people
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    places = places[
        sorted(row for person in people for row in even(np.flatnonzero(places[:, 2] == person), TSNE_BOXES))
    ]
    if len(places) < 5:
        return None
    return FeatureMap(
        {name: _embed_boxes(searcher, scenes.train, places, progress) for name, searcher in models.items()},
        places[:, 2],
        seed,
        title="Persons of training scenes in feature space (t-SNE)",
        alt=f"{len(places)} boxes of the {len(people)} persons who have most of them in the training scenes, under "
        "each model, coloured by identity (Fig. 6); identities choose and colour the points and do nothing else.",
    )


def _embed_boxes(
    searcher: PersonSearcher, scenes: Sequence[Scene], places: NDArray[np.int64], progress: Progress
) -> NDArray[np.float32]:
    """Features ``[n, D]`` of annotated boxes, by rows (scene, box in it, ...) ``[n, 2 or more]``, scene by scene."""
    parts = []
    numbers = np.unique(places[:, 0]).tolist()
    for done, scene in enumerate(numbers, start=1):
        boxes = places[places[:, 0] == scene, 1]
        parts.append(searcher.embed(scenes[scene].path, scenes[scene].boxes[boxes]))
        progress.step("embed persons", done, len(numbers))
    return np.concatenate(parts)


SCENES: Task[Config, SearchData] = Task(
    name="scenes",
    methods=("r-siamnet",),
    options=frozenset({"also", "share", "gallery_size", "paths"}),
    configure=configuration,
    open=open_scenes,
    usable=usable_scenes,
    steps=lambda config: (config,),
    begin=lambda config, weights: replace(config, weights=weights[0]),
    train=train,
    tested=lambda scenes: bool(scenes.test and scenes.probes),
    check_test=check_test,
    score=score,
    rank=rank,
    trained=trained,
    pictures=pictures,
)

"""Crops of persons: one network, or two, that tell persons apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reseen.config import Config
from reseen.distributed import ALONE, Ranks
from reseen.errors import ReseenError
from reseen.evaluation import (
    ReidTest,
    embed_crops,
    evaluate_features,
    evaluate_reranked,
    open_test,
    ranked_lists,
)
from reseen.evaluation.encoders import Keep, as_record, sees_grey
from reseen.evaluation.lists import Lists, crop_lists, nameless
from reseen.evaluation.protocol import (
    NothingToScoreError,
    in_words,
    own_pictures,
    pairs_of_one,
    without_cameras,
)
from reseen.inference import Embedder, load_encoder
from reseen.methods import get_method
from reseen.methods.common import embed_clean
from reseen.metrics import ReidScores
from reseen.models import Encoder, resolve_device
from reseen.progress import Progress
from reseen.records import UNKNOWN_CAMERA, Crop, LabelledCrops, ReidData
from reseen.tasks.calibrated import calibrate, sure_of
from reseen.tasks.configure import configuration, trained
from reseen.tasks.opening import open_crops
from reseen.tasks.pictures import FeatureMap, Picture, RankedLists, Views
from reseen.tasks.task import Scored, Scoring, Task
from reseen.tasks.usable import usable
from reseen.tasks.watched import watcher
from reseen.training import LAST, START, Method, Run, fit
from reseen.training.fit import deployed_name
from reseen.training.run_folder import chosen_file, keep_per_query
from reseen.training.settle import settled

QUERIES, TOP = 4, 10  # of the ranked-list picture
GALLERY = 4_000  # images at most behind it: the picture is an illustration, the scores are in the table
TSNE_IMAGES, TSNE_PEOPLE = 1000, 60  # Fig. 6
PANEL = 6  # people of the augmentation panel


def train(
    config: Config,
    images: ReidData,
    run_dir: Path,
    resume: bool,
    ranks: Ranks = ALONE,
) -> Run:
    """One run on data that is already read and :func:`usable`, in each of the processes ``ranks``.

    Raises:
        ReseenError: too few images, or see :func:`reseen.training.fit`.
    """
    count = len(images.train)
    k1 = settled(config, count).cluster.k1  # also where the number of images decides
    if count < config.train.instances:
        raise ReseenError(f"{images.root} holds {count} usable images: training needs more")
    # else every image would be a neighbour of every other, and all one cluster
    if config.cluster.enabled and count <= k1:
        raise ReseenError(
            f"{images.root} holds {count} usable images, no more than cluster.k1 = {k1} neighbours: "
            "lower cluster.k1 and cluster.k2 (--set), or give more images"
        )
    watch = watcher(
        images.train_identities if config.cluster.enabled else None,
        partial(_score_epoch, foreseen(images, ranks), keep_per_query(run_dir)),
    )
    with Progress(quiet=not ranks.first) as progress:
        cameras = {crop.camera for crop in images.train}
        if len(cameras) == 1 and cameras != {UNKNOWN_CAMERA}:
            progress.say("all images are of one camera: nothing here teaches or tests other cameras")
        return fit(
            config,
            images.train,
            get_method(config.method),
            folder=run_dir,
            root=images.root,
            resume=resume,
            watch=watch,
            step=progress.step,
            say=progress.say,
            ranks=ranks,
        )


def foreseen(images: ReidData, ranks: Ranks = ALONE) -> ReidTest | None:
    """The test part, where there is one; what of it cannot be scored is said before anything is trained."""
    if not images.query or not images.gallery:  # none, or none of them usable
        return None
    with Progress(quiet=not ranks.first) as progress:
        try:
            test = open_test(images)
        except NothingToScoreError as error:
            progress.say(f"no scores during training: {error}")
            return None
        if test.coverage.scored < test.coverage.queries or test.coverage.unknown_camera:
            progress.say(f"test part of {test.name}: will be {in_words(test.record)}")
    return test


def _score_epoch(
    test: ReidTest | None, keep: Keep, run: Run, method: Method[Any, Any]
) -> dict[str, Any] | None:
    """Test scores after an epoch; several processes share the embedding, only the first scores."""
    if test is None:
        return None
    encoder = method.deployed(run.networks)
    grey = sees_grey(run.config, deployed_name(run, method))
    query, gallery = (
        embed_clean(run, encoder, part.crops, grey=grey, stage=f"embed {name}").cpu()
        for name, part in (("query", test.query), ("gallery", test.gallery))
    )
    if not run.ranks.first:
        return None
    scores = evaluate_features(query, gallery, test.query, test.gallery, same_pictures=test.same_pictures)
    keep(scores.average_precision)
    return as_record(scores) | test.record


def score(source: Path, images: ReidData, how: Scoring, progress: Progress) -> list[Scored]:
    """Score a run folder or a checkpoint file on the test split, by ``how.protocol``.

    Two with ``how.rerank``: before and after re-ranking.
    """
    test = open_test(images, how.protocol)
    query, gallery = test.query, test.gallery
    model, embed, about = _embedding(source, how, progress)
    asked, found = (embed(part.crops, name) for name, part in (("query", query), ("gallery", gallery)))
    about = {"data": images.name, **about}
    own = {"same_pictures": test.same_pictures}
    scores = evaluate_features(asked, found, query, gallery, **own)
    scored = [reid_scored(images.name, scores, test, about | {"rerank": False})]
    sure = sure_of(source, model, (asked, found), query, gallery, test.same_pictures)
    lists = crop_lists(asked, found, query, gallery, test.same_pictures, sure=sure)
    scored[0] = replace(scored[0], lists=lists)
    if how.rerank:
        scores = evaluate_reranked(asked, found, query, gallery, device=resolve_device("auto"), **own)
        scored.append(reid_scored(f"{images.name}, re-ranked", scores, test, about | {"rerank": True}))
    return scored


def rank(source: Path, images: ReidData, asked: ReidData | None, how: Scoring, progress: Progress) -> Lists:
    """What is found for each image of ``asked`` in the gallery of ``images``, or where it has none among all of them;
    None: for each image itself, in the others. Who is right is known where all training images are labelled."""
    gallery = images.gallery or nameless(images.train)
    query, judged = gallery, False
    if asked is not None:
        test = [part.crops for part in (asked.query, asked.gallery) if part]
        query = nameless(tuple(crop for part in (asked.train, *test) for crop in part))
    elif not images.gallery and images.train_identities is not None and (images.train_identities > 0).all():
        query = gallery = LabelledCrops(gallery.crops, images.train_identities)
        judged = True
    model, embed, _ = _embedding(source, how, progress)
    found = embed(gallery.crops, "gallery")
    features = found if query is gallery else embed(query.crops, "query")
    pairs = pairs_of_one([crop.path for crop in query.crops], [crop.path for crop in gallery.crops])
    sure = sure_of(source, model, (features, found), query, gallery, pairs)
    query, gallery = without_cameras(query), without_cameras(gallery)
    return crop_lists(features, found, query, gallery, pairs, sure=sure, judged=judged)


def _embedding(
    source: Path, how: Scoring, progress: Progress
) -> tuple[Embedder, Callable[[tuple[Crop, ...], str], Tensor], dict[str, Any]]:
    """The model of a run folder or checkpoint, what embeds crops (of a part that it names) by it, and what result files
    say of it."""
    encoder, checkpoint = load_encoder(chosen_file(source, how.epoch), branch=how.branch)
    config, branch = checkpoint.config, how.branch or checkpoint.state["deployed"]
    grey = sees_grey(config, branch) if how.view is None else how.view == "grey"

    def embed(crops: tuple[Crop, ...], name: str) -> Tensor:
        counted = progress.counted(f"embed {name}", len(crops))
        return embed_crops(encoder, crops, config, grey=grey, progress=counted)

    about = {"epoch": checkpoint.state["epoch"], "chosen": how.epoch, "branch": branch}
    return Embedder(encoder, config, grey=grey), embed, about | {"view": "grey" if grey else "colour"}


def reid_scored(title: str, scores: ReidScores, test: ReidTest, about: dict[str, Any]) -> Scored:
    record = as_record(scores) | test.record
    line = reid_line(title, scores, test)
    return Scored(record, scores, scores.average_precision, (line,), (about | record,))


def reid_line(title: str, scores: ReidScores, test: ReidTest) -> str:
    """Scores for people, with the protocol and the queries that they speak of."""
    ranks = "  ".join(f"rank-{rank} {value:.1%}" for rank, value in scores.cmc.items())
    return f"{title}: mAP {scores.mean_ap:.1%}  {ranks}  ({test.words})"


def pictures(run_dir: Path, images: ReidData, progress: Progress) -> list[Picture]:
    """Ranked lists before and after training, the augmented views, and t-SNE where identities are known."""
    start, _ = load_encoder(run_dir / "checkpoint" / START)
    last, checkpoint = load_encoder(run_dir / "checkpoint" / LAST)
    config, models = checkpoint.config, {"before training": start, "after training": last}
    grey = sees_grey(config, checkpoint.state["deployed"])
    found: list[Picture | None] = [
        _ranked(images, models, config, grey=grey),
        views(images, config) if images.train else None,
        feature_map(images, models, config, grey=grey),
    ]
    return [picture for picture in found if picture is not None]


def _ranked(
    images: ReidData, models: dict[str, Encoder], config: Config, *, grey: bool
) -> RankedLists | None:
    """Ranked lists of a few queries, spread evenly over the query set rather than picked."""
    if images.query is None or images.gallery is None:
        return None
    rows = np.linspace(0, len(images.query) - 1, QUERIES).astype(np.int64)
    query = LabelledCrops(tuple(images.query.crops[i] for i in rows), images.query.identities[rows])
    gallery = _some_gallery(images.gallery, query)
    own = own_pictures(images, query, gallery)
    lists = {
        name: ranked_lists(
            embed_crops(encoder, query.crops, config, grey=grey),
            embed_crops(encoder, gallery.crops, config, grey=grey),
            query,
            gallery,
            top=TOP,
            same_pictures=own,
        )
        for name, encoder in models.items()
    }
    shown = [(i, crop, name) for i, crop in enumerate(query.crops) for name in lists]
    size = f"all {len(gallery)}" if len(gallery) == len(images.gallery) else f"{len(gallery)} sampled"
    return RankedLists(
        queries=[crop.path for _, crop, _ in shown],
        answers=[[gallery.crops[j].path for j in lists[name].rows[i] if j >= 0] for i, _, name in shown],
        correct=[
            [bool(hit) for j, hit in zip(lists[name].rows[i], lists[name].correct[i], strict=True) if j >= 0]
            for i, _, name in shown
        ],
        titles=[name for _, _, name in shown],
        root=images.root,
        alt=f"{QUERIES} queries spread evenly over the query set (not picked), against {size} gallery images; "
        "images of the query's person by the query's own camera are left out, as in the protocol.",
    )


def _some_gallery(gallery: LabelledCrops, query: LabelledCrops) -> LabelledCrops:
    """The whole gallery, or every image of the queries' people among an even sample of the rest."""
    if len(gallery) <= GALLERY:
        return gallery
    same_people = np.isin(gallery.identities, query.identities)
    rest = np.flatnonzero(~same_people)
    sample = rest[np.linspace(0, len(rest) - 1, GALLERY - int(same_people.sum())).astype(np.int64)]
    rows = np.sort(np.concatenate([np.flatnonzero(same_people), sample]))
    return LabelledCrops(tuple(gallery.crops[i] for i in rows), gallery.identities[rows])


def views(images: ReidData, config: Config) -> Views:
    """What training sees of a few images, spread evenly over the training set."""
    rows = np.linspace(0, len(images.train) - 1, min(PANEL, len(images.train))).astype(np.int64)
    return Views(
        [images.train[i].path for i in rows],
        config.data,
        config.seed,
        alt="Raw image, first view T, second view T', the same in grey and with colour jitter (Fig. 2 and 4).",
    )


def feature_map(
    images: ReidData, models: dict[str, Encoder], config: Config, *, grey: bool
) -> FeatureMap | None:
    """Fig. 6: the same training images under each model; None where identities, which colour them, are not known."""
    if images.train_identities is None:
        return None
    people = np.unique(images.train_identities)[:TSNE_PEOPLE]
    rows = np.flatnonzero(np.isin(images.train_identities, people))[:TSNE_IMAGES]
    crops = tuple(images.train[i] for i in rows)
    identities = images.train_identities[rows]
    return FeatureMap(
        {name: embed_crops(encoder, crops, config, grey=grey).numpy() for name, encoder in models.items()},
        identities,
        config.seed,
        title="Training images in feature space (t-SNE)",
        alt=f"{len(rows)} training images of {len(np.unique(identities))} people under each "
        "model, coloured by identity (Fig. 6), and enlarged the neighbourhood of the person on whom the models differ "
        "most; identities colour the points and choose that person, and do nothing else.",
        paths=[crop.path for crop in crops],
    )


CROPS: Task[Config, ReidData] = Task(
    name="crops",
    methods=("cacl", "cscl", "spcl", "cluster-contrast"),  # each is also the name of its recipe
    options=frozenset(
        {"camera_pattern", "identity_pattern", "test_on", "branch", "view", "rerank", "protocol"}
    ),
    configure=configuration,
    open=open_crops,
    usable=usable,
    steps=lambda config: (config,),
    begin=lambda config, weights: replace(config, weights=weights[0]),
    train=train,
    tested=lambda images: images.query is not None and images.gallery is not None,
    check_test=lambda images, how: open_test(images, how.protocol),
    score=score,
    rank=rank,
    trained=trained,
    pictures=pictures,
    calibrate=calibrate,
)

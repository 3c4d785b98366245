"""``reseen report``: the pictures of a run that need its images, then the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from reseen.config import Config
from reseen.evaluation import embed_crops, ranked_lists, sees_grey
from reseen.evaluation.search import Step
from reseen.models import Encoder
from reseen.progress import Progress
from reseen.records import LabelledCrops, ReidData, SearchData
from reseen.reports import figures
from reseen.reports.canvas import save_figure
from reseen.reports.run import run_report
from reseen.reports.scenes import result_picture, search_pictures
from reseen.reports.tsne import tsne
from reseen.reports.two_step import two_step_report
from reseen.tasks.configure import SCENES
from reseen.tasks.opening import open_crops, open_scenes
from reseen.tasks.two_step.config import is_two_step, read_two_step
from reseen.tasks.two_step.search import two_step_finder
from reseen.tasks.usable import usable, usable_scenes
from reseen.training import LAST, START, load_encoder, trained_config
from reseen.training.run_folder import read_config

QUERIES = 4  # rows of the ranked-list picture
GALLERY = 4_000  # images at most behind it: the picture is an illustration, the scores are in the table
TSNE_IMAGES, TSNE_PEOPLE = 1000, 60  # Fig. 6
PANEL = 6  # people of the augmentation panel


def report(
    run: Path, *, data: Path | None = None, images: ReidData | None = None, scenes: SearchData | None = None
) -> Path:
    """Write RUN/report/index.html; with the data also the pictures that show them.

    Crops: ranked lists, augmentation panel, t-SNE. Scenes: a search result, t-SNE.

    Args:
        data: the data set; ``images`` or ``scenes``: the same, already read and usable.
    """
    if is_two_step(run):
        bad = read_two_step(run).detector.data.max_bad_share
        _search(run, data, scenes, bad, partial(_in_two_steps, run))
        page = two_step_report(run)
    elif read_config(run).get("method") in SCENES:
        _search(run, data, scenes, trained_config(run).data.max_bad_share, partial(search_pictures, run))
        page = run_report(run)
    else:
        _crops(run, data, images)
        page = run_report(run)
    print(f"report: {page}")
    return page


def _search(
    run: Path, data: Path | None, scenes: SearchData | None, max_bad_share: float, draw: Callable[..., None]
) -> None:
    """The pictures of a run on scenes, by ``draw(scenes, step=...)``."""
    with Progress() as progress:
        if scenes is None and data is not None:
            opened = open_scenes(data, str(run))
            scenes = usable_scenes(opened, max_bad_share=max_bad_share, progress=progress)
        if scenes is not None:
            draw(scenes, step=progress.step)


def _in_two_steps(run: Path, scenes: SearchData, *, step: Step) -> None:
    result_picture(run, scenes, two_step_finder(run, step=step)[1])


def _crops(run: Path, data: Path | None, images: ReidData | None) -> None:
    opened = open_crops(data, str(run)) if images is None and data is not None else images
    if opened is None:
        return
    start, _ = load_encoder(run / "checkpoint" / START)
    last, checkpoint = load_encoder(run / "checkpoint" / LAST)
    config, models = checkpoint.config, {"before training": start, "after training": last}
    if images is None:
        with Progress() as progress:
            images = usable(opened, max_bad_share=config.data.max_bad_share, progress=progress)
    grey = sees_grey(config, checkpoint.state["deployed"])
    _ranked(run, images, models, config, grey=grey)
    if images.train:
        panel(run, images, config)
    crops_tsne(run, images, models, config, grey=grey)


def _ranked(run: Path, images: ReidData, models: dict[str, Encoder], config: Config, *, grey: bool) -> None:
    """Ranked lists of a few queries, spread evenly over the query set rather than picked."""
    if images.query is None or images.gallery is None:
        return
    rows = np.linspace(0, len(images.query) - 1, QUERIES).astype(np.int64)
    query = LabelledCrops(tuple(images.query.crops[i] for i in rows), images.query.identities[rows])
    gallery = _some_gallery(images.gallery, query)
    paths, ranked, correct, titles = [], [], [], []
    lists = {
        name: ranked_lists(
            embed_crops(encoder, query.crops, config, grey=grey),
            embed_crops(encoder, gallery.crops, config, grey=grey),
            query,
            gallery,
            top=10,
        )
        for name, encoder in models.items()
    }
    for i, crop in enumerate(query.crops):
        for name, found in lists.items():
            paths.append(crop.path)
            ranked.append([gallery.crops[j].path for j in found.rows[i] if j >= 0])
            correct.append([bool(hit) for hit in found.correct[i]])
            titles.append(name)
    size = f"all {len(gallery)}" if len(gallery) == len(images.gallery) else f"{len(gallery)} sampled"
    save_figure(
        figures.ranked_lists(paths, ranked, correct, titles=titles),
        run / "report" / "ranked-lists.png",
        title="Ranked lists",
        alt=f"{QUERIES} queries spread evenly over the query set (not picked), against {size} gallery images; "
        "images of the query's person by the query's own camera are left out, as in the protocol.",
    )


def _some_gallery(gallery: LabelledCrops, query: LabelledCrops) -> LabelledCrops:
    """The whole gallery, or every image of the queries' people among an even sample of the rest."""
    if len(gallery) <= GALLERY:
        return gallery
    wanted = np.isin(gallery.identities, query.identities)
    rest = np.flatnonzero(~wanted)
    sample = rest[np.linspace(0, len(rest) - 1, GALLERY - int(wanted.sum())).astype(np.int64)]
    rows = np.sort(np.concatenate([np.flatnonzero(wanted), sample]))
    return LabelledCrops(tuple(gallery.crops[i] for i in rows), gallery.identities[rows])


def panel(run: Path, images: ReidData, config: Config) -> Path:
    """RUN/report/augmentation.png: what training sees of a few images, spread evenly over the training set."""
    rows = np.linspace(0, len(images.train) - 1, min(PANEL, len(images.train))).astype(np.int64)
    return save_figure(
        figures.augmentation_panel([images.train[i].path for i in rows], config.data, seed=config.seed),
        run / "report" / "augmentation.png",
        title="What training sees",
        alt="Raw image, first view T, second view T', the same in grey and with colour jitter (Fig. 2 and 4).",
    )


def crops_tsne(
    run: Path, images: ReidData, models: Mapping[str, Encoder], config: Config, *, grey: bool
) -> Path | None:
    """RUN/report/tsne.png, Fig. 6: the same training images under each model; None where identities, which colour
    them, are not known."""
    if images.train_identities is None:
        return None
    people = np.unique(images.train_identities)[:TSNE_PEOPLE]
    rows = np.flatnonzero(np.isin(images.train_identities, people))[:TSNE_IMAGES]
    crops = tuple(images.train[i] for i in rows)
    return save_figure(
        tsne(
            {
                name: embed_crops(encoder, crops, config, grey=grey).numpy()
                for name, encoder in models.items()
            },
            images.train_identities[rows],
            paths=[crop.path for crop in crops],
            seed=config.seed,
        ),
        run / "report" / "tsne.png",
        title="Training images in feature space (t-SNE)",
        alt=f"{len(rows)} training images of {len(np.unique(images.train_identities[rows]))} people under each "
        "model, coloured by identity (Fig. 6), and enlarged the neighbourhood of the person on whom the models differ "
        "most; identities colour the points and choose that person, and do nothing else.",
    )

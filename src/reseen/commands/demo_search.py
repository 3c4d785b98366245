"""``reseen demo --search``: R-SiamNet from scratch on drawn scenes, beside everything that is simpler."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from reseen.commands.demo import BASELINE_NAMES, demo, refuse_another
from reseen.commands.report import report_on
from reseen.config import Config, resolve
from reseen.data import open_search_data
from reseen.evaluation import BASELINES
from reseen.evaluation.search import FoundScenes, Step, find_persons, search_record
from reseen.evaluation.search_baselines import given_record, true_boxes, true_crops
from reseen.inference import load_searcher
from reseen.methods import get_method
from reseen.models.search import SearchNetwork
from reseen.pages.tables import summary_table
from reseen.progress import Progress
from reseen.records import SearchData
from reseen.reports.run import save_comparison
from reseen.street import draw_scenes
from reseen.tasks.scenes import SCENES, scene_watcher
from reseen.training import LAST, START, Method, Run, fit

RECIPE = "street-search"
ALONE = "cluster-loss-alone"  # folder of the second training, inside of the run
WITHOUT_INSTANCE = ("search.self_instance=false", "search.inter_instance=false", "train.evaluate_every=0")
STREET: dict[str, Any] = {  # 60 strangers share 8 outfits: colour alone tells few of them apart
    "train_scenes": 160,
    "test_scenes": 80,
    "test_identities": 60,
    "persons": (3, 7),
}
TRUE, OWN = "true", "its own"


def demo_of_either(*, search: bool, run: Path | None, **given: Any) -> None:
    """The command: of person search, or of re-identification."""
    if search:
        demo_search(run=run or Path("runs/demo-search"), **given)
    else:
        demo(run=run or Path("runs/demo"), **given)


def demo_search(
    *,
    run: Path = Path("runs/demo-search"),
    seed: int = 3,
    resume: bool = False,
    street: dict[str, Any] = STREET,
    settings: Sequence[str] = (),
) -> list[dict[str, object]]:
    """Draw scenes, train R-SiamNet and the same network with L_clu alone; print one table with simpler ways beside.

    Each row searches the same test scenes; the last epoch is scored, detection AP after each epoch is told. It ends
    with the commands that open the page of a gallery on what was trained. RUN is R-SiamNet's run folder,
    RUN/cluster-loss-alone the other training's.

    Args:
        street: sizes for :func:`reseen.street.draw_scenes`; ``settings``: changes to the recipe. Both are for
            tests, the command has neither.

    Returns:
        The rows: name, boxes (``true`` or ``its own``), mean_ap, top1 and, with its own boxes, detection_ap.

    Raises:
        ReseenError: ``run`` already holds a demo, finished or begun, and ``resume`` is off.
    """
    started = time.perf_counter()
    config = resolve(RECIPE, None, [*settings, f"seed={seed}"])
    alone = resolve(RECIPE, None, [*settings, *WITHOUT_INSTANCE, f"seed={seed}"])
    if not resume:
        refuse_another(run, run, run / ALONE)
    torch.set_num_threads(1)  # the other core has the other training
    with Progress() as progress:
        scenes = draw_scenes(
            run / "street", seed=seed, progress=progress.counter("draw the street"), **street
        )
        progress.say(
            f"drawn street: {len(scenes.train)} scenes with {scenes.train_boxes} boxes that nobody named, "
            f"{len(scenes.test)} to search in -> {run / 'street'}"
        )
        progress.say(
            f"train R-SiamNet -> {run}; beside it the same network with L_clu alone -> {run / ALONE}"
        )
    # At the same time: two small networks, each on one core, are quicker than two cores on one small network.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        beside = pool.submit(_train, alone, scenes.root, run / ALONE, resume, quiet=True)
        _train(config, scenes.root, run, resume)
        beside.result()
    with Progress() as progress:
        rows = compare(scenes, {"L_clu alone": run / ALONE, "R-SiamNet": run}, step=progress.step)
    save_comparison(run, rows)
    report_on(run, SCENES, scenes)
    Console().print(summary_table(rows, caption=f"drawn scenes, seed {seed}, last epoch.").to_rich())
    print(f"{time.perf_counter() - started:.0f} s in all; one seed is an anecdote: docs/results.md has three")
    print("to search what it finds in its scenes, in a browser:\n  " + "\n  ".join(page_commands(run)))
    return rows


def page_commands(run: Path) -> list[str]:
    """What somebody types to have the drawn scenes in a gallery, searched by ``run``, and its page."""
    street, gallery = run / "street", run / "gallery"
    return [
        shlex.join(["reseen", "index", str(run), str(street), "--gallery", str(gallery)]),
        shlex.join(["reseen", "serve", str(gallery), "--images", str(street)]),
    ]


def compare(
    scenes: SearchData, runs: dict[str, Path], *, step: Step | None = None
) -> list[dict[str, object]]:
    """The same queries and test scenes for each feature, weakest idea first; ``runs``: name to run folder.

    True boxes are given to all; networks also search among the persons that they find themselves.
    """
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as folder:
        crops = true_crops(scenes, Path(folder))
        for key, name in BASELINE_NAMES.items():
            rows.append(_row(name, TRUE, given_record(scenes, BASELINES[key](crops))))
    files = {name: run / "checkpoint" / LAST for name, run in runs.items()}
    untrained = next(iter(runs.values())) / "checkpoint" / START
    for name, file in {"untrained network": untrained, **files}.items():
        network, checkpoint = load_searcher(file)
        given, found = _both_boxes(network, scenes, checkpoint.config, step)
        rows += [_row(name, TRUE, given), _row(name, OWN, found)]
    return rows


def _train(config: Config, street: Path, folder: Path, resume: bool, *, quiet: bool = False) -> None:
    """One training, on one thread; what each scored epoch finds in the test scenes is told before its line."""
    torch.set_num_threads(1)
    scenes = open_search_data(street)
    diagnose = scene_watcher(config, scenes)
    parent = multiprocessing.parent_process()
    with Progress(quiet=quiet) as progress:

        def step(stage: str, done: int, total: int, note: str = "") -> None:
            if parent is not None and not parent.is_alive():  # killed: nobody else would end this process
                os._exit(1)
            progress.step(stage, done, total, note)

        def watch(state: Run, method: Method[Any, Any]) -> dict[str, Any]:
            record = diagnose(state, method)
            if "test" in record:
                test = record["test"]
                progress.say(
                    f"  persons found after epoch {state.epoch}: AP {test['detection_ap']:.1%} "
                    f"recall {test['detection_recall']:.1%}"
                )
            return record

        fit(
            config,
            scenes.train,
            get_method(config.method),
            folder=folder,
            root=scenes.root,
            weights="none",
            resume=resume,
            watch=watch,
            step=step,
            say=progress.say,
        )


def _both_boxes(
    network: SearchNetwork, scenes: SearchData, config: Config, step: Step | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores among the true boxes and among the network's own, from one pass over the test scenes."""
    queries = len(scenes.probes)
    asked = (*scenes.probes, *true_boxes(scenes))
    found = find_persons(network, scenes.test, scenes.test_names, config, probes=asked, step=step)
    given = given_record(scenes, found.probes[queries:].numpy())
    return given, search_record(FoundScenes(found.detections, found.probes[:queries]), scenes)


def _row(name: str, boxes: str, record: dict[str, Any]) -> dict[str, object]:
    shown = ("mean_ap", "top1", "detection_ap")
    return {"name": name, "boxes": boxes} | {key: record[key] for key in shown if key in record}

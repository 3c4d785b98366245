"""``reseen evaluate`` for runs on scenes: the benchmark's galleries, with features that are computed once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from reseen.data.galleries import DEFAULT_SIZE
from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.evaluation.search import evaluate_searcher
from reseen.progress import Progress
from reseen.records import SearchData
from reseen.tasks.opening import chosen_file, open_scenes
from reseen.tasks.usable import usable_scenes
from reseen.training import load_searcher


def evaluate_search(
    run: Path,
    data: Path,
    *,
    epoch: str = "last",
    sizes: Sequence[int] = (),
    paths: Literal["search", "both"] | None = None,
) -> dict[str, Any]:
    """Score ``run`` on the test scenes of ``data``; prints the scores and adds a line each to RUN/evaluations.jsonl.

    Args:
        epoch: ``last``, ``best-on-test`` (chosen on the test set) or ``label-free``.
        sizes: of the gallery, for CUHK-SYSU (50 to 4,000); without any, the usual one.
        paths: ``search``, or ``both`` for features of the two paths joined (Table 5); None = as configured.

    Returns:
        The record of :func:`reseen.evaluation.search.search_record`.

    Raises:
        ReseenError: no such run, or ``data`` has no test scenes, no queries or no gallery of such a size.
    """
    source = chosen_file(run, epoch)
    network, checkpoint = load_searcher(source)
    config = checkpoint.config
    if paths is not None:
        config = replace(config, search=replace(config.search, paths_at_test=paths))
    scenes, sizes = scenes_to_score(data, f"{run} ({config.method})", sizes)
    with Progress() as progress:
        scenes = usable_scenes(scenes, max_bad_share=config.data.max_bad_share, progress=progress)
        record = evaluate_searcher(network, scenes, config, sizes=sizes or (None,), step=progress.step)
    about = {"data": scenes.name, "epoch": checkpoint.state["epoch"], "chosen": epoch}
    tell(run, about | {"paths": config.search.paths_at_test}, record, sizes)
    return record


def scenes_to_score(data: Path, wanted_by: str, sizes: Sequence[int]) -> tuple[SearchData, Sequence[int]]:
    """The data and the gallery sizes (empty: it has one), after a look at what would be missed hours later.

    Raises:
        ReseenError: no scenes, or no gallery of one of the ``sizes``.
    """
    scenes = open_scenes(data, wanted_by)
    if not scenes.test or not scenes.probes:
        raise ReseenError(
            f"{shown(scenes.root)} has no test scenes with queries: scoring needs a benchmark's layout "
            "(docs/data.md)"
        )
    for size in sizes:
        if size not in scenes.gallery_sizes:
            there = (
                f"give {', '.join(map(str, scenes.gallery_sizes))}"
                if scenes.gallery_sizes
                else "it has one gallery"
            )
            raise ReseenError(f"{scenes.name} has no gallery of {size} images: {there}")
    return scenes, sizes or usual_size(scenes)


def usual_size(scenes: SearchData) -> tuple[int, ...]:
    """The gallery size that is scored where nobody names one; empty where there is one gallery."""
    sizes = scenes.gallery_sizes
    return () if not sizes else (DEFAULT_SIZE if DEFAULT_SIZE in sizes else max(sizes),)


def tell(run: Path, about: dict[str, Any], record: dict[str, Any], sizes: Sequence[int]) -> None:
    """Print a record of scores, and keep one line for each gallery size where ``run`` is a folder."""
    for line in record.get("left_out", ()):
        print(f"left out: {line}")
    galleries = record.get("galleries") or {"all" if not sizes else str(sizes[0]): record}
    persons = {name: record[name] for name in ("detection_ap", "detection_recall")}
    lines = []
    for size, scores in galleries.items():
        name = about["data"] if size == "all" else f"{about['data']}, gallery of {size}"
        kept = {key: scores[key] for key in scores if key == "mean_ap" or key.startswith("top")}
        tops = "  ".join(f"top-{key[3:]} {value:.1%}" for key, value in kept.items() if key != "mean_ap")
        print(f"{name}: mAP {kept['mean_ap']:.1%}  {tops}  ({scores['queries']:,} queries)")
        lines.append(json.dumps(about | {"gallery": size, "queries": scores["queries"]} | kept | persons))
    print(f"persons found: AP {persons['detection_ap']:.1%}  recall {persons['detection_recall']:.1%}")
    if run.is_dir():
        with open(run / "evaluations.jsonl", "a") as file:
            file.writelines(f"{line}\n" for line in lines)

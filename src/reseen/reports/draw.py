"""Pictures that a task gathered, drawn into the report folder of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reseen.data.paths import relative
from reseen.evaluation.lists import RIGHT, WRONG
from reseen.files import write_csv
from reseen.reports.canvas import save_figure
from reseen.reports.figures import augmentation_panel, ranked_lists, search_figure
from reseen.reports.how_sure import how_sure
from reseen.reports.tsne import tsne
from reseen.tasks.calibrated import Calibrated
from reseen.tasks.pictures import FeatureMap, Picture, RankedLists, SearchResults, Views

COLUMNS = ("query", "model", "rank", "image", "answer")
FIGURES: dict[type, Callable[[Any], Figure]] = {
    RankedLists: lambda p: ranked_lists(p.queries, p.answers, p.correct, titles=p.titles),
    Views: lambda p: augmentation_panel(p.paths, p.config, seed=p.seed),
    FeatureMap: lambda p: tsne(p.features, p.identities, paths=p.paths, seed=p.seed),
    SearchResults: lambda p: search_figure(p.queries, p.found, top=p.top),
    Calibrated: lambda p: how_sure(p.calibration, p.diagram),
}


def draw(run_dir: Path, pictures: Iterable[Picture | Calibrated]) -> list[Path]:
    """Write RUN_DIR/report/<name>.png for each picture, with its title and its words inside; returns the files.

    What a picture shows is named in <name>.csv beside it, where it shows images that somebody may look for.
    """
    files = []
    for picture in pictures:
        path = run_dir / "report" / f"{picture.name}.png"
        files.append(save_figure(FIGURES[type(picture)](picture), path, title=picture.title, alt=picture.alt))
        if type(picture) in SHOWN:
            write_csv(path.with_suffix(".csv"), COLUMNS, SHOWN[type(picture)](picture))
    return files


def _listed(picture: RankedLists) -> Iterator[Sequence[object]]:
    for query, answers, right, title in zip(
        picture.queries, picture.answers, picture.correct, picture.titles, strict=True
    ):
        for rank, (answer, hit) in enumerate(zip(answers, right, strict=True), start=1):
            names = [relative(path, picture.root) for path in (query, answer)]
            yield names[0], title, rank, names[1], RIGHT if hit else WRONG


def _searched(picture: SearchResults) -> Iterator[Sequence[object]]:
    for query, places in zip(picture.queries, picture.found, strict=True):
        for rank, place in enumerate(places[: picture.top], start=1):
            names = [relative(one.path, picture.root) for one in (query, place)]
            yield names[0], "", rank, names[1], RIGHT if place.right else WRONG


SHOWN: dict[type, Callable[[Any], Iterator[Sequence[object]]]] = {
    RankedLists: _listed,
    SearchResults: _searched,
}

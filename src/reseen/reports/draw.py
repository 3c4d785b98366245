"""Pictures that a task gathered, drawn into the report folder of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reseen.reports.canvas import save_figure
from reseen.reports.figures import augmentation_panel, ranked_lists
from reseen.reports.how_sure import how_sure
from reseen.reports.search_figures import search_figure
from reseen.reports.tsne import tsne
from reseen.tasks.calibrated import Calibrated
from reseen.tasks.pictures import FeatureMap, Picture, RankedLists, SearchResults, Views

FIGURES: dict[type, Callable[[Any], Figure]] = {
    RankedLists: lambda p: ranked_lists(p.queries, p.answers, p.correct, titles=p.titles),
    Views: lambda p: augmentation_panel(p.paths, p.config, seed=p.seed),
    FeatureMap: lambda p: tsne(p.features, p.identities, paths=p.paths, seed=p.seed),
    SearchResults: lambda p: search_figure(p.queries, p.found, top=p.top),
    Calibrated: lambda p: how_sure(p.calibration, p.diagram),
}


def draw(run_dir: Path, pictures: Iterable[Picture | Calibrated]) -> list[Path]:
    """Write RUN_DIR/report/<name>.png for each picture, with its title and its words inside; returns the files."""
    return [
        save_figure(
            FIGURES[type(picture)](picture),
            run_dir / "report" / f"{picture.name}.png",
            title=picture.title,
            alt=picture.alt,
        )
        for picture in pictures
    ]

"""``reseen train``: images that nobody labelled to a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reseen.commands.report import report_on
from reseen.distributed import join
from reseen.progress import Progress
from reseen.tasks import Reading, Settings, max_bad_share, refuse_options, task_of


def train(
    method: str,
    *,
    data: Path,
    camera_pattern: str | None = None,
    also: Sequence[Path] = (),
    share: float = 1.0,
    run: Path | None = None,
    resume: bool = False,
    weights: str | None = None,
    recipe: str | None = None,
    config: Path | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Train, score where the data has a test part, and write the report. Returns the run folder.

    Args:
        also: scenes: further data sets to train on; the test part is that of ``data``.
        share: scenes: of the training scenes of all of them, a random part that is the same each time.
    """
    task = task_of(method)
    given = {"camera_pattern": camera_pattern is not None, "also": also, "share": share != 1}
    refuse_options(task, method, given)
    with join() as ranks:
        opened = task.open(data, method, Reading(camera_pattern, tuple(also), share))
        run_dir = run or Path("runs") / f"{Path(recipe or method).stem}-{opened.name.lower()}"
        resolved = task.configure(method, run_dir, resume, Settings(recipe, config, tuple(settings), weights))
        with Progress(quiet=not ranks.first) as progress:
            usable = task.usable(opened, max_bad_share(task, resolved), progress, ranks)
        task.train(resolved, usable, run_dir, resume, ranks)
        if ranks.first:
            report_on(run_dir, task, usable)
    return run_dir

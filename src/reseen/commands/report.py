"""``reseen report``: the pictures of a run that need its images, then its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reseen.distributed import ALONE
from reseen.errors import ReseenError
from reseen.files import to_json, write_file
from reseen.progress import Progress
from reseen.reports import draw, write_page
from reseen.tasks import CALIBRATION, Calibrate, Reading, Task, max_bad_share, method_of_run, task_of


def report(run: Path, *, data: Path | None = None) -> Path:
    """Write RUN/report/index.html; with the data also the pictures that show them."""
    task = task_of(method_of_run(run))
    opened = None
    if data is not None:
        found = task.open(data, str(run), Reading())
        with Progress() as progress:
            opened = task.usable(found, max_bad_share(task, task.trained(run, "last")), progress, ALONE)
    return report_on(run, task, opened)


def report_on(run_dir: Path, task: Task[Any, Any], data: Any | None) -> Path:
    """The same of data that is already read and usable (None: without pictures of it); first of the runs inside."""
    if data is not None:
        for part, own in task.parts(run_dir, data):
            report_on(part, task_of(method_of_run(part)), own)
        with Progress() as progress:
            draw(run_dir, task.pictures(run_dir, data, progress))
            if task.calibrate is not None:
                _calibrate(run_dir, task.calibrate, data, progress)
    page = write_page(run_dir, task.name)
    print(f"report: {page}")
    return page


def _calibrate(run_dir: Path, calibrate: Calibrate, data: Any, progress: Progress) -> None:
    """Write RUN/calibration.json and its picture, or say why similarities stay without a probability."""
    try:
        sure = calibrate(run_dir, data, progress)
    except ReseenError as error:
        progress.say(f"no probability beside similarities: {error}")
        return
    write_file(run_dir / CALIBRATION, to_json(sure.as_json()) + "\n")
    draw(run_dir, [sure])

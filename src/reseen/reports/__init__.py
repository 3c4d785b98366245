"""What is drawn and written for people, called by commands when the work is done."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from reseen.reports.draw import draw
from reseen.reports.run import OF_CROPS, OF_SCENES, run_report, save_comparison
from reseen.reports.two_step import two_step_report

PAGES: dict[str, Callable[[Path], Path]] = {  # by task
    "crops": partial(run_report, words=OF_CROPS),
    "scenes": partial(run_report, words=OF_SCENES),
    "two-step": two_step_report,
}


def write_page(run_dir: Path, task: str) -> Path:
    """Write RUN_DIR/report/index.html from what the run folder holds; returns its path."""
    return PAGES[task](run_dir)


__all__ = ["PAGES", "draw", "run_report", "save_comparison", "two_step_report", "write_page"]

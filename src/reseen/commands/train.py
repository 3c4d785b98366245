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
    identity_pattern: str | None = None,
    test_on: str = "test",
    train_on_test: bool = False,
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
        test_on: crops: ``test``, or ``validation``: what an epoch is scored on.
        train_on_test: whether pictures may be trained on that are tested on.
    """
    task = task_of(method)
    patterns = {"camera_pattern": camera_pattern, "identity_pattern": identity_pattern}
    given = {"also": also, "share": share != 1, "test_on": test_on != "test"}
    refuse_options(task, method, {name: text is not None for name, text in patterns.items()} | given)
    with join() as ranks:
        how = Reading(camera_pattern, identity_pattern, test_on, tuple(also), share, train_on_test)
        opened = task.open(data, method, how)
        run_dir = run or Path("runs") / f"{Path(recipe or method).stem}-{opened.name.lower()}"
        resolved = task.configure(method, run_dir, resume, Settings(recipe, config, tuple(settings), weights))
        with Progress(quiet=not ranks.first) as progress:
            usable = task.usable(opened, max_bad_share(task, resolved), progress, ranks)
        task.train(resolved, usable, run_dir, resume, ranks)
        if ranks.first:
            report_on(run_dir, task, usable)
    return run_dir

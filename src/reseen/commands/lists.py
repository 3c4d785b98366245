"""Ranked lists as a CSV, for people who look at images: what was found for each query, best first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reseen.data.paths import relative
from reseen.distributed import ALONE
from reseen.errors import ReseenError
from reseen.evaluation.lists import TOP, Lists
from reseen.files import write_csv
from reseen.progress import Progress
from reseen.tasks import Scoring, Task, max_bad_share

REMEDY = "choose another --lists"


def check_lists(out: Path | None, top: int | None, queries: Path | None = None) -> None:
    """Raise ReseenError for what cannot be written, or belongs to lists that nobody asked for."""
    if out is None:
        if top is not None or queries is not None:
            raise ReseenError(f"--{'top' if top is not None else 'queries'} is for --lists FILE: give both")
        return
    if out.is_dir() or not out.parent.is_dir():
        raise ReseenError(f"cannot write {out}: name a file in a folder that exists with --lists")
    if top is not None and top < 1:
        raise ReseenError(f"--top {top}: give 1 or more")


def rank(
    run: Path,
    task: Task[Any, Any],
    data: Any,
    asked: Any | None,
    how: Scoring,
    out: Path,
    top: int | None = None,
) -> Path:
    """Write what ``run`` finds in ``data`` for each image of ``asked`` (None: of ``data``); nothing is scored."""
    parts = [data] if asked is None else [data, asked]
    with Progress() as progress:
        share = max_bad_share(task, task.trained(run, how.epoch))
        usable = [task.usable(part, share, progress, ALONE) for part in parts]
        found = task.rank(run, usable[0], None if asked is None else usable[1], how, progress)
        return write_lists(out, found, [part.root for part in usable], top)


def write_lists(out: Path, lists: Lists, roots: Sequence[Path], top: int | None = None) -> Path:
    """Write ``out``: images by their names in the folders ``roots``, or where they lie in none by their whole path."""

    def named(value: Any) -> Any:
        inside = [root for root in roots if isinstance(value, Path) and value.is_relative_to(root)]
        return relative(value, inside[0]) if inside else value

    rows = ([named(value) for value in row] for row in lists.rows(top or TOP))
    write_csv(out, lists.columns, rows, REMEDY)
    print(f"lists: {lists.queries:,} queries, {top or TOP} images each at most -> {out}")
    return out

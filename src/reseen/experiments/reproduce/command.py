"""``reseen reproduce NAME``: rows trained or taken from before, shared with whoever else works on them, one table."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table as Rich

from reseen.config.resolve import unknown
from reseen.errors import ReseenError
from reseen.experiments.reproduce.measure import Job, measure
from reseen.experiments.reproduce.pictures import pictures
from reseen.experiments.reproduce.prepare import (
    Source,
    Streets,
    open_source,
    parse_source,
    part_of,
    weights_of,
)
from reseen.experiments.reproduce.results import Result, claimed, data_digest, read_result
from reseen.experiments.reproduce.runtime import runtime_section
from reseen.experiments.reproduce.scales import STREET, Scale, configuration_of, settings_of
from reseen.experiments.reproduce.tables import TABLES, Table
from reseen.experiments.reproduce.write import Block, main_cells, write_table
from reseen.records import ReidData, SearchData

Data = ReidData | SearchData


def reproduce(
    name: str,
    *,
    data: Sequence[str] = (),
    seeds: int = 3,
    scale: Scale = "full",
    run: Path = Path("runs/reproduce"),
    weights: str | None = None,
    rows: Sequence[str] = (),
    settings: Sequence[str] = (),
    streets: Streets | None = None,
) -> Path:
    """Make one table or figure of the papers; returns its Markdown file, ``run/NAME/table.md``.

    A row that is finished is taken as it is, an interrupted one goes on, and one that another process works on is left
    to it: the same command on several machines that share ``run`` divides the rows among them. A row is found again by
    the fingerprint of everything that decides its scores.

    Args:
        name: see :func:`list_tables`.
        data: ``PATH``, ``NAME=PATH`` or ``street``; several for a table of several data sets.
        seeds: trainings of each row, with seeds 1 to ``seeds``.
        weights: what networks begin with; see :func:`reseen.experiments.reproduce.prepare.weights_of`.
        rows: train these rows only; the table shows whatever is finished.
        settings: changes to every row, after its own. ``streets``: sizes of the drawn street, for tests.

    Raises:
        ReseenError: an unknown name, no data, or rows that failed (after the table of the others is written).
    """
    table = _known(name)
    chosen = _chosen(table, name, rows)
    if seeds < 1:
        raise ReseenError(f"--seeds {seeds}: give 1 or more")
    command = _command(name, data, seeds, scale, weights, settings)
    if table.figure == "runtime":
        return write_table(name, table, [Block("this machine", {}, "", [runtime_section()])], run, command)
    if not data:
        raise ReseenError(
            f"{name} needs --data: the paper's is {' and '.join(table.needs)}; `--data street` is the drawn one"
        )
    blocks: list[Block] = []
    failed: list[str] = []
    for source in map(parse_source, data):
        block, wrong = _block(
            name, table, chosen, source, seeds, scale, run, weights, tuple(settings), streets or Streets()
        )
        blocks.append(block)
        failed += wrong
    path = write_table(name, table, blocks, run, command)
    for block in blocks:
        if table.rows:
            Console().print(main_cells(table, block).to_rich())
    print(f"{path}\n{path.parent / 'report' / 'index.html'}")
    if failed:
        raise ReseenError(f"{len(failed)} rows failed, the others are in {path}; the first: {failed[0]}")
    return path


def list_tables() -> None:
    """Print the names that can be given, what each is and what the paper made it with."""
    shown = Rich("name", "what", "rows", "data in the paper")
    for name, table in TABLES.items():
        shown.add_row(name, table.title, str(len(table.rows) or "–"), ", ".join(table.needs) or "none")
    Console().print(shown)


def _block(
    name: str,
    table: Table,
    chosen: Sequence[str],
    source: Source,
    seeds: int,
    scale: Scale,
    out: Path,
    weights: str | None,
    settings: tuple[str, ...],
    streets: Streets,
) -> tuple[Block, list[str]]:
    """One data set's part of the table, and what failed."""
    jobs: dict[tuple[str, int], Job] = {}
    opened: Data | None = None
    for seed in range(1, seeds + 1):
        if opened is None or source.drawn:
            opened = open_source(source, table.kind, out, seed, name, streets)
        jobs |= dict(_jobs(table, opened, seed, scale, out, weights, settings, streets))
    assert opened is not None
    failed = work_through([job for (row, _), job in jobs.items() if row in chosen], out)
    results: dict[str, list[Result]] = {row: [] for row in table.rows}
    for (row, _), job in jobs.items():
        result = read_result(job.result_file(out))
        if result is not None:
            results[row].append(result)
    first = {row: jobs[row, 1] for row in table.rows if results[row] and results[row][0].seed == 1}
    ready = len(first) == len(table.rows)
    drawn = pictures(table, first, opened, out, out / name) if table.figure and ready else []
    return Block(opened.name, results, _note(table, opened, scale, weights, settings), drawn), failed


def _jobs(
    table: Table,
    data: Data,
    seed: int,
    scale: Scale,
    out: Path,
    weights: str | None,
    settings: tuple[str, ...],
    streets: Streets,
) -> Iterator[tuple[tuple[str, int], Job]]:
    digests: dict[float, tuple[Data, str]] = {}
    for row_name, row in table.rows.items():
        if row.share not in digests:
            part = part_of(data, row.share, seed)
            digests[row.share] = (part, data_digest(part))
        part, digest = digests[row.share]
        config = configuration_of(row, table, data.name, scale, seed, settings)
        start = weights_of(config, part, weights, scale, out, streets)
        yield (row_name, seed), Job(row_name, row, seed, config, part, digest, start)


def work_through(jobs: Sequence[Job], out: Path) -> list[str]:
    """Measure what is not finished: first what nobody works on, then what others leave. Returns what failed."""
    failed: list[str] = []
    waiting = [job for job in jobs if read_result(job.result_file(out)) is None]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} rows are finished")
    for wait in (False, True):
        left = []
        for job in waiting:
            with claimed(job.run_folder(out).with_suffix(".lock"), wait=wait) as mine:
                if not mine:
                    left.append(job)
                elif read_result(job.result_file(out)) is None:
                    failed += _measured(job, out)
        waiting = left
        if waiting and not wait:
            print(f"waiting for {len(waiting)} rows that other processes work on")
    return failed


def _measured(job: Job, out: Path) -> list[str]:
    """One row; its error is told and kept, and the others go on."""
    title = f"{job.name}, {job.data.name}, seed {job.seed}"
    print(f"{title} -> {job.run_folder(out)}")
    try:
        scores = measure(job, out).last
    except ReseenError as error:
        print(f"{title} failed: {error}")
        return [f"{title}: {error}"]
    first = "rank1" if "rank1" in scores else "top1"
    print(f"{title}: mAP {scores['mean_ap']:.1%}  {first} {scores[first]:.1%}")
    return []


def _known(name: str) -> Table:
    if name not in TABLES:
        raise unknown("table or figure", name, TABLES)
    return TABLES[name]


def _chosen(table: Table, name: str, rows: Sequence[str]) -> Sequence[str]:
    for row in rows:
        if row not in table.rows:
            raise unknown(f"row of {name}", row, table.rows)
    return rows or tuple(table.rows)


def _note(table: Table, data: Data, scale: Scale, weights: str | None, settings: tuple[str, ...]) -> str:
    """What a reader has to know before the figures."""
    drawn = data.name == STREET
    count = f"{len(data.train):,} training {'scenes' if isinstance(data, SearchData) else 'images'}"
    if table.rows:
        row = replace(next(iter(table.rows.values())), settings=())
        shared = (*settings_of(row, table, data.name, scale), *settings)
    else:
        shared = ()
    begin = f"weights {Path(weights).name}" if weights else "the scale's own weights"
    parts = [f"Scale {scale}: {count}, {begin}, scores of the last epoch in %, mean ± sd over seeds."]
    if drawn:
        parts.append("A street of its own is drawn for each seed.")
    if shared:
        parts.append(f"After each recipe: {' '.join(shared)}.")
    return " ".join(parts)


def _command(
    name: str, data: Sequence[str], seeds: int, scale: Scale, weights: str | None, settings: Sequence[str]
) -> str:
    words = ["reseen", "reproduce", name]
    words += [word for given in data for word in ("--data", given)]
    words += ["--seeds", str(seeds), "--scale", scale]
    words += ["--weights", weights] if weights else []
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(words)

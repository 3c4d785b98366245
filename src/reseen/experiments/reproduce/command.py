"""``reseen reproduce NAME``: rows trained or taken from before, shared with whoever else works on them, one table."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table as Rich

from reseen.config.resolve import unknown
from reseen.errors import ReseenError
from reseen.experiments.page import Section
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


@dataclass(frozen=True)
class Plan:
    """What was asked for, as :func:`reproduce` describes it; ``out`` is its ``run``."""

    name: str
    table: Table
    seeds: int
    scale: Scale
    out: Path
    weights: str | None
    settings: tuple[str, ...]
    streets: Streets

    def command(self, data: Sequence[str]) -> str:
        """The words that ask for it again."""
        words = ["reseen", "reproduce", self.name]
        words += [word for given in data for word in ("--data", given)]
        words += ["--seeds", str(self.seeds), "--scale", self.scale]
        words += ["--weights", self.weights] if self.weights else []
        words += [word for setting in self.settings for word in ("--set", setting)]
        return shlex.join(words)


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
    plan = Plan(name, table, seeds, scale, run, weights, tuple(settings), streets or Streets())
    if table.figure == "runtime":
        here = Block("this machine", {}, "", [runtime_section()])
        return write_table(name, table, [here], run, plan.command(()))
    if not data:
        raise ReseenError(
            f"{name} needs --data: the paper's is {' and '.join(table.needs)}; `--data street` is the drawn one"
        )
    blocks, failed = [], []
    for source in map(parse_source, data):
        block, wrong = _block(plan, source, chosen)
        blocks.append(block)
        failed += wrong
    path = write_table(name, table, blocks, run, plan.command(data))
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


def _block(plan: Plan, source: Source, chosen: Sequence[str]) -> tuple[Block, list[str]]:
    """One data set's part of the table, and what failed."""
    table, out = plan.table, plan.out
    jobs: dict[tuple[str, int], Job] = {}
    opened: Data | None = None
    for seed in range(1, plan.seeds + 1):
        if opened is None or source.drawn:
            opened = open_source(source, table.kind, out, seed, plan.name, plan.streets)
        jobs |= dict(plan_jobs(plan, opened, seed))
    assert opened is not None
    failed = work_through([job for (row, _), job in jobs.items() if row in chosen], out)
    results: dict[str, list[Result]] = {row: [] for row in table.rows}
    for (row, _), job in jobs.items():
        result = read_result(job.result_file(out))
        if result is not None:
            results[row].append(result)
    first = {row: jobs[row, 1] for row in table.rows if results[row] and results[row][0].seed == 1}
    drawn: list[Section] = []
    if table.figure and len(first) == len(table.rows):
        shown = list(first.values())[-1].data if first else opened  # of the seed whose models are shown
        drawn = pictures(table, first, shown, out, out / plan.name)
    return Block(opened.name, results, _note(plan, opened), drawn), failed


def plan_jobs(plan: Plan, data: Data, seed: int) -> Iterator[tuple[tuple[str, int], Job]]:
    """Every row of one seed, by (row, seed)."""
    parts: dict[float, tuple[Data, str]] = {}
    for name, row in plan.table.rows.items():
        if row.share not in parts:
            part = part_of(data, row.share, seed)
            parts[row.share] = (part, data_digest(part))
        part, digest = parts[row.share]
        config = configuration_of(row, plan.table, data.name, plan.scale, seed, plan.settings)
        start = weights_of(config, part, plan.weights, plan.scale, plan.out, plan.streets)
        yield (name, seed), Job(name, row, seed, config, part, digest, start)


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


def _note(plan: Plan, data: Data) -> str:
    """What a reader has to know before the figures."""
    count = f"{len(data.train):,} training {'scenes' if isinstance(data, SearchData) else 'images'}"
    begin = f"begins with {Path(plan.weights or 'imagenet').name}"
    if plan.scale == "small" and isinstance(data, SearchData):
        begin = f"random weights (the second network of two-step {begin})"
    elif plan.scale == "small" and data.name == STREET and plan.weights is None:
        begin = "begins with a warm-up"
    parts = [f"Scale {plan.scale}: {count}, {begin}; scores of the last epoch in %, mean ± sd over seeds."]
    if data.name == STREET:
        parts.append("A street of its own is drawn for each seed.")
    if plan.table.rows:
        row = replace(next(iter(plan.table.rows.values())), settings=())
        shared = (*settings_of(row, plan.table, data.name, plan.scale), *plan.settings)
        parts += [f"After each recipe: {' '.join(shared)}."] if shared else []
    return " ".join(parts)

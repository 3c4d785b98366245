"""``reseen reproduce NAME``: rows trained or taken from before, shared with whoever else works on them, one table."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Rich

from reseen.config import Config, differences, resolve
from reseen.config.resolve import unknown
from reseen.data import fingerprint
from reseen.distributed import ALONE
from reseen.errors import ReseenError
from reseen.files import claimed, write_file
from reseen.pages.page import Section
from reseen.progress import Progress
from reseen.reproduce.kinds import KINDS, Begin, Streets, kind_of, kinds_in
from reseen.reproduce.measure import Job, measure
from reseen.reproduce.pictures import pictures
from reseen.reproduce.results import Digests, Result, read_result
from reseen.reproduce.runtime import runtime_section
from reseen.reproduce.scales import STREET, Scale, configuration_of, settings_of
from reseen.reproduce.tables import TABLES, TWO_STEP, Table
from reseen.reproduce.write import Block, main_cells, write_table
from reseen.tasks import Reading, Scoring

Data = Any  # ReidData or SearchData, by the kind of the table
FIRST_STREET = 100  # seed k is drawn as street 100 + k: the recipes were made looking at streets 0 to 5


@dataclass(frozen=True)
class Source:
    """Where the data of a table is; ``path`` None: the drawn street. ``name``: what tables call it, "" = as read."""

    path: Path | None
    name: str = ""

    @property
    def drawn(self) -> bool:
        return self.path is None


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
        words += ["--seeds", str(self.seeds), "--scale", self.scale, "--run", str(self.out)]
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
        name: one of :data:`reseen.reproduce.tables.TABLES`.
        data: ``PATH``, ``NAME=PATH`` or ``street``; several for a table of several data sets.
        seeds: trainings of each row, with seeds 1 to ``seeds``.
        weights: what networks begin with; None: by the scale (see :class:`reseen.reproduce.kinds.Begin`).
        rows: train these rows only; the table shows whatever is finished.
        settings: changes to every row, after its own. ``streets``: sizes of the drawn street, for tests.

    Raises:
        ReseenError: an unknown name, no data, or rows that failed (after the table of the others is written).
    """
    if name not in TABLES:
        raise unknown("table or figure", name, TABLES)
    table = TABLES[name]
    for row in rows:
        if row not in table.rows:
            raise unknown(f"row of {name}", row, table.rows)
    chosen = rows or tuple(table.rows)
    if seeds < 1:
        raise ReseenError(f"--seeds {seeds}: give 1 or more")
    plan = Plan(name, table, seeds, scale, run, weights, tuple(settings), streets or Streets())
    if table.figure == "runtime":
        here = Block("this machine", "", {}, "", pictures=[runtime_section()])
        return _tell(write_table(name, table, [here], run, plan.command(())))
    if not data:
        raise ReseenError(
            f"{name} needs --data: the paper's is {' and '.join(table.needs)}; `--data street` is the drawn one"
        )
    if table.figure and len(data) > 1:
        raise ReseenError(f"{name} shows one data set: give one --data")
    refuse_settings(table, settings, scale)
    if weights and scale == "small" and table.rows and not any(k.takes_weights for k in kinds_in(table)):
        raise ReseenError(
            f"--weights: at the small scale the networks of {name} begin from nothing; leave it out"
        )
    blocks, failed = [], []
    for source in map(parse_source, data):
        block, wrong = _block(plan, source, chosen)
        blocks.append(block)
        failed += wrong
    path = write_table(name, table, blocks, run, plan.command(data))
    for block in blocks:
        if table.rows:
            Console().print(main_cells(table, block, brief=True).to_rich())
    if failed:
        raise ReseenError(f"{len(failed)} rows failed, the others are in {path}; the first: {failed[0]}")
    return _tell(path)


def reproduce_or_list(*, name: str | None, show: bool, **given: Any) -> None:
    """A table or figure; without a name the names that can be given, what each is and what the paper made it with."""
    if name is not None and not show:
        reproduce(name, **given)
        return
    shown = Rich("name", "what", "rows", "data in the paper")
    for name, table in TABLES.items():
        shown.add_row(name, table.title, str(len(table.rows) or "–"), ", ".join(table.needs) or "none")
    Console().print(shown)


def parse_source(words: str) -> Source:
    """``PATH``, ``NAME=PATH`` or ``street``. Raises ReseenError where nothing is said."""
    if words == STREET:
        return Source(None, STREET)
    name, found, path = words.partition("=")
    if not found or Path(words).expanduser().exists():
        name, path = "", words
    if not path or "/" in name:
        raise ReseenError(f"--data {words}: give PATH, NAME=PATH (a NAME without /) or street")
    return Source(Path(path), name)


def open_source(plan: Plan, source: Source, seed: int) -> Data:
    """The data of one seed, without what cannot be read; a given data set is the same for each seed.

    Raises:
        ReseenError: no such data, of the other kind, or without a test part that can be scored.
    """
    kind = KINDS[plan.table.task]
    with Progress() as progress:
        if source.path is None:
            folder = plan.out / STREET / f"{kind.images.replace('images', 'crops')}-{seed}"
            with claimed(folder.with_suffix(".lock"), wait=True):
                count = progress.counter(f"draw street {seed}")
                data = kind.draw(folder, FIRST_STREET + seed, count, plan.streets)
        else:
            words = [word for word in plan.settings if word.startswith("data.max_bad")]
            share = resolve(kind.recipe, None, words).data.max_bad_share
            opened = kind.task.open(source.path, plan.name, Reading(train_on_test=False))
            data = kind.task.usable(opened, share, progress, ALONE)
    if not kind.task.tested(data):
        raise ReseenError(
            f"{source.path} has no test part to score on: {plan.name} needs a benchmark's layout (docs/data.md)"
        )
    kind.task.check_test(data, Scoring())  # before hours of training
    return data


def _block(plan: Plan, source: Source, chosen: Sequence[str]) -> tuple[Block, list[str]]:
    """One data set's part of the table, and what failed."""
    table, out = plan.table, plan.out
    jobs: dict[tuple[str, int], Job] = {}
    opened: Data | None = None
    for seed in range(1, plan.seeds + 1):
        if opened is None or source.drawn:
            opened = open_source(plan, source, seed)
        jobs |= dict(plan_jobs(plan, opened, seed, drawn=source.drawn))
    assert opened is not None
    work_through([job for (row, _), job in jobs.items() if row in chosen], out)
    results: dict[str, list[Result]] = {row: [] for row in table.rows}
    failed: list[str] = []
    for (row, seed), job in jobs.items():
        result = read_result(job.result_file(out))
        if result is not None:
            results[row].append(result)
        elif row in chosen and job.failure_file(out).exists():
            failed.append(f"{row}, seed {seed}: {job.failure_file(out).read_text().strip()}")
    first = {row: jobs[row, 1] for row in table.rows if results[row] and results[row][0].seed == 1}
    shown: list[Section] = []
    if table.figure and len(first) == len(table.rows):
        data = list(first.values())[-1].data if first else opened  # of the seed whose models are shown
        try:
            shown = pictures(table, first, data, out, out / plan.name)
        except ReseenError as error:  # a run folder that was removed to free the disk
            shown = [Section("No picture", text=f"{error}; delete {out / 'rows'} to train its rows again")]
    about = _note(plan, opened, drawn=source.drawn)
    return Block(source.name or opened.name, opened.name, results, about, tuple(failed), shown), failed


def plan_jobs(plan: Plan, data: Data, seed: int, *, drawn: bool) -> Iterator[tuple[tuple[str, int], Job]]:
    """Every row of one seed, by (row, seed)."""
    parts: dict[float, tuple[Data, Digests]] = {}
    for name, row in plan.table.rows.items():
        kind = kind_of(row, plan.table)
        if row.share not in parts:
            part = kind.part(data, row.share, seed)
            digests = Digests(fingerprint(part.train, part.root), kind.test_digest(part))
            parts[row.share] = (part, digests)
        part, digests = parts[row.share]
        config = configuration_of(row, plan.table, data.name, plan.scale, seed, plan.settings, plan.weights)
        begin = Begin(plan.weights, plan.scale, plan.out, plan.streets if drawn else None)
        start = kind.weights(config, part, begin)
        yield (name, seed), Job(name, row, seed, kind, config, part, digests, start)


def work_through(jobs: Sequence[Job], out: Path) -> None:
    """Measure what is not finished: first what nobody works on, then what others leave."""
    waiting = [job for job in jobs if read_result(job.result_file(out)) is None]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} rows are finished")
    for wait in (False, True):
        left = []
        for job in waiting:
            with claimed(job.lock_file(out), wait=wait) as mine:
                if not mine:
                    left.append(job)
                elif read_result(job.result_file(out)) is None:
                    _measure(job, out)
        waiting = left
        if waiting and not wait:
            print(f"waiting for {len(waiting)} rows that other processes work on")


def _measure(job: Job, out: Path) -> None:
    """One row. Its error is told and kept in a file, and the other rows go on; it is tried again next time."""
    title = f"{job.name}, {job.data.name}, seed {job.seed}"
    print(f"{title} -> {job.run_folder(out)}")
    try:
        scores = measure(job, out).last
    except (ReseenError, OSError, RuntimeError) as error:  # RuntimeError: out of memory, from torch
        print(f"{title} failed: {error}")
        write_file(job.failure_file(out), f"{' '.join(str(error).split())}\n")
        return
    job.failure_file(out).unlink(missing_ok=True)
    first = "rank1" if "rank1" in scores else "top1"
    print(f"{title}: mAP {scores['mean_ap']:.1%}  {first} {scores[first]:.1%}")


def refuse_settings(table: Table, settings: Sequence[str], scale: Scale) -> None:
    """Raise ReseenError for a setting that would undo what makes the rows of a table differ at this scale."""
    given = {setting.partition("=")[0].strip() for setting in settings}
    if "seed" in given:
        raise ReseenError(
            "--set seed=...: every row is trained with seeds from 1; choose how many with --seeds"
        )
    if "weights" in given:
        raise ReseenError("--set weights=...: say it with --weights")
    if given & {"method", "recipe"}:
        raise ReseenError("--set method or recipe: each row has its own; choose rows with --row")
    rows = [row for row in table.rows.values() if row.recipe != TWO_STEP]
    own: list[Config] = [configuration_of(row, table, "", scale, 1) for row in rows]  # type: ignore[misc]
    for config in own[1:]:
        undone = given & set(differences(own[0], config))
        if undone:
            raise ReseenError(f"--set {min(undone)}: the rows of this table differ in it; leave it out")


def _tell(path: Path) -> Path:
    print(f"{path}\n{path.parent / 'report' / 'index.html'}")
    return path


def _note(plan: Plan, data: Data, *, drawn: bool) -> str:
    """What a reader has to know before the figures."""
    kind = (KINDS[plan.table.task], *kinds_in(plan.table))[-1]  # of two steps, where a row has them
    count = f"{len(data.train):,} training {kind.images}"
    begin = f"begins with {Path(plan.weights or 'imagenet').name}"
    if plan.scale == "small":
        begin = kind.begins(begin, drawn and plan.weights is None)
    parts = [
        f"Scale {plan.scale}: {count}, {begin}; scores of the last epoch in %, mean ± sd over finished seeds."
    ]
    if drawn:
        parts.append("A street of its own is drawn for each seed.")
    shared: dict[tuple[str, ...], list[str]] = {}
    for row in plan.table.rows.values():
        words = (*settings_of(replace(row, settings=()), plan.table, data.name, plan.scale), *plan.settings)
        shared.setdefault(words, []).append(row.label)
    for words, rows in shared.items():
        whose = "each recipe" if len(shared) == 1 else f"the recipe of {', '.join(rows)}"
        parts += [f"After {whose}: {' '.join(words)}."] if words else []
    return " ".join(parts)

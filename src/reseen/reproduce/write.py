"""The output of a table: Markdown in the paper's own layout, CSV with a line per seed, an HTML page with figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reseen.evaluation.protocol import REASONS, scored_of
from reseen.files import write_file
from reseen.metrics import DEFAULT_CRITERION
from reseen.pages.page import Section, write_report
from reseen.pages.tables import Table as Cells
from reseen.pages.tables import label
from reseen.reproduce.compare import Finding, Results, findings, papers_data, spread
from reseen.reproduce.results import Result
from reseen.reproduce.tables import Table

WAYS = {
    "last": "last epoch",
    "label-free": "chosen without labels",
    "best-on-test": "best on test, as papers report",
}


@dataclass(frozen=True)
class Block:
    """One data set's part of a table.

    ``title``: what it is called. ``data``: what its reader takes it for, so whose figures of the paper stand beside it.
    ``note``: what differs from the paper's setting. ``failed``: a line per row that could not be finished.
    """

    title: str
    data: str
    results: Results
    note: str
    failed: Sequence[str] = ()
    pictures: Sequence[Section] = field(default_factory=tuple)


def main_cells(table: Table, block: Block, *, brief: bool = False) -> Cells:
    """The paper's layout: a line per row, our scores of the last epoch, then the paper's own figures.

    ``brief``: two scores and no figure of the paper, for a terminal.
    """
    of = papers_data(table, block.data)
    has_paper = not brief and any(of in row.paper for row in table.rows.values())
    shown = table.columns[:2] if brief else table.columns
    columns = ["row", *map(label, shown), "queries scored", "seeds", "cameras read"]
    columns += [f"paper, {of}: {label(column)}" for column in shown] if has_paper else []
    lines = []
    for name, row in table.rows.items():
        done = block.results.get(name, ())
        scores = [spread(done, column).in_percent() for column in shown]
        cameras = ", ".join(sorted({str(result.about["cameras"]) for result in done})) or "–"
        seeds = ", ".join(str(result.seed) for result in done) or "–"
        paper = [str(value) for value in row.paper.get(of, ())] or ["–"] * len(table.columns)
        asked = ", ".join(dict.fromkeys(scored_of(result.last) or "–" for result in done)) or "–"
        lines.append((row.label, *scores, asked, seeds, cameras, *(paper if has_paper else ())))
    return Cells(tuple(columns), tuple(lines), block.title if brief else block.note)


def choice_cells(table: Table, block: Block) -> Cells:
    """mAP by the way in which the epoch is chosen; the epochs stand beside."""
    lines = []
    for name, row in table.rows.items():
        done = block.results.get(name, ())
        cells: list[str] = []
        for way in WAYS:
            one_way = [r for r in done if way != "label-free" or r.about["criterion"] == DEFAULT_CRITERION]
            epochs = [str(result.scores[way]["epoch"]) for result in one_way if way in result.scores]
            cells += [spread(one_way, "mean_ap", way).in_percent(), ", ".join(epochs) or "–"]
        lines.append((row.label, *cells))
    heads = [word for name in WAYS.values() for word in (f"mAP, {name}", "epoch")]
    caption = (
        "Only epochs that were scored can be best on test; that choice reads test labels. Without labels: by "
        f"{DEFAULT_CRITERION}; rows that another criterion chose, when it was the default, are left out."
    )
    return Cells(("row", *heads), tuple(lines), caption)


def finding_cells(found: Sequence[Finding], of: str) -> Cells:
    """The paper's claims, and ours where it has no figure; ``of``: the data set of the paper's differences."""
    lines = tuple(
        (
            f.claim.says,
            f.verdict,
            f"{100 * f.difference.mean:+.1f}",
            "–" if len(f.difference.by_seed) < 2 else f"{100 * f.difference.spread:.1f}",
            f"{100 * f.difference.low:+.1f} to {100 * f.difference.high:+.1f}",
            "–" if len(f.difference.by_seed) < 2 else f"{f.difference.p_value:.3f}",
            "–" if f.paper is None else f"{f.paper:+.1f}",
        )
        for f in found
    )
    caption = (
        "Differences in mAP, in points: mean and standard deviation over seeds, 95 % of a paired bootstrap over seeds "
        "and queries, p of a t-test over seeds. yes: the interval leaves 0 out, every seed agrees and p < .05; likely: "
        "without the last. p is of each claim by itself: of twenty that do not hold, one would have p < .05 by chance. "
        "One seed says nothing about what another training would give."
    )
    return Cells(
        ("claim", "holds", "difference", "sd", "95 %", "p", f"paper's difference, {of}"), lines, caption
    )


def markdown(cells: Cells) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in cells.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells.columns, ["---"] * len(cells.columns), *rows))


def write_table(name: str, table: Table, blocks: Sequence[Block], out: Path, command: str) -> Path:
    """OUT/NAME/table.md, table.csv and report/index.html. Returns the Markdown file."""
    folder = out / name
    parts = [f"# {name}: {table.title}", f"    {command}"]
    sections: list[Section] = [Section("Command", code=command)]
    for block in blocks:
        parts.append(f"## {block.title}")
        title = block.title if len(blocks) > 1 else table.title
        if table.rows:
            main = main_cells(table, block)
            parts += [block.note, markdown(main)]
            sections.append(Section(title, table=main))
        found = findings(table, block.results, block.data)
        if found:
            claims = finding_cells(found, papers_data(table, block.data))
            parts += ["\n".join(f"- {f.in_words()}" for f in found), markdown(claims), claims.caption]
            sections.append(Section(f"Claims, {block.title}", table=claims))
        if block.failed:
            parts += ["Not finished:", "\n".join(f"- {line}" for line in block.failed)]
            sections.append(Section(f"Not finished, {block.title}", items=tuple(block.failed)))
        if block.results:
            choice = choice_cells(table, block)
            parts += [choice.caption, markdown(choice)]
            sections.append(Section(f"Choosing the epoch, {block.title}", table=choice))
        for picture in block.pictures:
            sections.append(picture)
            if picture.table is not None:
                parts += [picture.text, markdown(picture.table)]
            elif isinstance(picture.figure, Path):
                parts.append(f"![{picture.title}]({picture.figure.relative_to(folder).as_posix()})")
        for warning in filter(None, (sources_differ(block.results), precisions_differ(block.results))):
            parts.append(warning)
            sections.append(Section(f"Beware, {block.title}", text=warning))
    write_file(folder / "table.md", "\n\n".join(parts) + "\n")
    write_file(folder / "table.csv", as_csv(table, blocks))
    write_report(folder, sections=sections, title=name, lede=table.title)
    return folder / "table.md"


def as_csv(table: Table, blocks: Sequence[Block]) -> str:
    """A line per data set, row, seed and way of choosing; scores as fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    counts = ("queries", "scored", *REASONS)
    about = ("cameras", "criterion", "fingerprint")
    writer.writerow(("data", "row", "seed", "chosen", "epoch", *table.columns, *counts, *about))
    for block in blocks:
        for name in table.rows:
            for result in block.results.get(name, ()):
                for way, scores in result.scores.items():
                    values = [scores.get(column, "") for column in (*table.columns, *counts)]
                    values += [result.about[key] for key in about]
                    writer.writerow((block.title, name, result.seed, way, scores["epoch"], *values))
    return text.getvalue()


def precisions_differ(results: Mapping[str, Sequence[Result]]) -> str:
    """A warning where some rows were trained in another precision than others, as train.precision=auto may choose."""
    machines = [result.about["machine"] for row in results.values() for result in row]
    used = sorted({str(machine["precision"]) for machine in machines if machine.get("precision")})
    if len(used) < 2:
        return ""
    return f"These rows were trained in {' and '.join(used)}, by machine: set train.precision to have one."


def sources_differ(results: Mapping[str, Sequence[Result]]) -> str:
    """A warning where rows were made by different versions of the code; empty where they were not."""
    made = [result.about for row in results.values() for result in row]
    sources = {str(about.get(key, about["source"])) for about in made for key in ("source", "source_began")}
    if len(sources) < 2:
        return ""
    return (
        f"These rows were made by {len(sources)} versions of the source; each result file names its own. Delete a "
        "row's run folder and result to make it again."
    )

"""One self-contained HTML page: sections of text, tables and pictures. Nothing is loaded, nothing runs.

The page asks no other host for anything (its own Content-Security-Policy forbids it), works without
JavaScript, follows the reader's light or dark setting, and escapes every text it is given.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import rich.table
from matplotlib.figure import Figure
from PIL import Image
from rich.text import Text

from reseen.errors import ReseenError
from reseen.files import write_file
from reseen.pages.png import png_bytes

FOOTER = "Pictures of persons are personal data: treat this page as you treat the images."
UNBROKEN = "&#8209;"  # a hyphen at which no line breaks: rank-1
NOTHING = "–"  # a value that was not measured
SCORES = {"mean_ap": "mAP", "detection_ap": "detection AP", "detection_recall": "detection recall"}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
CSS_DPI = 96  # CSS pixels an inch

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #20242c; --muted: #5c6370; --line: #dfe2e7;
  --soft: #f3f4f1; --accent: #00598c; --warn: #a84300; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181d; --ink: #e6e8eb; --muted: #a0a7b2;
  --line: #343943; --soft: #1f232a; --accent: #7cc0ea; --warn: #f0a36b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, -apple-system,
  "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1, h2 { font-family: ui-serif, "Iowan Old Style", Georgia, "Noto Serif", "DejaVu Serif", serif;
  font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: 2.3rem; margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.4rem; margin: 0 0 .6rem; }
section { margin-top: 3rem; padding-top: 1.6rem; border-top: 1px solid var(--line); }
p, ul { max-width: 44rem; margin: 0 0 .9rem; text-wrap: pretty; }
li { margin-bottom: .3rem; }
.kicker { color: var(--muted); font-size: .85rem; letter-spacing: .04em; margin: 0; }
.lede { font-size: 1.1rem; color: var(--muted); }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; max-width: none;
  font-size: .92rem; }
nav li { margin: 0; }
a { color: var(--accent); text-underline-offset: .2em; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 3px; }
figure { margin: 1.2rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; padding: .5rem; }
.scroll { overflow-x: auto; margin: 1.1rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; line-height: 1.4; }
caption { caption-side: bottom; text-align: left; color: var(--muted); font-size: .85rem;
  padding-top: .6rem; }
th, td { padding: .42rem .9rem .42rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 500; border-bottom: 1.5px solid var(--muted);
  vertical-align: bottom; line-height: 1.25; }
tbody th { font-weight: 500; }
.number { text-align: right; }
td.number, tbody th { white-space: nowrap; }
td:last-child:not(.number) { min-width: 9rem; }
td strong { color: var(--accent); }
pre { background: var(--soft); border-radius: 6px; padding: 1rem 1.2rem; overflow-x: auto; font-size: .85rem;
  line-height: 1.5; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 4rem; color: var(--muted); font-size: .85rem; }
@media print { main { max-width: none; padding: 0; }
  figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Table:
    """Cells as text. ``strong`` holds (row, column) of the cells to stress."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ReseenError(
                f"each row of a table needs {len(self.columns)} cells: {', '.join(self.columns)}"
            )

    def _numeric(self) -> list[bool]:
        """Which columns hold numbers only, and are set flush right."""
        number = re.compile(r"[-−+]?\d[\d,.  ]*%?|" + NOTHING)
        return [
            any(row[c] != NOTHING for row in self.rows) and all(number.fullmatch(row[c]) for row in self.rows)
            for c in range(len(self.columns))
        ]

    def to_rich(self) -> rich.table.Table:
        """For the terminal. No cell is read as markup."""
        table = rich.table.Table(caption=Text(self.caption) if self.caption else None, caption_justify="left")
        for name, numeric in zip(self.columns, self._numeric(), strict=True):
            table.add_column(Text(name), justify="right" if numeric else "left")
        for r, row in enumerate(self.rows):
            cells = (Text(cell, "bold" if (r, c) in self.strong else "") for c, cell in enumerate(row))
            table.add_row(*cells)
        return table

    def to_html(self) -> str:
        """A ``<table>`` whose first column names the rows."""
        numeric = [' class="number"' if is_number else "" for is_number in self._numeric()]
        heads = "".join(
            f'<th scope="col"{kind}>{html.escape(name).replace("-", UNBROKEN)}</th>'
            for name, kind in zip(self.columns, numeric, strict=True)
        )
        lines = []
        for r, row in enumerate(self.rows):
            cells = [html.escape(cell) for cell in row]
            cells = [f"<strong>{x}</strong>" if (r, c) in self.strong else x for c, x in enumerate(cells)]
            first = f'<th scope="row"{numeric[0]}>{cells[0]}</th>' if cells else ""
            rest = "".join(f"<td{kind}>{x}</td>" for kind, x in zip(numeric[1:], cells[1:], strict=True))
            lines.append(f"<tr>{first}{rest}</tr>\n")
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        return f"<table>{caption}<thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody></table>"


@dataclass(frozen=True)
class Section:
    """A part of the page. Empty parts are left out; ``text`` is plain, a blank line starts a paragraph.

    ``figure`` is a matplotlib figure, which is also saved as PNG beside the page, or the path of a PNG.
    ``alt`` describes it to who cannot see it; a PNG from :func:`save_figure` brings its own. ``code`` is
    shown as it is. ``folded`` hides all but the title until it is opened.
    """

    title: str
    text: str = ""
    items: tuple[str, ...] = ()
    table: Table | None = None
    figure: Figure | Path | None = None
    alt: str = ""
    code: str = ""
    folded: bool = False


def label(name: str) -> str:
    """The heading of a column: ``mean_ap`` -> ``mAP``, ``rank1`` -> ``rank-1``."""
    if name in SCORES:
        return SCORES[name]
    return re.sub(r"^(rank|top)(\d+)$", r"\1-\2", name).replace("_", " ")


def is_score(name: str) -> bool:
    """Whether the key holds a share that is reported in percent, larger being better."""
    return name in SCORES or re.fullmatch(r"(rank|top)\d+", name) is not None


def cell(value: object, *, percent: bool = False) -> str:
    """A value as text: ``0.213`` -> ``21.3`` in percent, None and NaN -> a dash, True -> yes."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and percent:
        return f"{100 * value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.1g}" if 0 < abs(value) < 0.005 else f"{value:,.2f}"
    return str(value)


def summary_table(rows: Sequence[Mapping[str, object]], *, caption: str = "") -> Table:
    """Results side by side, the best of each score column stressed.

    Each row is ``{"name": ..., "mean_ap": 0.21, "rank1": 0.44, ...}`` with any further columns; scores are
    shares and shown in percent, what a row lacks is a dash. Columns stand in the order in which they first
    appear. Raises :class:`ReseenError` without a row.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not keys:
        raise ReseenError("a summary needs at least one row with a name and a score")
    cells = tuple(tuple(cell(row.get(key), percent=is_score(key)) for key in keys) for row in rows)
    strong = set()
    for c, key in enumerate(keys):
        values = [float(line[c]) for line in cells if line[c] != NOTHING] if is_score(key) else []
        if len(values) > 1:
            strong |= {
                (r, c)
                for r, line in enumerate(cells)
                if line[c] not in {NOTHING} and float(line[c]) == max(values)
            }
    if any(is_score(key) for key in keys):
        caption = " ".join(
            filter(None, (caption, "Scores in %; best in bold." if strong else "Scores in %."))
        )
    return Table(tuple(map(label, keys)), cells, caption, frozenset(strong))


def slug(title: str) -> str:
    """A name for links and files: ``Ranked lists`` -> ``ranked-lists``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def write_report(run: Path, *, sections: Iterable[Section], title: str = "", lede: str = "") -> Path:
    """Write ``run/report/index.html`` and the figures beside it; each file is replaced as a whole.

    Returns the page's path. Raises :class:`ReseenError` for a picture that is no PNG, or a folder that
    cannot be written.
    """
    folder = run / "report"
    heading = title or run.resolve().name
    parts, names = [], []
    for section in sections:
        anchor = slug(section.title)
        while anchor in names:
            anchor += "-x"
        names.append(anchor)
        parts.append((anchor, section.title, _section(section, anchor, folder)))
    links = "".join(f'<li><a href="#{anchor}">{html.escape(name)}</a></li>' for anchor, name, _ in parts)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{html.escape(heading)} · reseen</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="kicker">reseen · report of a run</p>
<h1>{html.escape(heading)}</h1>
{f'<p class="lede">{html.escape(lede)}</p>' if lede else ""}
<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
{"".join(part for *_, part in parts)}
<footer><p>{FOOTER}</p></footer>
</main>
</body>
</html>
"""
    target = folder / "index.html"
    write_file(target, page)
    return target


def _section(section: Section, anchor: str, folder: Path) -> str:
    body = "".join(
        f"<p>{html.escape(part.strip())}</p>\n" for part in section.text.split("\n\n") if part.strip()
    )
    if section.items:
        body += "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in section.items) + "</ul>\n"
    if section.table is not None:
        name = html.escape(f"{section.title}, table", quote=True)
        table = section.table.to_html()
        body += f'<div class="scroll" role="region" tabindex="0" aria-label="{name}">{table}</div>\n'
    if section.figure is not None:
        body += _figure(section, anchor, folder)
    if section.code:
        body += f'<pre tabindex="0"><code>{html.escape(section.code)}</code></pre>\n'
    if section.folded:
        body = (
            f"<details><summary>Show the {html.escape(section.title.lower())}</summary>\n{body}</details>\n"
        )
    head = f'<h2 id="{anchor}-h">{html.escape(section.title)}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-h">\n{head}\n{body}</section>\n'


def _figure(section: Section, anchor: str, folder: Path) -> str:
    if isinstance(section.figure, Figure):
        content = png_bytes(section.figure, title=section.title, alt=section.alt)
        write_file(folder / f"{anchor}.png", content)
        inside: Mapping[str, str] = {}
    else:
        assert section.figure is not None
        content, inside = read_picture(section.figure)
    with Image.open(io.BytesIO(content)) as image:
        dpi = float(image.info.get("dpi", (CSS_DPI,))[0]) or CSS_DPI
        width, height = (round(side * CSS_DPI / dpi) for side in image.size)
    alt = html.escape(section.alt or inside.get("Description") or section.title, quote=True)
    data = base64.b64encode(content).decode()
    size = f'width="{width}" height="{height}"'
    return f'<figure><img {size} alt="{alt}" src="data:image/png;base64,{data}"></figure>\n'


def read_picture(path: Path) -> tuple[bytes, dict[str, str]]:
    """The bytes of a PNG and the texts inside it. Raises :class:`ReseenError` when it is none."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.load()
            return content, {str(key): value for key, value in image.info.items() if isinstance(value, str)}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ReseenError(
            f"{path} is not a readable PNG ({error}): delete it and write the report again"
        ) from error

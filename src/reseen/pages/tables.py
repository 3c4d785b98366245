"""Tables for people: cells as text, for the terminal and for a page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import rich.table
from rich.text import Text

from reseen.errors import ReseenError

NOTHING = "–"  # a value that was not measured
SCORES = {"mean_ap": "mAP", "detection_ap": "detection AP", "detection_recall": "detection recall"}


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

    @cached_property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers only, and are set flush right."""
        number = re.compile(r"[-−+]?\d[\d,.  ]*%?|" + NOTHING)
        return [
            any(row[c] != NOTHING for row in self.rows) and all(number.fullmatch(row[c]) for row in self.rows)
            for c in range(len(self.columns))
        ]

    def to_rich(self) -> rich.table.Table:
        """For the terminal. No cell is read as markup."""
        table = rich.table.Table(caption=Text(self.caption) if self.caption else None, caption_justify="left")
        for name, numeric in zip(self.columns, self.numeric, strict=True):
            table.add_column(Text(name), justify="right" if numeric else "left")
        for r, row in enumerate(self.rows):
            cells = (Text(cell, "bold" if (r, c) in self.strong else "") for c, cell in enumerate(row))
            table.add_row(*cells)
        return table


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
            best = max(values)
            strong |= {
                (r, c) for r, line in enumerate(cells) if line[c] != NOTHING and float(line[c]) == best
            }
    if any(is_score(key) for key in keys):
        caption = f"{caption} {'Scores in %; best in bold.' if strong else 'Scores in %.'}".lstrip()
    return Table(tuple(map(label, keys)), cells, caption, frozenset(strong))

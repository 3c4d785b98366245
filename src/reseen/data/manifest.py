"""A table of images, one a row, with what is known about each: CSV, also with semicolons or tabs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reseen.data.assembly import Row, assemble
from reseen.data.paths import said_of, shown
from reseen.data.spelling import PARTS, TRAIN, WEAK, find_file, meanings, part_of, value
from reseen.errors import ReseenError
from reseen.records import ReidData

COLUMNS = ("path", "camera", "identity", "split")
SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ",;\t|"


def read_manifest(path: Path) -> ReidData:
    """Read a table with a header; the header tells whether commas, semicolons, tabs or bars separate its columns.

    Columns: ``path`` (absolute, or relative to the file's folder), and if you have them ``camera``, ``identity`` and
    ``split`` (train, validation, query, gallery, test; without the column every row is for training), each in any of
    the spellings of :mod:`reseen.data.spelling`. Other columns are named in ``skipped``. Cameras and identities may be
    numbers or names (see :mod:`reseen.data.numbering`).

    Raises:
        ReseenError: not readable as CSV, a column or value that cannot be used, or no image found.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, file.read())
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReseenError(
            f"{shown(path)} is not a CSV file in UTF-8 ({error}): save it again as one"
        ) from error


def _read(path: Path, text: str) -> ReidData:
    header, rows = _table(path, text)
    with said_of(path):
        columns = meanings(header)
    if "path" not in columns:
        found = shown(", ".join(header)) or "nothing"
        raise ReseenError(f"{shown(path)} needs a header with a column 'path'; found: {found}")
    places = {meaning: header.index(name) for meaning, name in columns.items()}
    _refuse_row_numbers(
        path, columns, [values[places["identity"]] for _, values in rows if "identity" in places]
    )
    ignored = [name for name in header if name not in columns.values()]
    skipped = [f"{shown(path.name)}: the column {shown(name)!r} is not read" for name in ignored]
    present = list(_rows(path, rows, places, skipped))
    if not present:
        raise ReseenError(
            f"{shown(path)}: none of its {len(rows)} images exists; paths are taken from {shown(path.parent)}"
        )
    return assemble(present, name=path.stem, root=path.parent, layout="a manifest", skipped=skipped)


def _rows(
    path: Path, rows: Sequence[tuple[int, list[str]]], places: dict[str, int], skipped: list[str]
) -> Iterator[Row]:
    seen: set[tuple[str, str]] = set()
    for line, values in rows:
        found = {meaning: values[place].strip() for meaning, place in places.items()}
        where = f"{shown(path.name)} line {line}"
        if not found["path"]:
            raise ReseenError(f"{shown(path)} line {line}: the path is empty")
        part = part_of(found.get("split", TRAIN))
        if part is None:
            raise ReseenError(
                f"{shown(path)} line {line}: split {shown(found['split'])!r} is none of {', '.join(PARTS)}"
            )
        name = find_file(path.parent, found["path"])
        file = path.parent / (name or "")
        if name is None:
            skipped.append(f"{where}: {shown(found['path'])} does not exist")
        elif (os.path.abspath(file), part) in seen:
            skipped.append(f"{where}: {shown(found['path'])} is listed twice")
        else:
            seen.add((os.path.abspath(file), part))
            identity, camera = value(found.get("identity")), value(found.get("camera"))
            yield Row(file, part, identity, camera, f"{shown(path)} line {line}")


def _table(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and the fields of each row with the number of its line."""
    declared, begin = "", 0
    if text[:5].lower().startswith("sep=") and len(text) > 4:  # how spreadsheets tell each other
        declared, begin = text[4], 1
        text = text.partition("\n")[2]

    def rows_of(mark: str) -> Any:  # by line feeds and carriage returns only: a name may hold other breaks
        return csv.reader(io.StringIO(text, newline=""), delimiter=mark)

    headers: dict[str, list[str]] = {mark: next(rows_of(mark), []) for mark in declared or _SEPARATORS}
    mark = max(headers, key=lambda mark: (_known(headers[mark]), len(headers[mark])))
    reader = rows_of(mark)
    header = [name.strip() for name in next(reader, [])]
    rows = []
    for values in reader:
        if not any(field.strip() for field in values):
            continue
        line = reader.line_num + begin
        if len(values) != len(header):
            raise ReseenError(
                f"{shown(path)} line {line} has {len(values)} fields, its header {len(header)}: "
                f"quote fields that hold {mark!r}"
            )
        rows.append((line, values))
    if header and not rows:
        raise ReseenError(f"{shown(path)} lists no image: add a row per image below the header")
    return header, rows


def _known(header: Sequence[str]) -> int:
    """How many columns of a header mean something."""
    try:
        return len(meanings(header))
    except ReseenError:  # two of one meaning, or a misspelt one: a header, too
        return 1


def _refuse_row_numbers(path: Path, columns: dict[str, str], identities: Sequence[str]) -> None:
    """A column called id or label may number the images instead of the persons."""
    name = columns.get("identity", "")
    weak = name.strip().lower() in WEAK
    if weak and len(identities) > 1 and len(set(map(value, identities))) == len(identities):
        raise ReseenError(
            f"{shown(path)}: the column {shown(name)!r} differs in every row, as if it numbered the images: call it "
            "identity if these are persons, else remove it"
        )

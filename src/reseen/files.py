"""The one way to write a file: a reader finds the old one or the new one, whole, whatever happens meanwhile.

And the one way to write JSON, which has no NaN; and to be the only one who works on something.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TextIO

from reseen.errors import ReseenError

REMEDY = "free space or choose another --run"


@contextlib.contextmanager
def new_file(path: Path, remedy: str = REMEDY, *, durable: bool = True) -> Iterator[Path]:
    """Lend a temporary path to write to; where the block ends without an error it replaces ``path``, else it goes.

    It lies in a folder of its own beside ``path``, which is named after this process and thread: writers never meet,
    and what a killed one left (also what a library wrote under a name of its own) goes with the next write of ``path``.
    A folder has writers on one machine at a time: a process of another machine counts as dead.

    Args:
        remedy: what to do where writing fails; the end of the error's line.
        durable: flush to the disk before the renaming, and look for what killed writers left. False for images by
            the thousand, which can be made again: a flush takes some 20 ms.

    Raises:
        ReseenError: the disk is full or the folder not writable; the old file is untouched.
    """
    folder = path.parent / f".{path.name}.{os.getpid()}-{threading.get_native_id()}.partial"
    temporary = folder / "new"
    try:
        if durable:
            remove_stale(path.parent, glob.escape(path.name))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield temporary
            if durable:
                _flush(temporary)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ReseenError(f"cannot write {path} ({error.strerror or error}): {remedy}") from error
    if durable:
        with contextlib.suppress(OSError):  # some network file systems cannot; the file is there and whole
            _flush(path.parent)


def write_file(path: Path, content: str | bytes, remedy: str = REMEDY) -> None:
    """Write ``content`` (text as UTF-8) as :func:`new_file` does. Makes the folder."""
    with new_file(path, remedy) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def new_folder(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """Lend a folder to fill, as :func:`new_file` lends a file.

    Raises:
        ReseenError: there is something at ``path`` already, the disk is full or the folder not writable.
    """
    if path.exists():
        raise ReseenError(f"{path} is there already: remove it, or write to another place")
    with new_file(path, remedy) as temporary:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _flush(file)


def to_json(value: Any, **options: Any) -> str:
    """``value`` as JSON; ``options`` are those of :func:`json.dumps`.

    Raises:
        ReseenError: a number is NaN or infinite: JSON has none, and no result is one.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError as error:
        raise ReseenError(f"a result is not a finite number and is not written: {error}") from error


def append_json(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add ``records`` to ``path``, one a line: all of them or none. What a killed process tore keeps its own line.

    Raises:
        ReseenError: see :func:`to_json`; nothing is written then.
    """
    text = "".join(f"{to_json(record)}\n" for record in records)
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else f"\n{text}"
        file.write(text.encode())


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], remedy: str = REMEDY
) -> None:
    """A table (:func:`write_table`), written as :func:`new_file` does; names of files keep their bytes."""
    with (
        new_file(path, remedy) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as handle,
    ):
        write_table(handle, columns, rows)


def write_table(handle: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """CSV: every text is quoted, None is empty.

    A path is written such that no spreadsheet takes it for a formula: ``=1.jpg`` as ``./=1.jpg``, the same file.
    """
    writer = csv.writer(handle, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_in_table(value) for value in row] for row in rows)


def _in_table(value: Any) -> Any:
    if not isinstance(value, PurePath):
        return value
    text = value.as_posix()
    return text if text[:1].isalnum() or text[:1] in "/._" else f"./{text}"


def from_json(text: str | bytes) -> Any:
    """The value of JSON; NaN and infinities, which earlier versions wrote, become None. ValueError where it is none."""
    return json.loads(text, parse_constant=lambda _: None)


@contextlib.contextmanager
def claimed(path: Path, *, wait: bool) -> Iterator[bool]:
    """Whether this process holds ``path``; nobody else then does, also on other machines that share the folder.

    The system lets go when the process ends, however it ends. Needs a file system with locks (flock).

    Raises:
        ReseenError: the file system has none, is full or read-only.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:  # the latter from file systems that have no flock
        raise ReseenError(
            f"{path} cannot be locked ({error}): choose a --run folder that can be written to, on a disk with locks"
        ) from error
    try:
        yield True
    finally:
        lock.release()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_stale(folder: Path, name: str = "*") -> None:
    """Remove what writers of files in ``folder`` (whose names match ``name``) left that are no more."""
    for left in folder.glob(f".{name}.*.partial"):
        process = left.name.split(".")[-2].split("-")[0]
        if not process.isdecimal() or alive(int(process)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:  # as written before version 0.1.0
            left.unlink(missing_ok=True)


def alive(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's; no number of a process, so not ours
        pass
    return True

"""MATLAB files (format 5) as the person search data sets use them: cells, records, text and numbers.

They are read by :func:`scipy.io.loadmat`, which runs no program and no pickle. The 2,900 galleries of 4,000 images
of CUHK-SYSU would take it 13 GB at once (145 of them were measured), so :func:`stream_records` walks through such
a file and hands it one field at a time.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from reseen.data.matcheck import COMPRESSED, HEADER, MATRIX, check_inflated, is_whole
from reseen.data.paths import shown
from reseen.errors import ReseenError

_STRUCT = 2  # class of a matrix
_NAMED_X = struct.pack("<HHI", 1, 1, ord("x"))  # the name "x" as a small element of 8 bytes


class MalformedError(Exception):
    """The file can be read, but is not built as it should be; the message follows the file's name."""


@contextmanager
def expecting(path: Path, whose: str) -> Iterator[None]:
    """What is malformed inside is said of ``path``, whose right file is ``whose`` own. Raises ReseenError."""
    try:
        yield
    except MalformedError as error:
        raise ReseenError(f"{shown(path)} {error}: get {whose} own file again") from error


class _NotStreamableError(Exception):
    """Nothing is wrong with the file, but it has to be read whole."""


def load_variable(path: Path, *names: str) -> Any:
    """The first of the variables ``names`` that the file holds.

    Raises:
        ReseenError: the file is missing, is no MATLAB file, or holds none of them.
    """
    try:
        check_inflated(path)
        data = path.read_bytes()
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read ({error.strerror or error})") from error
    except (zlib.error, struct.error) as error:
        raise _damaged(path) from error
    found = {name: value for name, value in _load(path, data).items() if not name.startswith("__")}
    for name in names:
        if name in found:
            return found[name]
    raise ReseenError(
        f"{shown(path)} has no variable {' or '.join(names)} (it holds {shown(', '.join(found)) or 'nothing'}): "
        f"put the data set's own file there"
    )


def records(value: Any) -> list[Any]:
    """The records of a struct array, or of a cell array of such.

    Raises:
        MalformedError: something else.
    """
    if isinstance(value, np.void):
        return [value]
    if not isinstance(value, np.ndarray):
        raise MalformedError("holds something else than records")
    if value.dtype.names:
        return list(value.ravel())
    if value.dtype == object:
        return [record for cell in value.ravel() for record in records(cell)]
    if value.size == 0:
        return []
    raise MalformedError("holds numbers or text where records should be")


def part(record: Any, name: str, place: int) -> Any:
    """A field of a record by its name, or by its place where it is called otherwise.

    Raises:
        MalformedError: there is no such field.
    """
    names: tuple[str, ...] = record.dtype.names or ()
    if name in names:
        return record[name]
    if place < len(names):
        return record[names[place]]
    raise MalformedError(f"lacks the field {name}")


def text(value: Any) -> str:
    """A piece of text, however deep it is wrapped.

    Raises:
        MalformedError: something else.
    """
    while isinstance(value, np.ndarray) and value.size == 1 and value.dtype.names is None:
        value = value.ravel()[0]
    if not isinstance(value, str):
        raise MalformedError("has no text where a name should be")
    return str(value).strip()


def four(value: Any) -> NDArray[np.float64]:
    """The four numbers of a box, float64.

    Raises:
        MalformedError: something else.
    """
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.ravel()[0]
    try:
        found = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise MalformedError("has something else where numbers should be") from None
    if len(found) != 4:
        raise MalformedError(f"has {len(found)} numbers where the four of a box should be")
    return found


def stream_records(path: Path, name: str) -> Iterator[Mapping[str, Any]]:
    """The records of the struct array ``name``, one at a time, each field read when its turn comes.

    What is not a plain struct array in a file of the usual kind is read whole.

    Raises:
        ReseenError: as :func:`load_variable`, or the file is damaged.
        MalformedError: the variable holds no records.
    """
    try:
        check_inflated(path)
        with open(path, "rb") as file:
            yield from _stream(file, name, path)
        return
    except _NotStreamableError:
        pass
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read ({error.strerror or error})") from error
    except (zlib.error, struct.error, EOFError, UnicodeDecodeError) as error:
        raise _damaged(path) from error
    for record in records(load_variable(path, name)):
        yield {field: record[field] for field in record.dtype.names}


def _load(path: Path, data: bytes) -> dict[str, Any]:
    from scipy.io import loadmat  # here, since only MATLAB files need it

    if not is_whole(data):
        raise _damaged(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: dict[str, Any] = loadmat(io.BytesIO(data), appendmat=False)
        return found
    except NotImplementedError as error:
        raise ReseenError(f"{shown(path)} is in MATLAB's format 7.3: save it with the option -v7") from error
    except Exception as error:  # what scipy raises on damaged files is not documented
        raise _damaged(path) from error


def _damaged(path: Path) -> ReseenError:
    return ReseenError(f"{shown(path)} is damaged, or no MATLAB file: get the data set's own file again")


def _stream(file: IO[bytes], name: str, path: Path) -> Iterator[dict[str, Any]]:
    header = file.read(HEADER)
    if len(header) < HEADER or header[124:128] != b"\x00\x01IM":  # format 5, little-endian
        raise _NotStreamableError
    while tag := file.read(8):
        element, size = struct.unpack("<II", tag)
        end = file.tell() + size
        source = _Inflated(file) if element == COMPRESSED else file
        if element == COMPRESSED:
            element, _ = struct.unpack("<II", _exactly(source, 8))
        if element != MATRIX:
            raise _NotStreamableError
        flags, sides, called = (_element(source) for _ in range(3))
        if called.decode("ascii") == name:
            if flags[0] != _STRUCT:
                raise _NotStreamableError
            count = int(np.frombuffer(sides, dtype="<i4").prod())
            yield from _fields(source, count, header, path)
            return
        file.seek(end)
    raise _NotStreamableError  # the whole file is read to say what it holds


def _fields(source: IO[bytes] | _Inflated, count: int, header: bytes, path: Path) -> Iterator[dict[str, Any]]:
    (length,) = struct.unpack("<i", _element(source))
    joined = _element(source)
    fields = [
        joined[start : start + length].split(b"\0")[0].decode("ascii")
        for start in range(0, len(joined), length)
    ]
    for _ in range(count):
        record = {}
        for field in fields:
            kind, size = struct.unpack("<II", _exactly(source, 8))
            if kind != MATRIX:
                raise EOFError
            content = _exactly(source, size)
            record[field] = _matrix(content, header, path) if size else np.empty((0, 0))
        yield record


def _matrix(content: bytes, header: bytes, path: Path) -> Any:
    """A matrix inside of a record has no name; with one it is a file of its own."""
    sides = struct.unpack("<I", content[20:24])[0]
    place = 24 + sides + -sides % 8
    if struct.unpack("<II", content[place : place + 8]) != (1, 0):
        raise EOFError
    whole = header + struct.pack("<II", MATRIX, len(content)) + content[:place]
    return _load(path, whole + _NAMED_X + content[place + 8 :])["x"]


def _element(source: IO[bytes] | _Inflated) -> bytes:
    """The content of a small or an ordinary element, which ends at a multiple of 8 bytes."""
    tag = _exactly(source, 8)
    kind, size = struct.unpack("<II", tag)
    if kind >> 16:
        return tag[4 : 4 + (kind >> 16)]
    return _exactly(source, size + -size % 8)[:size]


def _exactly(source: IO[bytes] | _Inflated, size: int) -> bytes:
    content = source.read(size)
    if len(content) != size:
        raise EOFError
    return content


class _Inflated:
    """The inside of a compressed element, as far as it is asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._inflate, self._ready = file, zlib.decompressobj(), bytearray()

    def read(self, size: int, /) -> bytes:
        while len(self._ready) < size and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(1 << 16)
            if not packed:
                break
            self._ready += self._inflate.decompress(packed, 1 << 20)
        result = bytes(self._ready[:size])
        del self._ready[:size]
        return result

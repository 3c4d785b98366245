"""Whether a MATLAB file (format 5) is built as it says, before scipy reads it: damaged ones can end its process.

Seen with bytes changed at random: a crash of the interpreter, which no `except` catches. Every size is followed, from
a variable to the last number in it. Classes that no data set of this field has (objects, sparse matrices, functions)
are left to scipy.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from reseen.data.paths import shown
from reseen.errors import ReseenError

HEADER = 128  # bytes of a file's header
MATRIX, COMPRESSED = 14, 15  # types of an element
INT8, INT32, UINT32, _UTF8 = 1, 5, 6, 16
# of a value, by type
_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_CELL, _STRUCT, _TEXT, _NUMBERS = 1, 2, 4, range(6, 16)  # classes of a matrix
_COMPLEX = 0x800
_DEEPEST = 30
_MOST_INFLATED, _SMALL = 100, 2**28  # times the file's size, where that is more than 256 MiB


def check_inflated(path: Path) -> None:
    """Raises ReseenError where the compressed variables of a file of format 5 say that they would fill the memory."""
    with open(path, "rb") as file:
        if file.read(HEADER)[124:128] != b"\x00\x01IM":
            return
        inflated = 0
        while len(tag := file.read(8)) == 8:
            element, size = struct.unpack("<II", tag)
            end = file.tell() + size
            if element == COMPRESSED:
                head = zlib.decompressobj().decompress(file.read(min(size, 1024)), 8)
                inflated += struct.unpack("<II", head)[1] if len(head) == 8 else 0
            file.seek(end)
        size = path.stat().st_size
    if inflated > max(_MOST_INFLATED * size, _SMALL):
        raise ReseenError(
            f"{shown(path)} has {size:,} bytes and would take {inflated:,} in memory: get the data set's own file again"
        )


def is_whole(data: bytes) -> bool:
    """Whether it is of format 5 and every variable holds what its sizes say; True for format 7.3 as well."""
    mark = data[124:128]
    if len(data) < HEADER or mark != b"\x00\x01IM":
        return mark == b"\x00\x02IM"
    try:
        _variables(memoryview(data)[HEADER:])
    except (ValueError, zlib.error, struct.error, RecursionError):
        return False
    return True


def _variables(left: memoryview) -> None:
    while len(left):
        element, size = struct.unpack("<II", left[:8])
        body, left = _taken(left[8:], size), left[8 + size :]
        if element == COMPRESSED:
            inflated = _inflated(body)
            element, size = struct.unpack("<II", inflated[:8])
            body = _taken(inflated[8:], size)
        _expect(element == MATRIX)
        _matrix(body, 0)


def _inflated(body: memoryview) -> memoryview:
    """As much of it as its tag says, of which :func:`check_inflated` has seen that the memory holds it."""
    stream = zlib.decompressobj()
    tag = stream.decompress(body, 8)
    size = struct.unpack("<II", tag)[1]
    return memoryview(tag + stream.decompress(stream.unconsumed_tail, size + 1))


def _taken(data: memoryview, size: int) -> memoryview:
    _expect(size <= len(data))
    return data[:size]


def _element(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """Type, content and what follows; up to 4 bytes stand in the tag, longer ones are filled up to 8."""
    element, size = struct.unpack("<II", data[:8])
    if element >> 16:
        return element & 0xFFFF, _taken(data[4:8], element >> 16), data[8:]
    content = _taken(data[8:], size)
    return element, content, data[8 + size + (-size % 8 if element != MATRIX else 0) :]


def _expect(condition: bool) -> None:
    if not condition:
        raise ValueError("something does not fit into what holds it")


def _matrix(data: memoryview, depth: int) -> None:
    """Flags, sides, name, content: numbers, text, or matrices again."""
    if not len(data):
        return  # an empty one
    _expect(depth < _DEEPEST)
    element, flags, data = _element(data)
    _expect(element == UINT32 and len(flags) == 8)
    (about, _) = struct.unpack("<II", flags)
    element, sides, data = _element(data)
    _expect(element == INT32 and len(sides) >= 8 and len(sides) % 4 == 0)
    count = 1
    for side in struct.unpack(f"<{len(sides) // 4}i", sides):
        _expect(side >= 0)
        count *= side
    element, _, data = _element(data)
    _expect(element == INT8)
    shape = about & 0xFF
    if shape == _CELL:
        _matrices(data, count, depth)
    elif shape == _STRUCT:
        element, length, data = _element(data)
        _expect(element == INT32 and len(length) == 4)
        (width,) = struct.unpack("<i", length)
        element, names, data = _element(data)
        _expect(element == INT8 and width > 0 and len(names) % width == 0)
        _matrices(data, count * (len(names) // width), depth)
    elif shape == _TEXT or shape in _NUMBERS:
        for _ in range(2 if about & _COMPLEX else 1):
            element, values, data = _element(data)
            _expect(element in _BYTES)
            least = count * _BYTES[element]
            _expect(least <= len(values) <= (4 * least if element == _UTF8 else least))


def _matrices(data: memoryview, count: int, depth: int) -> None:
    _expect(count * 8 <= len(data))
    for _ in range(count):
        element, body, data = _element(data)
        _expect(element == MATRIX)
        _matrix(body, depth + 1)

"""The same picture twice: the same file, or another one with the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reseen.data.paths import shown
from reseen.errors import ReseenError


def same_pictures(paths: Iterable[Path]) -> list[list[int]]:
    """Rows of files that hold the same bytes, two or more each, in order. Files that cannot be read are left out.

    Only files of one size are read, and none that is empty: it is no picture.
    """
    by_size: dict[int, list[tuple[int, Path]]] = {}
    for row, path in enumerate(paths):
        try:
            size = os.stat(path).st_size
        except OSError:
            continue
        if size:
            by_size.setdefault(size, []).append((row, path))
    by_bytes: dict[bytes, list[int]] = {}
    for same in by_size.values():
        for row, path in same if len(same) > 1 else ():
            try:
                by_bytes.setdefault(hashlib.sha256(path.read_bytes()).digest(), []).append(row)
            except OSError:
                continue
    return sorted(rows for rows in by_bytes.values() if len(rows) > 1)


def doubles(parts: Mapping[str, Sequence[Path]]) -> dict[tuple[str, str], tuple[int, Path, Path]]:
    """For each two of the ``parts``, or one and itself: how many pictures are in both, and the first pair of files."""
    listed = [(part, path) for part, paths in parts.items() for path in paths]
    found: dict[tuple[str, str], tuple[int, Path, Path]] = {}
    for rows in same_pictures(path for _, path in listed):
        first = [listed[row] for row in rows]
        for pair in sorted({(first[i][0], other) for i in range(len(first)) for other, _ in first[i + 1 :]}):
            one = next(path for part, path in first if part == pair[0])
            two = next(path for part, path in reversed(first) if part == pair[1])
            count, *example = found.get(pair, (0, one, two))
            found[pair] = (count + 1, example[0], example[1])
    return found


def refuse_tested(train: Sequence[Path], test: Sequence[Path], where: Path) -> None:
    """Raise ReseenError where a picture that is trained on is one of those to be tested on."""
    groups = same_pictures([*train, *test])
    both = [rows for rows in groups if rows[0] < len(train) <= rows[-1]]
    if both:
        one, other = train[both[0][0]], test[both[0][-1] - len(train)]
        count = sum(row < len(train) for rows in both for row in rows)
        pair = f"{shown(one)} is {shown(other)}" if one != other else shown(one)
        raise ReseenError(
            f"{shown(where)}: {count:,} training {'picture is' if count == 1 else 'pictures are'} also to be tested on "
            f"({pair}): take them out of one part, or ask for it with --train-on-test"
        )

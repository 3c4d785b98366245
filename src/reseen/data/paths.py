"""Which files count as images, and in what order they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from reseen.errors import ReseenError
from reseen.pixels import shown as shown  # how a path is written in a message

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
)
T = TypeVar("T")
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})  # left by file managers, never data


def is_litter(name: str) -> bool:
    """Hidden files and what file managers leave behind; not worth a word."""
    return name.startswith(".") or name.lower() in _LITTER


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def relative(path: Path, root: Path) -> Path:
    """Relative to ``root`` where it lies there; a manifest may name images anywhere."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def files_in(folder: Path) -> list[str]:
    """Names of the files directly in ``folder``, sorted; none where it does not exist.

    Raises:
        ReseenError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file() and not is_litter(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error


def files_below(folder: Path) -> list[str]:
    """Names of all files below ``folder``, relative to it with ``/``, sorted; none where it does not exist.

    Linked folders are followed, each folder once.

    Raises:
        ReseenError: a folder cannot be read.
    """
    return sorted(_walk(folder)) if os.path.isdir(folder) else []


def _walk(folder: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise _unreadable(Path(error.filename or folder), error) from error

    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not is_litter(name))
        inside = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        yield from (prefix + name for name in names if not is_litter(name))


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in ``folder``, sorted."""
    return [inner for inner in sorted(folder.iterdir()) if not is_litter(inner.name) and os.path.isdir(inner)]


def the_only_one(folder: Path, what: str, look: Callable[[Path], T | None]) -> tuple[Path, T] | None:
    """The one folder in ``folder`` that ``look`` finds something in, and that; None: there is none.

    Raises:
        ReseenError: there are several of ``what``.
    """
    found = [(inner, seen) for inner in folders_in(folder) if (seen := look(inner))]
    if len(found) > 1:
        names = ", ".join(shown(inner.name) for inner, _ in found)
        raise ReseenError(f"{shown(folder)} holds {len(found)} {what}: give one of {names}")
    return found[0] if found else None


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Errors inside begin with ``path``, which they are about."""
    try:
        yield
    except ReseenError as error:
        raise ReseenError(f"{shown(path)}: {shown(str(error))}") from error


def _unreadable(folder: Path, error: OSError) -> ReseenError:
    return ReseenError(f"{shown(folder)} cannot be read ({error.strerror}): check its permissions")

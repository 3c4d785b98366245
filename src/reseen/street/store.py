"""Made once: a finished folder carries ``street.json`` or ``composite.json``, which says of what it was made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from PIL import Image

from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.files import from_json, new_file, remove_stale, to_json, write_file

DRAWN = {"drawn_by": "reseen", "version": 1}  # raise it when the same parameters give another picture
REMEDY = "free some space or name another folder"
_QUALITY = 95  # JPEG

Progress = Callable[[int, int], None]  # (images done, images in all)


class _Named(Protocol):
    @property
    def name(self) -> str: ...  # below the folder that is drawn


Shot = TypeVar("Shot", bound=_Named)


def make_once(
    root: Path, mark: str, parameters: Mapping[str, Any], folders: Sequence[str], make: Callable[[], None]
) -> None:
    """Call ``make`` and then write ``root / mark``, unless the same was made before and finished.

    Args:
        mark: ``street.json`` or ``composite.json``; it holds ``parameters``, which decide every pixel.
        folders: those below ``root`` that ``make`` writes pictures to; they are there when it is called. What an
            interrupted drawing with other parameters left in them is removed.

    Raises:
        ReseenError: ``root`` holds another drawing, or files that are not ours, or cannot be written to.
    """
    wanted = from_json(to_json(parameters))  # tuples become lists, as in the file
    if _finished(root, mark, wanted):
        return
    marker = _marker(root, mark)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if marker.exists() and _load(marker) != wanted:
            for folder in folders:
                shutil.rmtree(root / folder, ignore_errors=True)
        write_json(marker, wanted)
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
            remove_stale(root / folder)  # of a drawing that was killed
        make()
        write_json(root / mark, wanted)
        marker.unlink(missing_ok=True)
    except OSError as error:
        raise ReseenError(
            f"cannot write to {shown(root)} ({error}): free some space or name another folder"
        ) from error


def require_files(root: Path, names: Iterable[str]) -> None:
    """Raise :class:`ReseenError` if a finished drawing has lost files since."""
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise ReseenError(
            f"{shown(root)} has lost {len(missing)} drawn files (first: {missing[0]}): "
            "delete the folder to have the street drawn again"
        )


def write_images(
    root: Path, shots: Sequence[Shot], draw: Callable[[Shot], Image.Image], progress: Progress | None
) -> None:
    """Draw and write each shot as ``root / shot.name``, one after the other."""
    for number, shot in enumerate(shots, start=1):
        write_image(root / shot.name, draw(shot))
        if progress is not None:
            progress(number, len(shots))


def write_image(path: Path, image: Image.Image) -> None:
    """A JPEG that is absent, old or complete: a second process that draws the same disturbs no reader of the first."""
    with new_file(path, REMEDY, durable=False) as part:  # thousands of them, and made again from the seed
        image.save(part, format="JPEG", quality=_QUALITY, subsampling=0)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A file that is absent, old or complete."""
    write_file(path, to_json(content, indent=1) + "\n", REMEDY)


def _finished(root: Path, mark: str, wanted: Mapping[str, Any]) -> bool:
    """Raises where ``root`` holds another drawing, or something that is not ours."""
    what = Path(mark).stem
    if root.is_file():
        raise ReseenError(f"{shown(root)} is a file: name a folder to make the {what} in")
    if not (root / mark).exists():
        if root.is_dir() and any(root.iterdir()) and not _marker(root, mark).exists():
            raise ReseenError(f"{shown(root)} holds other files: name a new or empty folder for the {what}")
        return False
    found = _load(root / mark)
    if found is None:
        raise ReseenError(
            f"{shown(root / mark)} cannot be read: delete {shown(root)} to have the {what} made again"
        )
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different:
        has = ", ".join(f"{key}={found.get(key)}" for key in different)
        asked = ", ".join(f"{key}={wanted[key]}" for key in different)
        raise ReseenError(
            f"{shown(root)} holds another {what} ({has}, asked for {asked}): name another folder or delete it"
        )
    return True


def _marker(root: Path, mark: str) -> Path:
    return root / f"{Path(mark).stem}.unfinished.json"


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None

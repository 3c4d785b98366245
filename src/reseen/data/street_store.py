"""Drawn once: a finished folder carries ``street.json``, which says what was drawn and is written last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from reseen.errors import ReseenError
from reseen.files import new_file, write_file

VERSION = 1  # of the drawing: raise it when the same parameters give another picture
MANIFEST = "street.json"
_UNFINISHED = "street.unfinished.json"
_QUALITY = 95  # JPEG
_REMEDY = "free some space or name another folder"


def read_manifest(root: Path, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of a finished drawing in ``root``, or None where it has to be drawn.

    Raises :class:`ReseenError` where the folder holds another drawing, or something that is not ours.
    """
    path = root / MANIFEST
    try:
        if not root.exists():
            return None
        if not root.is_dir():
            raise ReseenError(f"{root} is a file: name a folder to draw the street in")
        finished = path.exists()
        foreign = not finished and not (root / _UNFINISHED).exists() and any(root.iterdir())
    except OSError as error:
        raise ReseenError(f"cannot read {root} ({error}): name another folder") from error
    if not finished:
        if foreign:
            raise ReseenError(f"{root} holds other files: name a new or empty folder to draw the street in")
        return None
    manifest = _load(path)
    if manifest is None:
        raise ReseenError(f"{path} cannot be read: delete the folder {root} to have the street drawn again")
    wanted = _header(parameters)
    different = [key for key in wanted if manifest.get(key) != wanted[key]]
    if different:
        has = ", ".join(f"{key}={manifest.get(key)}" for key in different)
        asked = ", ".join(f"{key}={wanted[key]}" for key in different)
        raise ReseenError(
            f"{root} holds another street ({has}, asked for {asked}): name another folder or delete it"
        )
    return manifest


def begin(root: Path, parameters: Mapping[str, Any], folders: Iterable[str]) -> None:
    """Mark ``root`` as being drawn. What an interrupted drawing with other parameters left is removed."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        marker = root / _UNFINISHED
        if marker.exists() and _load(marker) != _header(parameters):
            for folder in folders:
                shutil.rmtree(root / folder, ignore_errors=True)
        write_file(marker, _json(_header(parameters)), _REMEDY)
        for folder in folders:
            (root / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise ReseenError(f"cannot write to {root} ({error}): name another folder") from error


def finish(root: Path, parameters: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Publish a complete drawing: the manifest appears at once and whole."""
    try:
        write_file(root / MANIFEST, _json({**_header(parameters), **content}), _REMEDY)
        (root / _UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise ReseenError(
            f"cannot write to {root} ({error}): free some space or name another folder"
        ) from error


def require_files(root: Path, names: Iterable[str]) -> None:
    """Raise :class:`ReseenError` if a finished drawing has lost files since."""
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise ReseenError(
            f"{root} has lost {len(missing)} drawn images (first: {missing[0]}): "
            "delete the folder to have the street drawn again"
        )


def draw_all(
    root: Path,
    names: list[str],
    draw: Callable[[int], Image.Image],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Draw and write image ``i`` as ``root / names[i]``, one after the other."""
    for i, name in enumerate(names):
        image = draw(i)
        with new_file(root / name, _REMEDY, durable=False) as temporary:
            image.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)
        if progress is not None:
            progress(i + 1, len(names))


def _header(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {"drawn_by": "reseen", "version": VERSION, **parameters}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None

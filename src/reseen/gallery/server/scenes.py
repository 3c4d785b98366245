"""The picture that a row was seen in, with the person outlined: from folders that whoever serves names."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw

from reseen.data.video import is_video, read_frame
from reseen.errors import ReseenError
from reseen.gallery.rows import Hit
from reseen.gallery.server.problems import ProblemError
from reseen.gallery.server.uploads import declared_size
from reseen.pixels import pixels_of

LONG = 1600  # pixels of the longer side that is sent
QUALITY = 85  # JPEG
GONE = "the picture that this row was seen in is not below the folders of --images, or has changed"


class Scenes:
    """``roots``: the folder that was indexed, by what it was called with ``--prefix`` ("": nothing)."""

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self.roots = dict(roots)
        self._alone = threading.Lock()  # one picture is decoded at a time

    def shows(self, hit: Hit) -> bool:
        """Whether there is more around the person than its thumbnail shows: a crop is all of its picture."""
        file = self._file(hit.source)
        if file is None or is_video(file.name):
            return file is not None
        try:
            with open(file, "rb") as opened:
                sides = declared_size(opened)
        except (OSError, ProblemError):
            return False
        x1, y1, x2, y2 = hit.box
        # a box is of the upright picture, and the header of the one that lies as it was taken
        return x2 > x1 and y2 > y1 and sorted((x2 - x1, y2 - y1)) != sorted(map(float, sides))

    def picture(self, hit: Hit) -> bytes:
        """The whole picture as a JPEG file, the person outlined.

        Raises:
            ProblemError: it is not there any more, or is another one.
        """
        file = self._file(hit.source)
        if file is None:
            raise ProblemError(404, GONE)
        try:
            with self._alone:
                pixels = read_frame(file, hit.seconds) if is_video(file.name) else pixels_of(file)
        except ReseenError as error:
            raise ProblemError(404, GONE) from error
        return outlined(Image.fromarray(np.ascontiguousarray(pixels)), hit.box)

    def _file(self, source: str) -> Path | None:
        """The file of that name below the folder whose name it begins with; names do not lead out of it."""
        for name, root in self.roots.items():
            inside = source.removeprefix(f"{name}/") if name else source
            parts = PurePosixPath(inside)
            if (name and inside == source) or parts.is_absolute() or ".." in parts.parts:
                continue
            if (root / parts).is_file():
                return root / parts
        return None


NO_SCENES = Scenes({})


def outlined(picture: Image.Image, box: tuple[float, float, float, float]) -> bytes:
    """A JPEG file of at most :data:`LONG` pixels a side, with ``box`` (xyxy, pixels of ``picture``) in black on white.

    Raises:
        ProblemError: the box lies outside.
    """
    width, height = picture.size
    x1, y1, x2, y2 = np.clip(box, 0, [width, height] * 2).tolist()
    if x2 <= x1 or y2 <= y1:
        raise ProblemError(404, GONE)
    picture.thumbnail((LONG, LONG))
    scale = picture.width / width
    line = max(2, round(max(picture.size) / 300))
    brush = ImageDraw.Draw(picture)
    for colour, out in (("black", 2 * line), ("white", line)):  # seen on any ground
        corners = (scale * x1 - out, scale * y1 - out, scale * x2 + out, scale * y2 + out)
        brush.rectangle(corners, outline=colour, width=line)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()

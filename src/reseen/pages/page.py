"""One self-contained HTML page: sections of text, tables and pictures. Nothing is loaded, nothing runs.

The page asks no other host for anything (its own Content-Security-Policy forbids it), works without
JavaScript, follows the reader's light or dark setting, and its template escapes every text it is given.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from reseen.errors import ReseenError
from reseen.files import write_file
from reseen.pages.tables import Table

if TYPE_CHECKING:  # half a second to import, and the server of a gallery draws nothing
    from matplotlib.figure import Figure

CSS_DPI = 96  # CSS pixels an inch
DPI = 160  # of figures
COMPRESSION = {"compress_level": 4}  # photographs in 0.4 of the time that the usual 6 takes, 5 % larger
TEMPLATES = Environment(
    loader=PackageLoader("reseen.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["unbroken"] = lambda text: text.replace("-", "\u2011")  # no line breaks within rank-1


@dataclass(frozen=True)
class Section:
    """A part of the page. Empty parts are left out; ``text`` is plain, a blank line starts a paragraph.

    ``figure`` is a matplotlib figure, which is also saved as PNG beside the page, or the path of a PNG.
    ``alt`` describes it to who cannot see it; a PNG from :func:`save_figure` brings its own. ``code`` is
    shown as it is. ``folded`` hides all but the title until it is opened.
    """

    title: str
    text: str = ""
    items: tuple[str, ...] = ()
    table: Table | None = None
    figure: Figure | Path | None = None
    alt: str = ""
    code: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A PNG as it stands on the page, in CSS pixels."""

    width: int
    height: int
    alt: str
    base64: str


@dataclass(frozen=True)
class Part:
    """A section with what only the page knows of it: its link, and its picture as bytes."""

    section: Section
    anchor: str
    picture: Picture | None


def slug(title: str) -> str:
    """A name for links and files: ``Ranked lists`` -> ``ranked-lists``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def write_report(run_dir: Path, *, sections: Iterable[Section], title: str = "", lede: str = "") -> Path:
    """Write ``run_dir/report/index.html`` and the figures beside it; each file is replaced as a whole.

    Returns the page's path. Raises :class:`ReseenError` for a picture that is no PNG, or a folder that
    cannot be written.
    """
    folder = run_dir / "report"
    parts: list[Part] = []
    for section in sections:
        anchor = slug(section.title)
        while anchor in {part.anchor for part in parts}:
            anchor += "-x"
        parts.append(Part(section, anchor, _picture(section, folder / f"{anchor}.png")))
    template = TEMPLATES.get_template("report.html")
    page = template.render(heading=title or run_dir.resolve().name, lede=lede, parts=parts)
    target = folder / "index.html"
    write_file(target, page)
    return target


def _picture(section: Section, file: Path) -> Picture | None:
    """The section's figure; one that was drawn for it is also saved as ``file``."""
    inside: Mapping[str, str] = {}
    if section.figure is None:
        return None
    if isinstance(section.figure, Path):
        content, inside = read_picture(section.figure)
    else:
        content = png_bytes(section.figure, title=section.title, alt=section.alt)
        write_file(file, content)
    with Image.open(io.BytesIO(content)) as image:
        dpi = float(image.info.get("dpi", (CSS_DPI,))[0]) or CSS_DPI
        width, height = (round(side * CSS_DPI / dpi) for side in image.size)
    alt = section.alt or inside.get("Description") or section.title
    return Picture(width, height, alt, base64.b64encode(content).decode())


def png_bytes(figure: Figure, *, title: str = "", alt: str = "") -> bytes:
    """The figure as PNG. ``title`` and ``alt`` travel inside it, so that a saved picture describes itself."""
    buffer = io.BytesIO()
    inside = {"Title": title, "Description": alt}
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata=inside, pil_kwargs=COMPRESSION)
    return buffer.getvalue()


def read_picture(path: Path) -> tuple[bytes, dict[str, str]]:
    """The bytes of a PNG and the texts inside it. Raises :class:`ReseenError` when it is none, or damaged."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.verify()  # each chunk by its checksum: a fortieth of the time that unpacking all takes
            return content, {str(key): value for key, value in image.info.items() if isinstance(value, str)}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ReseenError(
            f"{path} is not a readable PNG ({error}): delete it and write the report again"
        ) from error

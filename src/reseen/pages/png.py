"""A figure as the bytes of a PNG file that says what it shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160
COMPRESSION = {"compress_level": 4}  # photographs in 0.4 of the time that the usual 6 takes, 5 % larger


def png_bytes(figure: Figure, *, title: str = "", alt: str = "") -> bytes:
    """The figure as PNG. ``title`` and ``alt`` travel inside it, so that a saved picture describes itself."""
    buffer = io.BytesIO()
    inside = {"Title": title, "Description": alt}
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata=inside, pil_kwargs=COMPRESSION)
    return buffer.getvalue()

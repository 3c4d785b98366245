"""A figure as the bytes of a PNG file that says what it shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160


def png_bytes(figure: Figure, *, title: str = "", alt: str = "") -> bytes:
    """The figure as PNG. ``title`` and ``alt`` travel inside it, so that a saved picture describes itself."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=DPI, facecolor="white", metadata={"Title": title, "Description": alt}
    )
    return buffer.getvalue()

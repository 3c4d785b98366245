"""Galleries: rows on disk, exact search in memory, erasure that removes the bytes."""

from importlib.util import find_spec

from reseen.errors import ReseenError

if not (find_spec("lancedb") and find_spec("lance")):
    raise ReseenError("a gallery needs packages that are not installed: pip install 'reseen[gallery]'")

from reseen.gallery.erasing import Receipt
from reseen.gallery.gallery import Gallery
from reseen.gallery.rows import Hit

__all__ = ["Gallery", "Hit", "Receipt"]

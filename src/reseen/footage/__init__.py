"""Footage to rows: images and videos in, persons with their features out, each with where and when it was seen."""

from reseen.data.video import Sampling
from reseen.footage.embedding import Part, persons_in
from reseen.footage.finding import Finder, finder
from reseen.footage.rows import STILL, Rows, joined
from reseen.footage.sources import Footage, Source, open_footage

__all__ = [
    "STILL",
    "Finder",
    "Footage",
    "Part",
    "Rows",
    "Sampling",
    "Source",
    "finder",
    "joined",
    "open_footage",
    "persons_in",
]

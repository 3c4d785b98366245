"""Writers and erasers that are killed: `python tests/gallery_job.py WORK FOLDER...`, one child for each folder.

The children are forked before the database is loaded, whose threads would not survive, and after everything else is,
which takes seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from galleries import MODEL, some_features
from reseen.gallery import Gallery
from reseen.gallery.files import Files

# What an eraser calls, and dies before: the last removes its note, when the receipt is written.
POINTS = ("delete", "compact_files", "cleanup_old_versions", "remove")


def die(*given: Any, **more: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def erase(place: str) -> None:
    """Forget rows 5 and 20, and die where the name of the folder says."""
    from lance.dataset import DatasetOptimizer, LanceDataset

    point = place.rpartition("/")[2]
    owner: Any = next(one for one in (LanceDataset, DatasetOptimizer, Files) if hasattr(one, point))
    setattr(owner, point, die)
    Gallery.open(place, MODEL).forget([5, 20])


def add(place: str) -> None:
    """Add batches until somebody kills this process; each that returned is a line of the file beside the gallery."""
    gallery = Gallery.open(place, MODEL)
    while len(gallery) < 20_000:  # nobody comes: it ends by itself
        number = len(gallery)
        features = some_features(7, seed=number)
        rows = gallery.add(features, sources=[f"batch {number}/{place_in}" for place_in in range(7)])
        with open(f"{place}.acknowledged", "a") as file:
            file.write(f"{number} {rows[0]} {rows[-1]}\n")


if __name__ == "__main__":
    for folder in sys.argv[2:]:
        child = os.fork()
        if not child:
            {"erase": erase, "add": add}[sys.argv[1]](folder)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"ended {status}", flush=True)

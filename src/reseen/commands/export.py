"""``reseen export``: a trained model for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reseen.errors import ReseenError
from reseen.export.card import NOT_STATED
from reseen.export.hub import write_hub
from reseen.export.onnx_files import write_onnx
from reseen.inference import Embedder, PersonSearcher, load_model
from reseen.models.checkpoint import LAST, STEPS
from reseen.pixels import shown
from reseen.training import read_checkpoint

Model = Embedder | PersonSearcher
FORMATS: dict[str, Callable[[Model, Path, Path, str], list[str]]] = {
    "onnx": lambda model, run, out, licence: write_onnx(model, out, licence=licence),
    "hub": lambda model, run, out, licence: write_hub(model, run, out, licence=licence),
}


def export(run: Path, *, format: str, out: Path | None = None, licence: str = NOT_STATED) -> Path:
    """Write the model of a run folder or checkpoint file to the folder ``out`` (None: RUN/FORMAT); returns it.

    Raises:
        ReseenError: no model, a run that is not finished, ``out`` exists or cannot be written, or what the format needs
            is not installed.
    """
    place = out or (run if run.is_dir() else run.parent) / format
    if place.exists():
        raise ReseenError(f"{shown(place)} is there already: remove it, or name another --out")
    _check_finished(run)
    for line in FORMATS[format](load_model(run, device="cpu"), run, place, licence):
        print(line)
    return place


def _check_finished(run: Path) -> None:
    """A run folder's training has come to its end; a file is taken as it is."""
    parts = [run / step for step in STEPS] if any((run / step).is_dir() for step in STEPS) else [run]
    for part in parts if run.is_dir() else []:
        path = part / "checkpoint" / LAST
        if not path.is_file():
            raise ReseenError(f"{shown(part)} holds no trained model: give the run folder of reseen train")
        checkpoint = read_checkpoint(path)
        done, epochs = checkpoint.state["epoch"], checkpoint.config.train.epochs
        if done < epochs:
            raise ReseenError(
                f"{shown(part)} has trained {done} of {epochs} epochs: finish it with reseen train --resume, "
                f"or export {shown(path)} as it is"
            )

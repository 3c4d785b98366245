"""``reseen export``: a trained model for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reseen.errors import ReseenError
from reseen.export.hub import NOT_STATED, write_hub
from reseen.export.onnx_files import write_onnx
from reseen.footage import joined
from reseen.footage.fiftyone import write_fiftyone
from reseen.footage.shards import read_about, read_features
from reseen.inference import Embedder, PersonSearcher, load_model
from reseen.models.checkpoint import LAST, STEPS
from reseen.pixels import shown
from reseen.training import read_checkpoint

Model = Embedder | PersonSearcher
FIFTYONE = "fiftyone"
FORMATS: dict[str, Callable[[Model, Path, Path, str], list[str]]] = {
    "onnx": lambda model, run, out, licence: write_onnx(model, out, licence=licence),
    "hub": lambda model, run, out, licence: write_hub(model, run, out, licence=licence),
}


def export(
    run: Path,
    *,
    format: str,
    out: Path | None = None,
    licence: str = NOT_STATED,
    features: Path | None = None,
    images: Path | None = None,
) -> Path:
    """Write the model of a run folder or checkpoint file to the folder ``out`` (None: RUN/FORMAT); returns it.

    Args:
        features, images: for FiftyOne, what ``reseen embed RUN`` wrote, and the folder that it was given.

    Raises:
        ReseenError: no model, a run that is not finished, ``out`` exists or cannot be written, what the format needs is
            not given or not installed, or the features are of another model.
    """
    place = out or (run if run.is_dir() else run.parent) / format
    if place.exists():
        raise ReseenError(f"{shown(place)} is there already: remove it, or name another --out")
    if format != FIFTYONE and (features or images):
        raise ReseenError(f"--features and --images are for --format {FIFTYONE}: leave them out")
    _check_finished(run)
    model = load_model(run, device="cpu")
    if format == FIFTYONE:
        lines = _for_fiftyone(model, place, features, images, licence)
    else:
        lines = FORMATS[format](model, run, place, licence)
    for line in lines:
        print(line)
    return place


def _for_fiftyone(
    model: Model, out: Path, features: Path | None, images: Path | None, licence: str
) -> list[str]:
    if features is None or images is None:
        raise ReseenError(
            f"--format {FIFTYONE} shows features beside their images: give --features FEATURES, which reseen embed RUN "
            "PATH --out FEATURES writes, and --images PATH"
        )
    about = read_about(features)["model"]
    if about["fingerprint"] != model.fingerprint:
        raise ReseenError(
            f"{shown(features)} holds features of another model ({about['name']}, {about['fingerprint'][:12]}): embed "
            "with this run"
        )
    parts = list(read_features(features))
    if not sum(map(len, parts)):
        raise ReseenError(f"{shown(features)} holds no person: embed images that show some")
    info = {"model": model.config.method, "fingerprint": model.fingerprint, "licence": licence}
    return write_fiftyone(joined(parts), images, out, info)


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

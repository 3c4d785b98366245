"""``reseen train``: which of the three ways it is, on crops, on scenes or on scenes in two steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reseen.commands.report import report
from reseen.distributed import join
from reseen.errors import ReseenError
from reseen.progress import Progress
from reseen.tasks.configure import SCENES, TWO_STEP, configuration, known_method
from reseen.tasks.crops import train_run
from reseen.tasks.opening import open_crops, open_scenes
from reseen.tasks.scenes import train_search
from reseen.tasks.two_step.run import train_two_step
from reseen.tasks.usable import usable


def train(
    method: str,
    *,
    data: Path,
    camera_pattern: str | None = None,
    also: Sequence[Path] = (),
    share: float = 1.0,
    run: Path | None = None,
    resume: bool = False,
    weights: str | None = None,
    recipe: str | None = None,
    config: Path | None = None,
    settings: list[str] | None = None,
) -> Path:
    """Train, evaluate where the data has a test split, and write the report. Returns the run folder.

    Args:
        also: scenes: further data sets to train on; the test part is that of ``data``.
        share: scenes: of the training scenes of all of them, a random part that is the same each time.
    """
    known_method(method)
    if method in (*SCENES, TWO_STEP):
        if camera_pattern is not None:
            raise ReseenError("--camera-pattern is for folders of crops; scenes say their camera themselves")
        scenes = open_scenes(data, method, also=also, share=share)
        given = (scenes, run, resume, weights, recipe, config, settings or [])
        return train_two_step(*given) if method == TWO_STEP else train_search(method, *given)
    if also or share != 1:
        raise ReseenError(f"--also and --share are for scenes: {method} trains on one set of crops, --data")
    with join() as ranks:
        images = open_crops(data, method, camera_pattern=camera_pattern)
        folder = run or Path("runs") / f"{Path(recipe or method).stem}-{images.name.lower()}"
        resolved = configuration(method, folder, resume, recipe, config, settings or [], weights)
        with Progress(quiet=not ranks.first) as progress:
            bad = resolved.data.max_bad_share
            images = usable(images, max_bad_share=bad, progress=progress, ranks=ranks)
        train_run(resolved, images, folder, resume=resume, ranks=ranks)
        if ranks.first:
            report(folder, images=images)
    return folder

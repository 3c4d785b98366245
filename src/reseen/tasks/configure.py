"""Which configuration a ``reseen train`` means: recipe, file and settings, or that of the run it continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from reseen.config import Config, ModelConfig, from_yaml, resolve
from reseen.config.resolve import read_tree
from reseen.errors import ReseenError
from reseen.files import from_json
from reseen.models.checkpoint import STEPS, checkpoint_in, stored_config
from reseen.models.weights import WORDS
from reseen.tasks.task import Settings
from reseen.training import LAST, trained_config
from reseen.training.run_folder import chosen_file

SEARCHES = "r-siamnet"
# What a network is built by, and the pixels that it knows: of any two, of two for crops, of two that search scenes.
BOTH = ("model.backbone", "data.mean", "data.std")
PERSON = ("data.height", "data.width")
ARCHITECTURE: dict[bool, tuple[str, ...]] = {
    False: (*(f"model.{field.name}" for field in fields(ModelConfig)), *BOTH[1:], *PERSON),
    True: (*BOTH, *PERSON, *(f"search.{name}" for name in ("detector", "channels", "dim", "crop_level"))),
}


def configuration(method: str, run_dir: Path, resume: bool, given: Settings) -> Config:
    """Recipe, file, settings and weights; a resumed run without any of the first three takes its ``config.yaml``."""
    stored = run_dir / "config.yaml"
    recipe = given.recipe or method
    if resume and stored.exists():
        kept = _stored(stored)
        begin = begins_with(run_dir, kept, read_tree(stored), given.weights)
        resolved = (
            replace(kept, weights=begin)
            if given.plain
            else going_on(recipe, given.config, given.settings, begin)
        )
    else:
        resolved = going_on(recipe, given.config, given.settings, given.weights)
    expected = resolve(method)
    if (resolved.method, resolved.loss.symmetric) != (expected.method, expected.loss.symmetric):
        source = given.recipe or given.config or (stored if resume and given.plain else "--set")
        raise ReseenError(f"{source} is not a run of {method!r}: name its method")
    return resolved


def going_on(
    recipe: str, file: Path | Mapping[str, Any] | None, settings: Sequence[str], weights: str | None
) -> Config:
    """:func:`reseen.config.resolve`; networks that begin with a trained one are built like it, unless told otherwise.

    Raises:
        ReseenError: as there, or a folder that holds no run.
    """
    config = resolve(recipe, file, settings, weights)
    if config.weights in WORDS:
        return config
    searches = config.method == SEARCHES
    path = checkpoint_in(config.weights, STEPS[0] if searches else STEPS[1])
    before = stored_config(path) if path is not None else None
    if before is None:
        return config
    keys = BOTH if searches != (before.method == SEARCHES) else ARCHITECTURE[searches]
    base = {key: value for key in keys if (value := _value(before, key)) != ()}
    return resolve(recipe, file, settings, weights, base=base)


def _value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def trained(source: Path, epoch: str = "last") -> Config:
    """The configuration of a run folder's ``epoch`` (see :class:`Scoring`), or of a checkpoint file."""
    return trained_config(chosen_file(source, epoch))


def begins_with(
    folder: Path, stored: Config, section: Mapping[str, Any], given: str | None, *more: Path
) -> str:
    """What a continued run began with, or, where no epoch of it was finished, begins with: ``given`` if anything is.

    Args:
        section: what its file says; one from before the key ``weights`` has them in ``environment.json``, in ``folder``
            or in one of ``more``.
    """
    if given is not None and not (folder / "checkpoint" / LAST).exists():
        return given
    for place in (folder, *more) if "weights" not in section else ():
        try:
            found = from_json((place / "environment.json").read_text()).get("weights")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(found, str):
            return found
    return stored.weights


def _stored(path: Path) -> Config:
    """The configuration of a run folder; what is wrong with it is said with its name."""
    try:
        return from_yaml(path.read_text(encoding="utf-8", errors="replace"))
    except ReseenError as error:
        raise ReseenError(f"{path}: {error}") from error

"""Which configuration a ``reseen train`` means: recipe, file and settings, or that of the run it continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reseen.config import Config, from_yaml, read_tree, resolve
from reseen.errors import ReseenError
from reseen.files import from_json
from reseen.tasks.task import Settings
from reseen.training import LAST, trained_config
from reseen.training.run_folder import chosen_file


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
            else resolve(recipe, given.config, given.settings, begin)
        )
    else:
        resolved = resolve(recipe, given.config, given.settings, given.weights)
    expected = resolve(method)
    if (resolved.method, resolved.loss.symmetric) != (expected.method, expected.loss.symmetric):
        source = given.recipe or given.config or (stored if resume and given.plain else "--set")
        raise ReseenError(f"{source} is not a run of {method!r}: name its method")
    return resolved


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

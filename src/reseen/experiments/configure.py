"""Which configuration a ``reseen train`` means: recipe, file and settings, or that of the run it continues."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from reseen.config import Config, from_yaml, resolve
from reseen.errors import ReseenError

CROPS = ("cacl", "cscl", "spcl", "cluster-contrast")  # each is also the name of its recipe
SCENES = ("r-siamnet",)
TWO_STEP = "two-step"  # a run of each kind, one after the other


def known_method(method: str) -> None:
    """Raise ReseenError, with the nearest name, where there is no such method."""
    names = (*CROPS, *SCENES, TWO_STEP)
    if method not in names:
        near = difflib.get_close_matches(method, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}"
        raise ReseenError(f"there is no method {method!r}: {hint}")


def configuration(
    method: str, folder: Path, resume: bool, recipe: str | None, config: Path | None, settings: list[str]
) -> Config:
    """Recipe, file and settings; a resumed run without any of them takes its own ``config.yaml``."""
    stored = folder / "config.yaml"
    plain = recipe is None and config is None and not settings
    resolved = (
        _stored(stored)
        if resume and plain and stored.exists()
        else resolve(recipe or method, config, settings)
    )
    expected = resolve(method)
    if (resolved.method, resolved.loss.symmetric) != (expected.method, expected.loss.symmetric):
        source = recipe or config or (stored if resume and plain else "--set")
        raise ReseenError(f"{source} is not a run of {method!r}: name its method")
    return resolved


def stored_weights(folder: Path) -> str | None:
    """What a run that stopped before its first checkpoint began with."""
    try:
        found = json.loads((folder / "environment.json").read_text()).get("weights")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _stored(path: Path) -> Config:
    """The configuration of a run folder; what is wrong with it is said with its name."""
    try:
        return from_yaml(path.read_text(encoding="utf-8", errors="replace"))
    except ReseenError as error:
        raise ReseenError(f"{path}: {error}") from error

"""How much of a row is trained: ``full`` as published, ``small`` for two CPU cores, and what a data set asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from reseen.config import Config, resolve
from reseen.config.resolve import small_recipe
from reseen.config.sections import LITE
from reseen.reproduce.tables import MSMT17, TWO_STEP, Row, Table
from reseen.tasks import Settings
from reseen.tasks.two_step.config import TwoStepConfig, two_step_configuration

Scale = Literal["full", "small"]
STREET = "street"

# What the methods' authors change for a data set; Market-1501, DukeMTMC-reID, CUHK-SYSU and PRW need nothing.
PRESETS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    MSMT17: {"": ("train.iterations=800",), "cluster-contrast": ("train.iterations=400",)}
}

# Under a few hundred steps remembered features stay as they were and most images stay outliers, so that every ablation
# of CACL is one of noise: at the small scale Tables 3 to 7 embed anew each epoch and drop outliers.
ABLATION = ("cluster.features=fresh", "cluster.outliers=drop")
# Published as 16 identities x 16 images: a batch of 64 keeps the identities, since 4 x 16 leaves little to tell apart.
SMALL_BATCH = {"cluster-contrast": ("train.instances=4",)}


def settings_of(row: Row, table: Table, data: str, scale: Scale) -> tuple[str, ...]:
    """Everything that comes after the recipe: scale, data set (as its reader names it), then the row's own."""
    preset = PRESETS.get(data, {})
    if scale == "full":
        return (*preset.get(row.recipe, preset.get("", ())), *row.settings)
    drawn = data == STREET
    if row.recipe == TWO_STEP:
        return (*(f"detector.{word}" for word in _scenes(drawn)), *_second_step(), *row.settings)
    if table.task == "scenes":
        return (*_scenes(drawn), *row.settings)
    size = small_recipe("street-crops" if drawn else "crops")
    ablation = ABLATION if table.ablates and "no-clustering" not in row.recipe else ()
    return (*size, *SMALL_BATCH.get(row.recipe, ()), *ablation, *row.settings)


def configuration_of(
    row: Row,
    table: Table,
    data: str,
    scale: Scale,
    seed: int,
    extra: tuple[str, ...] = (),
    weights: str | None = None,
) -> Config | TwoStepConfig:
    """The resolved configuration of one row and seed; ``weights`` that bring their backbone, then ``extra`` settings
    come last."""
    lite = _lite(row, table, scale) if weights == "lite" else ()
    words = [*settings_of(row, table, data, scale), *lite, *extra, f"seed={seed}"]
    if row.recipe == TWO_STEP:
        return two_step_configuration(TWO_STEP, Path(), False, Settings(settings=tuple(words)))
    return resolve(row.recipe, None, words)


def _lite(row: Row, table: Table, scale: Scale) -> tuple[str, ...]:
    """Lite0 in place of a scale's backbone, wherever a network begins with weights at that scale."""
    own = (f"model.backbone={LITE}", "weights=lite")
    if row.recipe == TWO_STEP:
        steps = ("reid",) if scale == "small" else ("detector", "reid")
        return tuple(f"{step}.{word}" for step in steps for word in own)
    return () if scale == "small" and table.task == "scenes" else own


def _scenes(drawn: bool) -> tuple[str, ...]:
    return (*small_recipe("scenes"), *(small_recipe("street-scenes") if drawn else ()))


def _second_step() -> tuple[str, ...]:
    """Re-identification of the two-step competitor: as the small crops, in twice the steps of R-SiamNet's epochs."""
    return tuple(f"reid.{word}" for word in (*small_recipe("crops"), "train.epochs=10"))

"""The configuration of a two-step run: one for each step, given in one command (docs/methods/two-step.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from reseen.config import Config, from_yaml
from reseen.config.resolve import read_tree
from reseen.errors import ReseenError
from reseen.models.checkpoint import STEPS
from reseen.tasks.configure import begins_with, going_on
from reseen.tasks.crops import CROPS
from reseen.tasks.task import Settings

TWO_STEP, DETECTOR = "two-step", "r-siamnet"
DETECTION_ALONE = ("search.self_instance=false", "search.inter_instance=false", "search.cluster=false")


@dataclass(frozen=True)
class TwoStepConfig:
    """``detector``: R-SiamNet's without any loss but detection. ``reid``: of a method for crops."""

    detector: Config
    reid: Config

    def __post_init__(self) -> None:
        if self.detector.method != DETECTOR or self.detector.search.reidentifies:
            raise ReseenError(
                "the detector of two-step is r-siamnet's, trained for detection alone: leave detector.method, "
                "and detector.search.self_instance, inter_instance and cluster, as they are"
            )
        if self.reid.method not in CROPS.methods:
            raise ReseenError(f"the second step needs a recipe for crops, not {self.reid.recipe} (--recipe)")


def two_step_configuration(method: str, run_dir: Path, resume: bool, given: Settings) -> TwoStepConfig:
    """Recipe of the second step (default: spcl), a file with sections ``detector`` and ``reid``, and settings.

    ``detector.KEY=VALUE`` and ``reid.KEY=VALUE`` are for one step, ``KEY=VALUE`` for both. A resumed run without any of
    them takes its own. Both steps begin with the same ``weights``, unless file or settings say otherwise.

    Raises:
        ReseenError: a key, value or recipe that cannot be used (says which step), or ``run_dir`` holds another run.
    """
    begin = dict.fromkeys(STEPS, given.weights)
    if resume and (run_dir / "config.yaml").exists():
        stored, sections = read_two_step(run_dir), read_tree(run_dir / "config.yaml")
        for step in STEPS:
            begin[step] = begins_with(
                run_dir / step, getattr(stored, step), sections[step], given.weights, run_dir
            )
        if given.plain:
            steps = {step: replace(getattr(stored, step), weights=begin[step]) for step in STEPS}
            return TwoStepConfig(**steps)
    tree = read_tree(given.config) if given.config is not None else {}
    if not isinstance(tree, Mapping):
        raise ReseenError(
            f"{given.config}: expected the sections detector and reid, or lines of the form key: value"
        )
    shared = {key: value for key, value in tree.items() if key not in STEPS}
    resolved = {}
    for step, default in zip(STEPS, (DETECTOR, given.recipe or "spcl"), strict=True):
        own = tree.get(step) or {}
        if not isinstance(own, Mapping):
            raise ReseenError(f"{given.config}: {step} is a section; write for instance {step}: {{seed: 2}}")
        words = list(DETECTION_ALONE) if step == "detector" else []
        for setting in given.settings:
            first, dot, rest = setting.lstrip().partition(".")
            if first == step and dot:
                words.append(rest)
            elif first not in STEPS:
                words.append(setting)
        name = default if step == "reid" and given.recipe else str(own.get("recipe", default))
        try:
            resolved[step] = going_on(name, _merged(shared, own), words, begin[step])
        except ReseenError as error:
            raise ReseenError(f"{step}: {error}") from error
    return TwoStepConfig(**resolved)


def two_step_yaml(config: TwoStepConfig) -> str:
    """The text of a two-step run's ``config.yaml``."""
    sections = {step: asdict(getattr(config, step)) for step in STEPS}
    return str(yaml.safe_dump({"method": TWO_STEP, **sections}, sort_keys=False))


def read_two_step(folder: Path) -> TwoStepConfig:
    """The configuration of a two-step run. Raises ReseenError where the folder is not one, or damaged."""
    path = folder / "config.yaml"
    tree = read_tree(path)
    if not isinstance(tree, Mapping) or not all(isinstance(tree.get(step), Mapping) for step in STEPS):
        raise ReseenError(f"{path} is not that of a two-step run: start a new --run")
    try:
        return TwoStepConfig(**{step: from_yaml(yaml.safe_dump(tree[step])) for step in STEPS})
    except ReseenError as error:
        raise ReseenError(f"{path}: {error}") from error


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The step's own section over what is given for both."""
    result = dict(shared)
    for key, value in own.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            value = {**before, **value}
        result[key] = value
    return result

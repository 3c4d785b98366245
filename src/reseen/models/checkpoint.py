"""What reseen's own files of weights hold: one safetensors file each, verified, and read without pickle.

Tensors carry a prefix by their owner (``networks.``, ``optimizer.``, ``memory.``, ``rng.``, ``labels``); the rest
travels as JSON in the file's own metadata, beside a digest of all of it, so that a changed byte is noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reseen.config import Config, from_yaml
from reseen.errors import ReseenError
from reseen.files import from_json, to_json

LAST = "last.safetensors"
STEPS = ("detector", "reid")  # folders of a run in two steps, each a run
FORMAT = "reseen-1"


@dataclass(frozen=True)
class Checkpoint:
    """A verified file: its tensors by name and the JSON that travels with them."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    config: Config

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: t for name, t in self.tensors.items() if name.startswith(prefix)}

    @property
    def shipped(self) -> dict[str, Tensor]:
        """The branch that is evaluated and shipped, by its own names."""
        return self.under(f"networks.{self.state['deployed']}.")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify. Raises ReseenError when the file is missing, truncated, changed or not ours."""
    if not path.is_file():
        raise ReseenError(f"{path} is not a checkpoint: give a run folder or a file that reseen train wrote")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ReseenError(
            f"{path} is damaged or not a checkpoint ({error}): use another checkpoint"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ReseenError(f"{path} was not written by reseen train: load foreign weights with --weights")
    if metadata.get("digest") != digest_of(tensors, metadata.get("state", "")):
        raise ReseenError(f"{path} was changed after it was written (digest differs): use another checkpoint")
    with of_this_version(path):
        state = from_json(metadata["state"])
        for key, kind in {"config": str, "epoch": int, "deployed": str}.items():
            if not isinstance(state[key], kind):
                raise TypeError(f"{key} is {state[key]!r}")
        return Checkpoint(tensors, state, from_yaml(state["config"]))


@contextmanager
def of_this_version(path: Path) -> Iterator[None]:
    """Read what a file of a later version, or of a program that imitates ours, may not have or may call otherwise.

    Raises:
        ReseenError: the block met a missing name, another type or another shape.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReseenError(
            f"{path} is not a checkpoint of this version of reseen ({why}): read it with the version that wrote it"
        ) from error


def stored_config(path: Path) -> Config | None:
    """The configuration that a checkpoint file was made with, from its header alone; None where it is none of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") == FORMAT:
            return from_yaml(from_json(metadata["state"])["config"])
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, ReseenError):
        pass
    return None


def trained_config(source: Path) -> Config:
    """The configuration of a run folder's last checkpoint or of a checkpoint file, from its header alone.

    Raises:
        ReseenError: the file is missing, truncated or not ours.
    """
    path = source / "checkpoint" / LAST if source.is_dir() else source
    return stored_config(path) or read_checkpoint(path).config  # which says what is wrong


def checkpoint_in(source: str | Path, part: str) -> Path | None:
    """The checkpoint file that ``source`` names: itself, or the last one of a run folder; None: it is none of ours.

    Args:
        part: of a run in two steps, the one that is meant (one of :data:`STEPS`).

    Raises:
        ReseenError: a folder without a checkpoint.
    """
    place = Path(source)
    if not place.is_dir():
        return place if place.is_file() and stored_config(place) is not None else None
    for run in (place, place / part):
        if (run / "checkpoint" / LAST).is_file():
            return run / "checkpoint" / LAST
    raise ReseenError(
        f"--weights {source}: a folder without checkpoint/{LAST}: give a run folder, a file, or imagenet, lite or none"
    )


def model_fingerprint(weights: Mapping[str, Tensor], preprocessing: Mapping[str, Any]) -> str:
    """Hex digest of weights and of how images are made ready for them: features are only compared within a model."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return digest_of(plain, to_json(preprocessing, sort_keys=True), size=16)


def digest_of(tensors: Mapping[str, Tensor], state: str, size: int = 20) -> str:
    """BLAKE2b over names, types, shapes and bytes, in the order of the names."""
    result = hashlib.blake2b(state.encode(), digest_size=size)
    for name in sorted(tensors):
        tensor = tensors[name]
        result.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        result.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return result.hexdigest()

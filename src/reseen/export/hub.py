"""A model as a folder for a hub: weights as safetensors, what they are as JSON, and a card for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reseen import __version__
from reseen.errors import ReseenError
from reseen.export.card import card
from reseen.export.graphs import crop_preprocessing, scene_preprocessing
from reseen.export.onnx_files import REMEDY
from reseen.files import new_folder, to_json, write_file
from reseen.inference import Embedder, PersonSearcher, load_model
from reseen.models.checkpoint import STEPS
from reseen.training import read_checkpoint
from reseen.training.checkpoint import write_checkpoint
from reseen.training.run_folder import SHIPPED, chosen_file


def write_hub(model: Embedder | PersonSearcher, source: Path, out: Path, *, licence: str) -> list[str]:
    """Write the folder from a run folder or a checkpoint file ``source``, whose model ``model`` is, and load it again.

    Raises:
        ReseenError: ``out`` exists or cannot be written; nothing is left of the folder then.
    """
    steps = STEPS if isinstance(model, PersonSearcher) and model.second is not None else ("",)
    with new_folder(out, REMEDY) as folder:
        for step in steps:
            _write_weights(source / step if step else source, folder / step)
        write_file(folder / "config.json", to_json(_description(model, licence), indent=2) + "\n", REMEDY)
        write_file(folder / "README.md", card(model, source, licence), REMEDY)
        if load_model(folder, device="cpu").fingerprint != model.fingerprint:
            raise ReseenError(f"{out}: what was written is not what was read: try again")
    return [f"{out}: safetensors, config.json and README.md, read again and equal bit for bit"]


def _write_weights(source: Path, folder: Path) -> None:
    """The shipped branch alone, without what only training needs."""
    checkpoint = read_checkpoint(chosen_file(source, "last"))
    deployed = checkpoint.state["deployed"]
    prefix = f"networks.{deployed}."
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)}
    state = {key: checkpoint.state[key] for key in ("config", "epoch", "deployed")}
    write_checkpoint(folder / SHIPPED, tensors, state)


def _description(model: Embedder | PersonSearcher, licence: str) -> Mapping[str, Any]:
    about: dict[str, Any] = {
        "format": "reseen-hub-1",
        "reseen": __version__,
        "licence": licence,
        "fingerprint": model.fingerprint,
    }
    if isinstance(model, Embedder):
        return about | {
            "crops": crop_preprocessing(model.config, grey=model.grey),
            "config": _settings(model.config),
        }
    about |= {"scenes": scene_preprocessing(model.config), "config": _settings(model.config)}
    return about if model.second is None else about | {"second_step": _description(model.second, licence)}


def _settings(config: Any) -> dict[str, Any]:
    """All of them; a file of weights by its name."""
    return asdict(config) | {"weights": Path(config.weights).name}

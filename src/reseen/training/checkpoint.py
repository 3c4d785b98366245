"""One safetensors file holds everything needed to go on; it is replaced atomically. models/checkpoint.py reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from reseen.config import Config, differences, to_yaml
from reseen.errors import ReseenError
from reseen.files import REMEDY, new_file, to_json
from reseen.models.checkpoint import FORMAT, LAST, Checkpoint, digest_of, of_this_version, read_checkpoint
from reseen.training.run import Run, learning_rate

# None of them changes what is computed; weights are read before the first epoch only.
MAY_CHANGE = {"train.device", "data.workers", "train.evaluate_every", "weights"}

SCHEDULE = {"train.epochs", "train.lr_steps"}  # may, where each finished epoch would have had the same rate


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write all that goes on living, and its digest.

    Raises:
        ReseenError: the disk is full or the folder not writable; the previous file is untouched.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = to_json(dict(state), sort_keys=True)
    kept = "; the last good checkpoint is untouched, continue with --resume"
    write_tensors(
        path,
        plain,
        {"format": FORMAT, "state": text, "digest": digest_of(plain, text)},
        remedy=REMEDY + (kept if (path.parent / LAST).exists() else "; no epoch is saved yet"),
    )


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None, *, remedy: str
) -> None:
    """A safetensors file, written as :func:`reseen.files.new_file` does."""
    with new_file(path, remedy) as temporary:
        try:
            save_file({name: t.contiguous() for name, t in tensors.items()}, temporary, metadata)
        except SafetensorError as error:  # how it says that the disk is full
            raise OSError(str(error)) from error


def save_run(run: Run, path: Path, *, data: str, deployed: str) -> None:
    """Everything of ``run``. ``data`` is the fingerprint of its images, ``deployed`` the branch that is shipped."""
    tensors: dict[str, Tensor] = {f"networks.{n}": t for n, t in run.networks.state_dict().items()}
    tensors |= {f"memory.{name}": tensor for name, tensor in run.memory.items()}
    tensors["labels"] = torch.from_numpy(run.labels)
    for index, slots in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors["rng.cpu"] = torch.get_rng_state()
    if run.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(run.device)
    state = {
        "config": _shareable(run.config),
        "epoch": run.epoch,
        "history": run.history,
        "scaler": run.scaler.state_dict(),
        "data": data,
        "deployed": deployed,
    }
    write_checkpoint(path, tensors, state)


def restore_run(run: Run, path: Path, *, data: str) -> None:
    """Put a checkpoint back into a freshly built ``run``, in place.

    Raises:
        ReseenError: the file is damaged, or belongs to another configuration or other images.
    """
    checkpoint = read_checkpoint(path)
    may_change = MAY_CHANGE | (SCHEDULE if _same_rates(checkpoint, run.config) else set())
    changed = [key for key in differences(checkpoint.config, run.config) if key not in may_change]
    if changed:
        raise ReseenError(
            f"{path} was made with other settings ({', '.join(changed)}): resume without changing them, "
            "or start a new run with --run"
        )
    if checkpoint.state.get("data") != data:
        raise ReseenError(
            f"{path} was trained on other images than --data holds now: give the same data (and --camera-pattern), "
            "or start a new --run"
        )
    with of_this_version(path):
        _put_back(run, checkpoint)


def _put_back(run: Run, checkpoint: Checkpoint) -> None:
    run.networks.load_state_dict(checkpoint.under("networks."))
    _restore_optimizer(run.optimizer, checkpoint.under("optimizer."))
    run.memory = {name: tensor.to(run.device) for name, tensor in checkpoint.under("memory.").items()}
    run.labels = checkpoint.tensors["labels"].numpy()
    run.scaler.load_state_dict(checkpoint.state["scaler"])
    run.epoch, run.history = checkpoint.state["epoch"], checkpoint.state["history"]
    torch.set_rng_state(checkpoint.tensors["rng.cpu"])
    if run.device.type == "cuda" and "rng.cuda" in checkpoint.tensors:
        torch.cuda.set_rng_state(checkpoint.tensors["rng.cuda"], run.device)


def _same_rates(checkpoint: Checkpoint, config: Config) -> bool:
    """Whether the finished epochs would have had the same learning rate under ``config``: it is only longer, or cuts
    the rate later on."""
    done = range(checkpoint.state["epoch"])
    return all(learning_rate(checkpoint.config, epoch) == learning_rate(config, epoch) for epoch in done)


def save_encoder(
    path: Path, weights: Mapping[str, Tensor], run: Run, deployed: str, *, epoch: int, why: str
) -> None:
    """The shipped branch alone, as :func:`load_encoder` needs it, and why its epoch was kept."""
    tensors = {f"networks.{deployed}.{name}": tensor for name, tensor in weights.items()}
    state = {"config": _shareable(run.config), "epoch": epoch, "why": why, "deployed": deployed}
    write_checkpoint(path, tensors, state)


def _shareable(config: Config) -> str:
    """The configuration as YAML; a file of weights by its name, for the folders of a machine are nobody's business."""
    return to_yaml(replace(config, weights=Path(config.weights).name))


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, slot = name.split(".")
        state.setdefault(int(index), {})[slot] = tensor
    groups = optimizer.state_dict()["param_groups"]  # the learning rate in it is set anew every epoch
    optimizer.load_state_dict({"state": state, "param_groups": groups})

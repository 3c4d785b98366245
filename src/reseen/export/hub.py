"""A model as a folder for a hub: weights as safetensors, what they are as JSON, and a card for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reseen import __version__
from reseen.errors import ReseenError
from reseen.export.graphs import crop_preprocessing, scene_preprocessing
from reseen.export.onnx_files import REMEDY
from reseen.files import new_folder, to_json, write_file
from reseen.inference import Embedder, PersonSearcher, load_model
from reseen.models.checkpoint import STEPS
from reseen.models.weights import pretrained_name
from reseen.training import read_checkpoint
from reseen.training.checkpoint import write_checkpoint
from reseen.training.run_folder import EVALUATIONS, SHIPPED, chosen_file, read_lines, read_metrics

TEMPLATE = Path(__file__).with_name("card.md")
NOT_STATED = "not stated"  # licence
_COLUMNS = (
    "mean_ap",
    "rank1",
    "rank5",
    "rank10",
    "top1",
    "top5",
    "top10",
    "detection_ap",
    "detection_recall",
)


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


def card(model: Embedder | PersonSearcher, source: Path, licence: str) -> str:
    """Markdown with the front matter that hubs read: what a model was made of, what was measured, what it is not for;
    only what the run wrote down."""
    config, crops = model.config, isinstance(model, Embedder)
    begun = pretrained_name(config.weights, config.model.backbone)
    what = "Crops of persons to features: the inner product of two is their similarity."
    code = 'features = reseen.Embedder.load("THIS FOLDER")(["a.jpg", "b.jpg"])'
    if not crops:
        what = "Scenes to persons: where they are, and features by which the same person is found again."
        code = 'persons = reseen.PersonSearcher.load("THIS FOLDER")("scene.jpg")'
    return TEMPLATE.read_text(encoding="utf-8").format(
        licence="other" if licence == NOT_STATED else licence,
        tag="person-re-identification" if crops else "person-search",
        title=f"{config.method}, {config.model.backbone}",
        what=what,
        version=__version__,
        method=config.method,
        recipe=Path(config.recipe).name,
        fingerprint=model.fingerprint,
        code=code,
        data=_data(source, begun) + (f" Licence of the weights: {licence}." if licence == NOT_STATED else ""),
        scores=_scores(source),
    )


def _data(source: Path, begun: str) -> str:
    names = sorted({str(line["data"]) for line in _evaluations(source) if line.get("data")})
    tested = f" Scored on {', '.join(names)}." if names else ""
    return (
        f"Initial weights: {begun}. The run kept a fingerprint of the images it was trained on and not their name: "
        f"say here which they are, how many, who took them and who agreed.{tested}"
    )


def _scores(source: Path) -> str:
    """What ``reseen evaluate`` and the last epoch wrote down, as they are."""
    rows = [
        (str(line.get("data", "")), f"`reseen evaluate`, {_how(line)}", line) for line in _evaluations(source)
    ]
    tested = (
        [line for line in read_metrics(source) if isinstance(line.get("test"), Mapping)]
        if source.is_dir()
        else []
    )
    if tested:
        rows.append(("its own test part", f"after epoch {tested[-1]['epoch']}", tested[-1]["test"]))
    columns = [name for name in _COLUMNS if any(isinstance(line.get(name), float) for _, _, line in rows)]
    if not columns:
        return "The run recorded none: `reseen evaluate RUN --data PATH` measures, and the next export tells."
    head = ("data", "protocol", *columns)
    table = [head, ("---",) * len(head)]
    for data, how, line in rows:
        values = (line.get(name) for name in columns)
        table.append((data, how, *(f"{100 * v:.1f}" if isinstance(v, float) else "" for v in values)))
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return f"{lines}\n\nIn %, by the protocol of the benchmark whose layout the data has."


def _how(line: Mapping[str, Any]) -> str:
    words = [f"epoch {line['epoch']}" if "epoch" in line else "", str(line.get("chosen", ""))]
    words += ["re-ranked"] if line.get("rerank") else []
    words += [f"gallery {line['gallery']}"] if line.get("gallery") else []
    return ", ".join(filter(None, words))


def _evaluations(source: Path) -> list[dict[str, Any]]:
    return read_lines(source / EVALUATIONS, key="mean_ap").records if source.is_dir() else []

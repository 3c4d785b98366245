"""The card of a model: what it was made of, what was measured, what it is not for; only what the run wrote down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reseen import __version__
from reseen.inference import Embedder, PersonSearcher
from reseen.models.weights import pretrained_name
from reseen.training.run_folder import EVALUATIONS, read_lines, read_metrics

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


def card(model: Embedder | PersonSearcher, source: Path, licence: str) -> str:
    """Markdown with the front matter that hubs read."""
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

"""The report of a run folder: what was trained, what it scored and how the scores were chosen."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.evaluation.protocol import REASONS, scored_of, unscored
from reseen.files import from_json, to_json, write_file
from reseen.pages.page import Section, read_picture, write_report
from reseen.pages.tables import Table, cell, is_score, label, summary_table
from reseen.reports.curves import Epoch, curves
from reseen.training import chosen_epochs
from reseen.training.run_folder import EVALUATIONS, METRICS, at, read_config, read_lines, read_metrics

LONG = 40  # epochs; a longer table is folded
CHOICES = {  # how an epoch is chosen, in the words of the report
    "last": "nothing is chosen",
    "label-free": "highest criterion, no identity read",
    "best-on-test": "highest test mAP, test labels read",
}
# Saved pictures that have a place and a caption of their own; others follow by name.
PICTURES = {
    "ranked-lists": "A query and its nearest gallery images, nearest first, without the images that the "
    "protocol leaves out. A whole green frame with a tick is the same person; a dashed one with a cross is "
    "someone else.",
    "augmentation": "What training sees: the raw image, T, T', grey after T' and colour jitter after T'. The "
    "last three share one draw of T', so that only what follows it differs (Fig. 2 and 4 of the paper).",
    "tsne": "The same images under each model; colour and shape stand for the identity. Below, the "
    "window of each map is enlarged: it lies around the person on whom the models differ most, whichever is the "
    "better one. A whole green frame is that person, a dashed one somebody else; a dot or a cross has no room for its "
    "image. The share is counted in the full feature space, by cosine (Fig. 6 of the paper).",
}
SCENE_PICTURES = {  # of runs that search scenes
    "search-result": "On the left whom is searched for: the scene with the given box, and the person cut out of it. "
    "Then the detections that are most like it, most similar first, of all gallery scenes together. A whole green "
    "box with a tick is the right person; a dashed one with a cross is someone else, or the right person in a box "
    "that fits badly.",
    "tsne": "The same boxes under each model; colour and shape stand for the identity (Fig. 6 of the paper).",
}


@dataclass(frozen=True)
class Words:
    """How a run's page speaks of its data, and the pictures that have a place on it."""

    persons: str
    images: str
    pictures: Mapping[str, str]
    reads_cameras: bool


OF_CROPS = Words("images", "images without labels", PICTURES, reads_cameras=True)
# scenes are drawn evenly, and their persons are clustered by what they look like
OF_SCENES = Words("boxes", "persons in scenes, without identities", SCENE_PICTURES, reads_cameras=False)
EPOCH_COLUMNS: tuple[tuple[str, tuple[str, ...], bool], ...] = (  # heading, keys, in percent
    ("epoch", ("epoch",), False),
    ("mAP", ("test", "mean_ap"), True),
    ("rank-1", ("test", "rank1"), True),
    ("top-1", ("test", "top1"), True),
    ("detection AP", ("test", "detection_ap"), True),
    ("detection recall", ("test", "detection_recall"), True),
    ("loss", ("loss", "total"), False),
    ("clusters", ("clusters",), False),
    ("outliers", ("outliers",), False),
    ("across cameras", ("cross_camera_share",), True),
    ("feature spread", ("feature_spread",), False),
    ("label-free", ("label_free",), False),
    ("ARI", ("diagnostics", "ari"), False),
    ("pair precision", ("diagnostics", "pair_precision"), True),
    ("pair recall", ("diagnostics", "pair_recall"), True),
    ("seconds", ("seconds", "epoch"), False),
)


def run_report(run_dir: Path, *, words: Words = OF_CROPS) -> Path:
    """Write ``run_dir/report/index.html`` from what the run folder holds; returns its path.

    Reads ``config.yaml``, ``metrics.jsonl``, ``environment.json``, ``evaluations.jsonl``,
    ``report/comparison.json`` (:func:`save_comparison`) and pictures ``report/*.png``. What is
    missing is left out, and the page says so. Raises :class:`ReseenError` when ``run_dir`` is no run
    folder or cannot be written.
    """
    if not (run_dir / "config.yaml").exists() and not (run_dir / "metrics.jsonl").exists():
        raise ReseenError(
            f"{run_dir} is not a run folder (no config.yaml, no metrics.jsonl): train with --run {run_dir}"
        )
    metrics, config = read_metrics(run_dir), read_config(run_dir)
    sections = [
        _results(metrics, config, words),
        *_comparison(run_dir),
        *_warnings(metrics),
        *_curves(metrics),
        *pictures(run_dir, words.pictures),
        *_epochs(metrics, words.persons),
        *evaluations(run_dir),
        *left_out(run_dir),
        *settings(run_dir),
    ]
    name = f"{config.get('recipe') or config.get('method') or 'run'} · {run_dir.resolve().name}"
    return write_report(run_dir, sections=sections, title=name, lede=_lede(metrics, config, words))


def _lede(metrics: Sequence[Epoch], config: Mapping[str, Any], words: Words) -> str:
    if not metrics:
        return "No epoch is finished yet."
    done, planned = int(metrics[-1]["epoch"]), at(config, "train", "epochs")
    parts = [f"{done} of {planned} epochs" if planned else f"{done} epochs"]
    if (images := at(metrics[-1], "images")) is not None:
        parts.append(f"{images:,} {words.images}")
    if (method := config.get("method")) is not None:
        parts.append(f"method {method}")
    if (seed := config.get("seed")) is not None:
        parts.append(f"seed {seed}")
    return ", ".join(parts) + "."


def _cameras_read(metrics: Sequence[Epoch], config: Mapping[str, Any], words: Words) -> str:
    """Whether training used camera ids: they must be known, and something must ask for them."""
    if not config:
        return "unknown (no config.yaml)"
    if not words.reads_cameras:
        return "no"
    asked = (
        at(config, "data", "camera_aware") == "auto"
        or bool(at(config, "cluster", "camera_standardise"))
        or bool(at(config, "loss", "camera_weight"))
    )
    return "yes" if asked and any(at(e, "cross_camera_share") is not None for e in metrics) else "no"


def _results(metrics: Sequence[Epoch], config: Mapping[str, Any], words: Words) -> Section:
    """One row per way to choose an epoch; the text says which of them needed labels."""
    chosen, by_number = chosen_epochs(metrics), {int(e["epoch"]): e for e in metrics}
    tests = [e["test"] for e in metrics if isinstance(e.get("test"), Mapping)]
    if not metrics:
        return Section("Result", "There is no finished epoch, so there is nothing to score.")
    keys = [key for key in dict.fromkeys(k for test in tests for k in test) if is_score(key)]
    cameras, counted = _cameras_read(metrics, config, words), any(map(scored_of, tests))
    rows = []
    for name, how in CHOICES.items():
        if name not in chosen:
            continue
        test = at(by_number.get(chosen[name], {}), "test") or {}
        scores = [cell(test.get(key), percent=True) for key in keys]
        asked = [cell(scored_of(test))] if counted else []
        rows.append((name, str(chosen[name]), *scores, *asked, cameras, how))
    heads = [*map(label, keys), *(["queries scored"] if counted else [])]
    columns = ("choice", "epoch", *heads, "camera ids in training", "chosen by")
    if not tests:
        text = "No test scores: the data has no queries, or no epoch was scored yet."
    else:
        text = (
            "The same run under each way to choose its epoch. The last and the label-free choice can be had "
            "without labels; best-on-test looks at the test labels, as the papers do, and flatters the run."
        )
    if tests and (why := unscored(tests[-1])):
        text += f"\n\nThe scores are of a part of the queries: the others are {why}."
    if "label-free" in chosen and tests and at(by_number.get(chosen["label-free"], {}), "test") is None:
        text += (
            f"\n\nThe label-free choice, epoch {chosen['label-free']}, was not scored during training: "
            "`reseen evaluate` scores its checkpoint."
        )
    if "label-free" not in chosen:
        text += "\n\nThis run recorded no label-free criterion, so there is no label-free choice."
    return Section("Result", text, table=Table(columns, tuple(rows), "Scores in %." if keys else ""))


def save_comparison(run_dir: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Keep rows of :func:`summary_table` in the run folder, so that every later report shows them too."""
    content = to_json([dict(row) for row in rows], indent=2) + "\n"
    write_file(run_dir / "report" / "comparison.json", content)


def _comparison(run_dir: Path) -> list[Section]:
    path = run_dir / "report" / "comparison.json"
    try:
        return [Section("Comparison", table=summary_table(from_json(path.read_text())))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError, ReseenError):
        return [Section("Comparison", f"{path.name} cannot be read and is left out.")]


def _warnings(metrics: Sequence[Epoch]) -> list[Section]:
    """Each different warning once, with the epochs it came in."""
    if not metrics:
        return []
    epochs: dict[str, list[int]] = {}
    for epoch in metrics:
        for text in epoch.get("warnings") or ():
            epochs.setdefault(str(text), []).append(int(epoch["epoch"]))
    if not epochs:
        return [Section("Warnings", "None: no epoch showed a sign of trouble.")]
    items = tuple(f"Epoch {_ranges(when)}: {text}" for text, when in epochs.items())
    return [Section("Warnings", "Signs of trouble, with the setting to change.", items=items)]


def _ranges(numbers: Sequence[int]) -> str:
    """``[1, 2, 3, 5]`` -> ``1–3, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs)


def _curves(metrics: Sequence[Epoch]) -> list[Section]:
    try:
        figure = curves(metrics)
    except ReseenError:
        return [Section("Curves", "There are no curves: no epoch is finished.")]
    last = metrics[-1]
    known = [
        f"{name} {cell(value)}"
        for name, value in (
            ("loss", at(last, "loss", "total")),
            ("clusters", last.get("clusters")),
            ("outliers", last.get("outliers")),
            ("test mAP", at(last, "test", "mean_ap")),
        )
        if value is not None
    ]
    alt = f"Line charts over {len(metrics)} epochs. At the last: {', '.join(known)}. All values: Epochs."
    text = (
        "Identities, where they are known, are read after an epoch, for the diagnostics; never by training."
    )
    return [Section("Curves", text, figure=figure, alt=alt)]


def pictures(run_dir: Path, texts: Mapping[str, str]) -> list[Section]:
    """The PNG files of the report folder but the curves, those named in ``texts`` first."""
    files = sorted((run_dir / "report").glob("[!.]*.png"))
    found = {path.stem: path for path in files if path.stem != "curves"}
    sections, missing = [], [name for name in texts if name not in found]
    for name in [*(name for name in texts if name in found), *(name for name in found if name not in texts)]:
        try:
            _, inside = read_picture(found[name])
        except ReseenError as error:
            sections.append(Section(name, f"Left out: {error}."))
            continue
        title = inside.get("Title") or name.replace("-", " ").capitalize()
        text = "\n\n".join(filter(None, (inside.get("Description"), texts.get(name))))
        alt = f"{title}: described in the text above." if text else title
        sections.append(Section(title, text, figure=found[name], alt=alt))
        sections += _names(found[name].with_suffix(".csv"), title)
    if missing:
        sections.append(Section("Not shown", f"No picture was saved for: {', '.join(missing)}."))
    return sections


def _names(path: Path, title: str) -> list[Section]:
    """The images of a picture by name, where they were written down beside it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            columns, *rows = csv.reader(file)
            table = Table(tuple(columns), tuple(tuple(map(shown, row)) for row in rows))
    except (OSError, ValueError, csv.Error, ReseenError):
        return []
    text = f"The images of the picture above, as the data names them; the same is in {path.name} beside it."
    return [Section(f"{title}, by name", text, table=table, folded=True)]


def _epochs(metrics: Sequence[Epoch], what: str) -> list[Section]:
    columns = [c for c in EPOCH_COLUMNS if any(at(epoch, *c[1]) is not None for epoch in metrics)]
    if not columns:
        return []
    rows = tuple(tuple(cell(at(epoch, *keys), percent=p) for _, keys, p in columns) for epoch in metrics)
    text = f"Clusters are of two {what} or more; outliers are the other {what}."
    percent = [name for name, _, p in columns if p]
    caption = f"In %: {', '.join(percent)}." if percent else ""
    table = Table(tuple(name for name, *_ in columns), rows, caption)
    return [Section("Epochs", text, table=table, folded=len(metrics) > LONG)]


def evaluations(run_dir: Path) -> list[Section]:
    rows = read_lines(run_dir / EVALUATIONS, key="mean_ap").records
    if not rows:
        return []
    text = "What `reseen evaluate` measured afterwards, in the order of the calls."
    return [Section("Evaluations", text, table=summary_table([covered(row) for row in rows]))]


def covered(row: Mapping[str, Any]) -> dict[str, Any]:
    """A record of an evaluation, its counts of queries in words."""
    counts = ("queries", "scored", "unknown_camera", *REASONS)
    told = {"queries scored": scored_of(row), "not scored": unscored(row) or None}
    kept = {key: value for key, value in told.items() if value is not None}
    return {key: value for key, value in row.items() if key not in counts} | kept


def left_out(run_dir: Path) -> list[Section]:
    """Lines of the run's files that cannot be read, each named."""
    files = ((METRICS, "epoch"), (EVALUATIONS, "mean_ap"))
    lines = tuple(line for name, key in files for line in read_lines(run_dir / name, key=key).left_out)
    return [Section("Left out", "Lines that cannot be read.", items=lines)] if lines else []


def settings(run_dir: Path) -> list[Section]:
    """Configuration and environment as they were written."""
    sections = []
    for title, name in (("Configuration", "config.yaml"), ("Environment", "environment.json")):
        try:
            sections.append(Section(title, code=(run_dir / name).read_text(errors="replace"), folded=True))
        except OSError:
            sections.append(Section(title, f"{name} is missing from the run folder and is left out."))
    return sections

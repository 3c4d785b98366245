"""A run from its first epoch to its last: build or resume, train, save, record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch

from reseen.config import Config, to_yaml
from reseen.data import fingerprint
from reseen.distributed import ALONE, Ranks
from reseen.errors import ReseenError
from reseen.files import to_json, write_file
from reseen.models import load_weights, resolve_precision
from reseen.models.checkpoint import LAST, trained_config
from reseen.models.weights import load_around, pretrained_name
from reseen.records import persons_of
from reseen.training.checkpoint import restore_run, save_encoder, save_run
from reseen.training.environment import environment
from reseen.training.epoch import EpochStats, train_epoch
from reseen.training.held import held
from reseen.training.parallel import check_batch
from reseen.training.run import Images, Method, Run, Step, learning_rate
from reseen.training.settle import measured_precision, settled

Watch = Callable[
    [Run, Method[Any, Any]], dict[str, Any]
]  # diagnostics and test scores, from outside of training
Say = Callable[[str], None]
SGD_MOMENTUM = 0.9
START, BEST, LABEL_FREE = "start.safetensors", "best-on-test.safetensors", "label-free.safetensors"


def new_run(
    config: Config,
    method: Method[Any, Any],
    *,
    weights: str | Path,
    say: Say,
    ranks: Ranks = ALONE,
    measure: bool = False,
) -> Run:
    """Networks, optimiser and an empty memory. Equal seeds give equal networks.

    Args:
        weights: what is loaded now (see :func:`reseen.models.load_weights`), by the first of several processes only,
            so that one download is enough.
        measure: a precision of "auto" is the faster one for this network, and the run's configuration then names
            it; False: the one that the hardware has.
    """
    torch.manual_seed(config.seed)
    ranks = ranks.on(config.train.device)
    device = ranks.device
    encoder: Any = method.encoder(config)
    said = ranks.broadcast(lambda: load_weights(encoder, weights).summary()) if weights != "none" else ""
    torch.manual_seed(config.seed)  # again: loading weights may have drawn
    networks = method.build(config, encoder)
    around = method.deployed(networks)
    if around is not encoder and weights != "none":  # of a trained network more than the encoder is known
        said = ranks.broadcast(lambda: load_around(around, weights)) or said
    if said:
        say(said)
    networks = networks.to(device)
    if config.train.channels_last:
        networks = networks.to(memory_format=torch.channels_last)
    ranks.send_from_first(networks.state_dict().values())
    precision: str = config.train.precision
    if measure:

        def forward(trial: torch.nn.Module, count: int) -> torch.Tensor:
            return method.rehearse(trial, config, count)

        precision = ranks.broadcast(lambda: measured_precision(networks, forward, device, precision, say))
        config = replace(config, train=replace(config.train, precision=cast(Any, precision)))
    precision = resolve_precision(device, precision)
    ranks.agree(precision, "computes in another precision", "set train.precision=none")
    moving = [p for p in networks.parameters() if p.requires_grad]
    lr, decay = config.train.lr, config.train.weight_decay
    optimizer = (
        torch.optim.Adam(moving, lr=lr, weight_decay=decay)
        if config.train.optimizer == "adam"
        else torch.optim.SGD(moving, lr=lr, weight_decay=decay, momentum=SGD_MOMENTUM)
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    return Run(config, networks, optimizer, scaler, device, precision, ranks=ranks)


def fit(
    config: Config,
    images: Images,
    method: Method[Images, Any],
    *,
    folder: Path,
    root: Path,
    weights: str | Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    step: Step | None = None,
    say: Say = print,
    ranks: Ranks = ALONE,
) -> Run:
    """Train ``method`` on ``images`` and leave a self-describing run folder.

    On several processes each calls this; the first alone writes, and all must see ``folder`` to resume.

    Args:
        images: crops, or scenes with boxes; this function and all it calls never see an identity.
        folder: the run folder; ``root``: the data folder that relative names are taken from.
        weights: what the networks begin with, in place of ``config.weights``.
        resume: continue ``folder``'s last checkpoint; without one, start over.
        watch: called after each epoch (by every process); what it returns is added to the epoch's record.
        step: progress of the running epoch; ``say``: one line for the user.
        ranks: the processes that train together, from :func:`reseen.training.join`.

    Raises:
        ReseenError: see :func:`train_epoch`, :func:`restore_run`, :func:`held`; or ``folder`` already holds a run.
    """
    if weights is not None:
        config = replace(config, weights=str(weights))
    data = fingerprint(images, root)
    check_batch(config, ranks, grouped=method.groups_batch)
    ranks.agree(_everywhere(config), "has other settings", "give each the same words")
    ranks.agree(data, "sees other images", "give each the same --data")
    with held(folder, ranks) as still_there:
        run = _opened(config, images, method, folder, data, resume, step, say, ranks)
        while run.epoch < run.config.train.epochs:
            started, before = time.perf_counter(), _copy(run, method)
            stats = train_epoch(run, images, method)
            run.epoch += 1
            record = _record(run, method, stats, watch)
            record["seconds"]["epoch"] = time.perf_counter() - started
            run.history.append(_finite(record))
            ranks.broadcast(still_there)
            if ranks.first:
                _save(run, method, before, folder, data)
            say(describe(run.history[-1], run.config))
            for line in record["warnings"]:
                say(f"  warning: {line}")
            ranks.wait()  # the first has written, and may have scored
    return run


def _opened(
    config: Config,
    images: Images,
    method: Method[Images, Any],
    folder: Path,
    data: str,
    resume: bool,
    step: Step | None,
    say: Say,
    ranks: Ranks,
) -> Run:
    """A new run, or the one that ``folder`` holds, ready for its next epoch."""
    last = folder / "checkpoint" / LAST
    begun = ranks.broadcast(last.exists)
    if begun and not resume:
        raise ReseenError(f"{folder} already holds a run: continue it with --resume, or choose another --run")
    continued = trained_config(last) if begun else None
    config = settled(config, int(persons_of(images).sum()), continued, draws=method.draws)
    start = "none" if begun else config.weights
    run = new_run(config, method, weights=start, say=say, ranks=ranks, measure=not begun)
    run.step = step or run.step
    if begun:
        restore_run(run, last, data=data)
        say(f"continuing {folder} after epoch {run.epoch} of {run.config.train.epochs}")
    if ranks.first:
        _begin(run, method, folder, continued=begun)
    if run.epoch == 0:
        method.start(run, images)
    return run


def _save(
    run: Run, method: Method[Any, Any], before: dict[str, torch.Tensor], folder: Path, data: str
) -> None:
    """The files of a finished epoch. ``before``: the shipped branch that it began with."""
    deployed = deployed_name(run, method)
    _keep_chosen(run, method, before, folder, deployed)
    save_run(run, folder / "checkpoint" / LAST, data=data, deployed=deployed)  # from here on the epoch counts
    _write_metrics(folder, run)


def _record(run: Run, method: Method[Any, Any], stats: EpochStats, watch: Watch | None) -> dict[str, Any]:
    """What is kept of the epoch that just ended: its statistics, signs of trouble, and what ``watch`` measured."""
    record = {"epoch": run.epoch, "lr": learning_rate(run.config, run.epoch - 1), **asdict(stats)}
    signs = (sign(stats, run.config, run.epoch, run.labels) for sign in method.signs)
    record["warnings"] = [line for line in signs if line]
    return record | (watch(run, method) if watch is not None else {})


def _everywhere(config: Config) -> str:
    """The settings in which machines may not differ."""
    data, train = replace(config.data, workers=0), replace(config.train, device="auto")
    # The first process alone reads weights: where it has them is its own business.
    return to_yaml(replace(config, weights="imagenet", data=data, train=train))


def _begin(run: Run, method: Method[Any, Any], folder: Path, *, continued: bool) -> None:
    """The files that a run folder has before its first epoch; what it was made with stays where it is ``continued``."""
    write_file(folder / "config.yaml", to_yaml(run.config))
    if not continued:
        weights = run.config.weights
        made_with = {
            **environment(run.device, run.precision, run.ranks.ranks),
            "weights": Path(weights).name,
            "pretrained": pretrained_name(weights, run.config.model.backbone),
        }
        write_file(folder / "environment.json", to_json(made_with, indent=2) + "\n")
    _write_metrics(folder, run)
    if run.epoch == 0:
        name, path = deployed_name(run, method), folder / "checkpoint" / START
        save_encoder(path, _copy(run, method), run, name, epoch=0, why="untrained")


def deployed_name(run: Run, method: Method[Any, Any]) -> str:
    """Name of the shipped branch inside the networks."""
    shipped = method.deployed(run.networks)
    named: dict[str, torch.nn.Module] = dict(run.networks.named_children())
    return next(name for name, module in named.items() if module is shipped)


def chosen_epochs(history: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The epoch that each way of choosing takes: ``last``, ``label-free`` and, with a test set, ``best-on-test``.

    ``best-on-test`` has the highest test mAP, as the papers report it: a choice that needs test labels.
    ``label-free`` is the network whose features gave the highest criterion (clusters that changed least): the one
    before the epoch that recorded it, so the last network is no candidate. Ties go to the later epoch;
    a name is absent where its value was never measured.
    """
    chosen = {"last": max(int(record["epoch"]) for record in history)} if history else {}
    criteria: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "label-free": lambda record: record.get("label_free"),
        "best-on-test": lambda record: (record.get("test") or {}).get("mean_ap"),
    }
    for name, value in criteria.items():
        known = [(value(record), int(record["epoch"])) for record in history if value(record) is not None]
        if known:
            chosen[name] = max(known)[1] - (name == "label-free")
    return chosen


def describe(record: dict[str, Any], config: Config) -> str:
    """One line about an epoch."""
    parts = [
        f"epoch {record['epoch']}/{config.train.epochs}",
        f"loss {record['loss']['total']:.3f}",
        f"{record['clusters']} clusters, {record['outliers']} outliers",
    ]
    if record["cross_camera_share"] is not None:
        parts.append(f"{record['cross_camera_share']:.0%} across cameras")
    if "diagnostics" in record:
        parts.append(f"ARI {record['diagnostics']['ari']:.2f}")
    if "test" in record:
        test = record["test"]
        name, first = ("rank-1", test["rank1"]) if "rank1" in test else ("top-1", test["top1"])
        parts.append(f"mAP {test['mean_ap']:.1%} {name} {first:.1%}")
    left = (config.train.epochs - record["epoch"]) * record["seconds"]["epoch"]
    return " | ".join([*parts, f"{record['seconds']['epoch']:.0f} s", f"{left / 60:.0f} min left"])


def _copy(run: Run, method: Method[Any, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in method.deployed(run.networks).state_dict().items()}


def _keep_chosen(
    run: Run, method: Method[Any, Any], before: dict[str, torch.Tensor], folder: Path, deployed: str
) -> None:
    """Keep the shipped branch when it is the one that a way of choosing would take.

    An epoch's ``label_free`` speaks of the features it began with, so of the network ``before`` it.
    """
    chosen = chosen_epochs(run.history)
    if chosen.get("label-free") == run.epoch - 1:
        path = folder / "checkpoint" / LABEL_FREE
        save_encoder(path, before, run, deployed, epoch=run.epoch - 1, why="label-free")
    if chosen.get("best-on-test") == run.epoch:
        path = folder / "checkpoint" / BEST
        save_encoder(path, _copy(run, method), run, deployed, epoch=run.epoch, why="best-on-test")


def _finite(value: Any) -> Any:
    """NaN means not known; JSON has null for that."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_metrics(folder: Path, run: Run) -> None:
    """The history belongs to the checkpoint, so after a kill the file is put back in step with it."""
    write_file(folder / "metrics.jsonl", "".join(to_json(record) + "\n" for record in run.history))

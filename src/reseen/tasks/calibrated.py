"""How sure a run on crops is that two images show the same person: fitted on its training images, without labels.

The clusters that a network was trained on flatter it. Pairs are therefore judged by clusters that it did not learn
from last: those of the other branch where there are two, else those of the epoch before, which the checkpoint keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reseen.config import Config
from reseen.data import fingerprint
from reseen.errors import ReseenError
from reseen.evaluation import embed_crops
from reseen.evaluation.encoders import sees_grey
from reseen.files import from_json
from reseen.inference import Embedder, PersonSearcher, load_encoder
from reseen.methods.labelling import pseudo_labels
from reseen.metrics.calibration import (
    MIN_CLUSTERS,
    PRIOR_ROWS,
    Calibration,
    Reliability,
    Sure,
    across,
    count_pairs,
    fit_calibration,
    reliability,
    spread,
)
from reseen.models.checkpoint import STEPS
from reseen.progress import Progress
from reseen.records import DISTRACTOR, JUNK, Crop, LabelledCrops, Labels, PseudoLabels, ReidData, cameras_of
from reseen.training import LAST, Checkpoint

CALIBRATION = "calibration.json"  # in a run folder
QUERIES, GALLERY = 300, 4_000  # of the test part, at most: what is said is compared with what is true


@dataclass(frozen=True)
class Calibrated:
    """How sure a run is. With labels also what it says of the test part beside what is true there (``diagram``), and
    the ``prior`` that was fitted on that part without them. ``judged_by``: whose clusters, in words. ``model``: the
    fingerprint of who embeds; a calibration says nothing of another one."""

    calibration: Calibration
    judged_by: str
    epoch: int
    model: str
    prior: float | None = None
    diagram: Reliability | None = None
    name: str = "how-sure"
    title: str = "How sure"

    @property
    def alt(self) -> str:
        """What a report says beside the picture."""
        fitted = (
            f"Fitted without labels on pairs of training images across {self.calibration.groups}, judged by "
            f"{self.judged_by} ({self.calibration.clusters} of them across {self.calibration.groups})."
        )
        if self.diagram is None:
            return fitted
        return (
            f"{fitted} On the right: pairs of the test part by the probability that was said, against the share that "
            "is true; on the line, what is said is true."
        )

    def as_json(self) -> dict[str, Any]:
        about = {"judged_by": self.judged_by, "epoch": self.epoch, "model": self.model}
        tree = {**self.calibration.as_json(), **about}
        if self.diagram is None:
            return tree
        columns = {
            name: [None if np.isnan(value) else float(value) for value in getattr(self.diagram, name)]
            for name in ("edges", "pairs", "said", "true")
        }
        return {**tree, "test": {"prior": self.prior, **columns}}


def read_calibration(run_dir: Path, model: Embedder | PersonSearcher) -> Calibration | None:
    """What a report left in a run folder; None where it left none, or one of another epoch, branch or view.

    Of a run in two steps it is that of the second step: it was trained on crops that the first one had cut out of
    training scenes, as it cuts out those that it tells apart in other scenes.

    Raises:
        ReseenError: it is damaged.
    """
    if isinstance(model, PersonSearcher) and model.second is not None:
        return read_calibration(run_dir / STEPS[1], model.second)
    try:
        tree = from_json((run_dir / CALIBRATION).read_bytes())
        found = Calibration.from_json(tree)
        return found if tree.get("model") == model.fingerprint else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ReseenError(f"cannot read {run_dir / CALIBRATION}: make it again with reseen report") from error


def sure_of(
    run_dir: Path,
    model: Embedder,
    features: tuple[Tensor, Tensor],
    query: LabelledCrops,
    gallery: LabelledCrops,
    own: Labels,
) -> Sure | None:
    """What says how sure each similarity is: the run's calibration under the prior of these queries in this gallery.

    Args:
        features: of ``query`` ``[Q, D]`` and ``gallery`` ``[G, D]`` by ``model``.
        own: rows (query, gallery image) ``[n, 2]`` that are one picture.

    Returns:
        None where the run has no calibration of this model.
    """
    calibration = read_calibration(run_dir, model)
    if calibration is None:
        return None
    rows = spread(len(query), PRIOR_ROWS)
    pairs = across(query.cameras[rows], gallery.cameras) & (gallery.identities != JUNK)
    mine = own[np.isin(own[:, 0], rows)]
    pairs[np.searchsorted(rows, mine[:, 0]), mine[:, 1]] = False
    similarity = (features[0][torch.from_numpy(rows)] @ features[1].T).numpy()
    return partial(calibration.probability, prior=calibration.prior_of(similarity[pairs]))


def calibrate(run_dir: Path, images: ReidData, progress: Progress) -> Calibrated:
    """Fit the likelihood ratio of a finished run on pairs of its training images, and look at the test part.

    Raises:
        ReseenError: other images than those of the run, nothing to tell places apart by, or too few clusters (says
            which); nothing was embedded then.
    """
    encoder, checkpoint = load_encoder(run_dir / "checkpoint" / LAST)
    config, deployed = checkpoint.config, str(checkpoint.state["deployed"])
    if checkpoint.state["data"] != fingerprint(images.train, images.root):
        raise ReseenError("these are not the images that the run was trained on")
    groups, kind = _groups(images.train)
    labels = PseudoLabels.of(checkpoint.tensors["labels"].numpy()).drop_singletons().labels
    if (count := _across(labels, groups)) < MIN_CLUSTERS:
        raise ReseenError(f"{count} clusters hold images of two {kind}, and {MIN_CLUSTERS} are needed")
    judged_by = "clusters of the epoch before"
    other = {"first": "second", "second": "first"}.get(deployed, "")
    if other and checkpoint.under(f"networks.{other}."):
        judged_by = f"clusters of the {other} branch, which is not the one that is used"
        second, _ = load_encoder(run_dir / "checkpoint" / LAST, branch=other)
        labels = _clusters(_embed(second, images.train, checkpoint, other, progress, "other"), images, config)
    features = _embed(encoder, images.train, checkpoint, deployed, progress, "training")
    counts = count_pairs(features, labels, groups, seed=config.seed)
    calibration = fit_calibration(counts, groups=kind, seed=config.seed)
    model = Embedder(encoder, config, grey=sees_grey(config, deployed))
    found = Calibrated(calibration, judged_by, int(checkpoint.state["epoch"]), model.fingerprint)
    if not images.query or not images.gallery:
        return found
    query, gallery = _some(images.query, QUERIES), _some(images.gallery, GALLERY)
    similarity = (
        _embed(encoder, query.crops, checkpoint, deployed, progress, "query")
        @ _embed(encoder, gallery.crops, checkpoint, deployed, progress, "gallery").T
    )
    return replace(found, **_compared(calibration, similarity, query, gallery))


def _compared(
    calibration: Calibration, similarity: Tensor, query: LabelledCrops, gallery: LabelledCrops
) -> dict[str, Any]:
    """The prior of the pairs across cameras, fitted without labels, and what was said beside what was true."""
    shown = gallery.identities != JUNK
    pairs = (query.cameras[:, None] != gallery.cameras) & shown
    if not pairs.any():
        return {}
    similarities = similarity.numpy()[pairs]
    same = (query.identities[:, None] == gallery.identities) & (gallery.identities != DISTRACTOR)
    prior = calibration.prior_of(similarities)
    said = calibration.probability(similarities, prior)[0]
    return {"prior": prior, "diagram": reliability(said, same[pairs])}


def _embed(
    encoder: Any, crops: tuple[Crop, ...], checkpoint: Checkpoint, branch: str, progress: Progress, part: str
) -> Tensor:
    config = checkpoint.config
    counted = progress.counted(f"calibrate: {part}", len(crops))
    return embed_crops(encoder, crops, config, grey=sees_grey(config, branch), progress=counted)


def _clusters(features: Tensor, images: ReidData, config: Config) -> Labels:
    settings = replace(config.cluster, features="fresh", outliers="drop")
    return pseudo_labels(features, cameras_of(images.train), settings).labels


def _groups(crops: tuple[Crop, ...]) -> tuple[Labels, str]:
    """What pairs must lie across: cameras where two are known, else folders."""
    cameras = cameras_of(crops)
    if len(np.unique(cameras[cameras >= 0])) > 1:
        return cameras, "cameras"
    folders, numbers = np.unique([str(crop.path.parent) for crop in crops], return_inverse=True)
    if len(folders) < 2:
        raise ReseenError("all images are of one folder and no two cameras are known (--camera-pattern)")
    return numbers, "folders"


def _across(labels: Labels, groups: Labels) -> int:
    """How many clusters hold images of two groups."""
    known = (labels >= 0) & (groups >= 0)
    pairs = np.unique(np.stack([labels[known], groups[known]], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0]) > 1).sum()) if len(pairs) else 0


def _some(part: LabelledCrops, most: int) -> LabelledCrops:
    """An even sample."""
    rows = spread(len(part), most)
    return LabelledCrops(tuple(part.crops[i] for i in rows), part.identities[rows])

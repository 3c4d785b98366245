"""Person search on a benchmark's scenes: find everybody, compare with whom is asked for, score both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from reseen.config import Config
from reseen.data import SceneBatch, SceneView, Targets, clean_scene_batches, in_file_pixels, open_galleries
from reseen.data.galleries import NobodyToFindError
from reseen.data.paths import shown
from reseen.data.scene_doctor import KNOWN
from reseen.device import autocast
from reseen.errors import ReseenError
from reseen.evaluation.encoders import Keep, available
from reseen.evaluation.protocol import NothingToScoreError, pairs_of_one
from reseen.metrics import detection_scores, person_search_scores
from reseen.models.encoders import evaluation_mode
from reseen.models.search import SearchNetwork
from reseen.records import Probe, Scene, SceneDetections, SearchData, SearchQuery

Step = Callable[[str, int, int], None]  # (stage, done, total)
BATCH = 4  # scenes that go through the network together; more only fills memory


@dataclass(frozen=True)
class FoundScenes:
    """``detections`` by scene, boxes in pixels of the file; ``probes`` ``[P, D]``: features of those asked for."""

    detections: dict[str, SceneDetections]
    probes: Tensor


# (scenes, their names, probes) -> what is found in them
Finder = Callable[[Sequence[Scene], Sequence[str], Sequence[Probe]], FoundScenes]


def find_persons(
    network: SearchNetwork,
    scenes: Sequence[Scene],
    names: Sequence[str],
    config: Config,
    *,
    probes: Sequence[Probe] = (),
    step: Step | None = None,
) -> FoundScenes:
    """Detect and embed the persons of every scene, once; and the probes, by the box that is given for them.

    Features are L2-normalised. ``search.paths_at_test: both`` joins the two paths (Table 5): the box is cut out of the
    scene too, the two features stand one behind the other.

    Raises:
        ReseenError: a scene cannot be read, or the box of a probe lies outside of its scene.
    """
    device, precision = available(config)
    network.to(device)
    asked: dict[int, list[int]] = {}
    for row, probe in enumerate(probes):
        asked.setdefault(probe.scene, []).append(row)
    found: dict[str, SceneDetections] = {}
    wanted = torch.zeros(len(probes), network.dim * (2 if config.search.paths_at_test == "both" else 1))
    size = SceneView.of_config(config)
    with evaluation_mode(network), torch.inference_mode():
        for batch in clean_scene_batches(scenes, size, batch_size=BATCH, workers=config.data.workers):
            batch = batch.to(device, channels_last=config.train.channels_last)
            rows = batch.scenes.tolist()
            with autocast(device, precision):
                maps = network.pyramid(batch.images)
                persons = network.detector.detect(maps, batch.sizes)
                given = [
                    _given([probes[row] for row in asked.get(scene, [])], batch, place, names[scene])
                    for place, scene in enumerate(rows)
                ]
                boxes = [torch.cat([person[0], box]) for person, box in zip(persons, given, strict=True)]
                features = features_of(network, maps, batch.images, boxes, config)
            parts = torch.split(features.float().cpu(), [len(box) for box in boxes])
            for place, scene in enumerate(rows):
                corners, scores = persons[place]
                found[names[scene]] = SceneDetections(
                    in_file_pixels(corners.float(), batch.scales[place]).cpu().numpy(),
                    scores.float().cpu().numpy(),
                    parts[place][: len(corners)].numpy(),
                )
                wanted[asked.get(scene, [])] = parts[place][len(corners) :]
            if step is not None:
                step("find persons", rows[-1] + 1, len(scenes))
    return FoundScenes(found, wanted)


def features_of(
    network: SearchNetwork, maps: Sequence[Tensor], images: Tensor, boxes: Sequence[Tensor], config: Config
) -> Tensor:
    """Unit features ``[N, D]`` of boxes ``[n, 4]`` (pixels of the batch) of each scene, by the path used at test."""
    within = network.search_features(maps, boxes)
    if config.search.paths_at_test == "search":
        return within
    return F.normalize(torch.cat([network.instance_features(images, boxes), within], dim=1), dim=1)


@dataclass(frozen=True)
class SearchTest:
    """Whom to search for, and where: ``targets[i]`` is the gallery of probe ``probes[i]``, a row of the data's probes.

    ``record``: how many probes there are, are scored, and are not, by reason. ``left_out``: in words, with what the
    galleries lack.
    """

    probes: tuple[int, ...]
    targets: tuple[Targets, ...]
    record: Mapping[str, int]
    left_out: tuple[str, ...]


def require_queries(data: SearchData) -> None:
    """Raise ReseenError where nobody is searched for."""
    if not data.test or not data.probes:
        raise ReseenError(
            f"{shown(data.root)} has no test scenes with queries: scoring needs a benchmark's layout (docs/data.md)"
        )


def open_search_test(data: SearchData, size: int | None = None) -> SearchTest:
    """The galleries of :func:`reseen.data.open_galleries`, by the data set's own protocol.

    Outside the published sets, a copy of the query's own scene (the same file, or the same bytes) is in no gallery.

    Raises:
        NothingToScoreError: no gallery shows the person it is searched for; says why not.
        ReseenError: no queries, or no galleries of that size.
    """
    require_queries(data)
    way = "give test scenes that show the same persons again"
    try:
        opened = open_galleries(data, size)
    except NobodyToFindError as error:
        raise NothingToScoreError(f"{error}; {way}") from error
    probes, targets = opened.probes.tolist(), list(opened.targets)
    if data.name.partition("+")[0] not in KNOWN:  # a joined set is tested on its first one
        scenes = [data.test[data.probes[probe].scene].path for probe in probes]
        copies: dict[int, set[int]] = {}
        for row, scene in pairs_of_one(scenes, [scene.path for scene in data.test]).tolist():
            copies.setdefault(row, set()).add(scene)
        targets = [gallery.without(copies.get(row, ())) for row, gallery in enumerate(targets)]
    kept = [row for row, gallery in enumerate(targets) if gallery.found]
    lost = len(probes) - len(kept)
    record = {"queries": len(data.probes), "scored": len(kept)}
    record |= {"only_same_picture": lost, "nowhere": len(data.probes) - len(probes)}
    if not kept:
        why = (
            f"{lost:,} only in a copy of the query's own scene, {record['nowhere']:,} nowhere in the gallery"
        )
        raise NothingToScoreError(
            f"{shown(data.root)}: no query has its person in another scene: {why}; {way}"
        )
    told = f"{lost:,} queries whose person is only in a copy of the query's own scene"
    left_out = (*opened.skipped, *((told,) if lost else ()))
    return SearchTest(
        tuple(probes[row] for row in kept), tuple(targets[row] for row in kept), record, left_out
    )


def search_record(
    found: FoundScenes,
    data: SearchData,
    *,
    sizes: Iterable[int | None] = (None,),
    tests: Mapping[int | None, SearchTest] | None = None,
    step: Step | None = None,
    keep: Keep | None = None,
) -> dict[str, Any]:
    """Scores of what was found, as result files have them (fractions). ``tests``: of the sizes, where they are open.

    ``mean_ap``, ``top<k>`` and the counts of :class:`SearchTest` of the first gallery size, ``galleries`` of all sizes
    where several are asked for; ``detection_recall`` and ``detection_ap`` over all test scenes. ``left_out``: lines
    about queries and gallery images that could not be scored. ``keep`` is given each query's average precision ``[Q]``
    in the first gallery.
    """
    truth = {name: scene.boxes for name, scene in zip(data.test_names, data.test, strict=True)}
    persons = detection_scores(found.detections, truth)
    record: dict[str, Any] = {"detection_recall": persons.recall, "detection_ap": persons.average_precision}
    galleries: dict[str, Any] = {}
    left_out: dict[str, None] = {}
    for size in sizes:
        test = open_search_test(data, size) if tests is None else tests[size]
        queries = [
            SearchQuery(found.probes[probe].numpy(), targets)
            for probe, targets in zip(test.probes, test.targets, strict=True)
        ]
        if step is not None:
            step("search", 0, len(queries))
        scores = person_search_scores(queries, found.detections)
        here = {"mean_ap": scores.mean_ap, **{f"top{rank}": value for rank, value in scores.top.items()}}
        here |= test.record
        if keep is not None and not galleries:
            keep(scores.average_precision)
        record = {**here, **record} if not galleries else record
        galleries[str(size or "all")] = here
        left_out |= dict.fromkeys(test.left_out)
    record |= {"galleries": galleries} if len(galleries) > 1 else {}
    return record | ({"left_out": list(left_out)} if left_out else {})


def evaluate_searcher(
    network: SearchNetwork,
    data: SearchData,
    config: Config,
    *,
    sizes: Iterable[int | None] = (None,),
    step: Step | None = None,
    keep: Keep | None = None,
) -> dict[str, Any]:
    """Score a network on the test scenes of ``data``: features are computed once for all gallery sizes.

    ``keep``: see :func:`search_record`.

    Raises:
        ReseenError: ``data`` has no test scenes, or no query that can be scored.
    """
    require_queries(data)
    found = find_persons(network, data.test, data.test_names, config, probes=data.probes, step=step)
    return search_record(found, data, sizes=sizes, step=step, keep=keep)


def _given(probes: Sequence[Probe], batch: SceneBatch, place: int, name: str) -> Tensor:
    """The probes' boxes ``[n, 4]`` in pixels of the batch; they end at the border of the scene, as in training."""
    scale = batch.scales[place]
    if not probes:
        return scale.new_zeros(0, 4)
    height, width = batch.sizes[place].tolist()
    boxes = torch.from_numpy(np.stack([probe.box for probe in probes])).to(scale) * scale.repeat(2)
    inside: Tensor = clip_boxes_to_image(boxes, (height, width))
    wrong = ~(inside[:, 2:] > inside[:, :2]).all(dim=1)  # NaN too
    if wrong.any():
        box = probes[int(wrong.nonzero()[0])].box.tolist()
        raise ReseenError(
            f"{name}: a query's box {box} shows nobody in this image: correct it or leave it out"
        )
    return inside

"""Person search in two steps: a detector finds persons, another network tells them apart by what is cut out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.config import Config
from reseen.data import SceneView, clean_scene_batches, clean_transform, grey_transform, in_file_pixels
from reseen.data.images import read_image
from reseen.device import autocast
from reseen.evaluation.encoders import BATCH, available
from reseen.evaluation.search import BATCH as SCENES
from reseen.evaluation.search import FoundScenes, Step
from reseen.models import Encoder
from reseen.models.encoders import evaluation_mode
from reseen.models.search import SearchNetwork
from reseen.pixels import whole_pixels
from reseen.records import Probe, Scene, SceneDetections

MIN_SCORE = 0.5  # of a detection that is cut out: the score from which the protocol counts it


@dataclass(frozen=True)
class Found:
    """Persons of one scene: boxes float32 ``[R, 4]`` (xyxy, pixels of the file) and scores float32 ``[R]``."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


def detect_persons(
    network: SearchNetwork, scenes: Sequence[Scene], config: Config, *, step: Step | None = None
) -> list[Found]:
    """Detections with a score of at least :data:`MIN_SCORE` in every scene. Annotated boxes are not read."""
    device, precision = available(config)
    network.to(device)
    size = SceneView.of_config(config)
    result: list[Found] = []
    with evaluation_mode(network), torch.inference_mode():
        for batch in clean_scene_batches(scenes, size, batch_size=SCENES, workers=config.data.workers):
            batch = batch.to(device, channels_last=config.train.channels_last)
            with autocast(device, precision):
                persons = network.detector.detect(network.pyramid(batch.images), batch.sizes)
            for (boxes, scores), scale in zip(persons, batch.scales, strict=True):
                sure = scores >= MIN_SCORE
                corners = in_file_pixels(boxes[sure].float(), scale)
                result.append(Found(corners.cpu().numpy(), scores[sure].float().cpu().numpy()))
            if step is not None:
                step("detect persons", len(result), len(scenes))
    return result


def cut_out(image: Tensor, boxes: NDArray[np.float32]) -> list[Tensor]:
    """The whole pixels that boxes ``[n, 4]`` (xyxy) of an image uint8 ``[3, H, W]`` touch, one at least of each."""
    return [image[:, rows, columns] for rows, columns in whole_pixels(boxes, *image.shape[-2:])]


def embed_images(encoder: Encoder, images: Sequence[Tensor], config: Config, *, grey: bool = False) -> Tensor:
    """Unit features ``[n, D]``, on the CPU, of crops uint8 ``[3, h, w]`` of any size, as evaluation sees them."""
    device, precision = available(config)
    transform = grey_transform(config.data) if grey else clean_transform(config.data)
    encoder.to(device)
    features = torch.zeros(len(images), encoder.dim)
    with evaluation_mode(encoder), torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = torch.stack([transform(image) for image in images[start : start + BATCH]])
            batch = batch.to(device, memory_format=torch.channels_last)
            with autocast(device, precision):
                features[start : start + BATCH] = encoder(batch).features.float().cpu()
    return features


def find_in_two_steps(
    detections: Sequence[Found],
    embed: Callable[[Sequence[Tensor]], Tensor],
    scenes: Sequence[Scene],
    names: Sequence[str],
    *,
    probes: Sequence[Probe] = (),
    step: Step | None = None,
) -> FoundScenes:
    """Features of what was detected, cut out of each scene; and of the probes, by the box that is given for them."""
    asked: dict[int, list[int]] = {}
    for row, probe in enumerate(probes):
        asked.setdefault(probe.scene, []).append(row)
    found: dict[str, SceneDetections] = {}
    wanted: dict[int, Tensor] = {}
    for start in range(0, len(scenes), SCENES):
        rows = range(start, min(start + SCENES, len(scenes)))
        cuts: list[list[Tensor]] = []
        for row in rows:
            given = [probes[probe].box for probe in asked.get(row, [])]
            boxes = np.concatenate([detections[row].boxes, np.array(given, np.float32).reshape(-1, 4)])
            cuts.append(cut_out(read_image(scenes[row].path), boxes))
        features = embed([crop for scene in cuts for crop in scene])
        for row, part in zip(rows, torch.split(features, list(map(len, cuts))), strict=True):
            one = detections[row]
            found[names[row]] = SceneDetections(one.boxes, one.scores, part[: len(one.boxes)].numpy())
            wanted |= zip(asked.get(row, []), part[len(one.boxes) :], strict=True)
        if step is not None:
            step("embed persons", rows[-1] + 1, len(scenes))
    order = [wanted[row] for row in range(len(probes))]
    return FoundScenes(found, torch.stack(order) if order else torch.zeros(0, 0))

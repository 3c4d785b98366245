"""A trained person search in a program: a scene in, its persons and their features out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps
from torch import Tensor

from reseen.config import Config
from reseen.data import SceneView, in_file_pixels, read_image
from reseen.data.boxes import cut_to_image
from reseen.data.scene_transforms import padded, seen_scene
from reseen.device import autocast, precision_here, resolve_device
from reseen.errors import ReseenError
from reseen.evaluation.encoders import available
from reseen.evaluation.search import features_of
from reseen.models.embedding import evaluation_mode
from reseen.models.search import SearchNetwork
from reseen.records import SceneDetections
from reseen.tasks.two_step.config import is_two_step
from reseen.tasks.two_step.search import cut_embedder, cut_out
from reseen.training import load_searcher


class PersonSearcher:
    """Finds the persons of a scene, each with a feature by which the same person is found again.

    The similarity of two persons is the inner product of their features, which have length 1. A scene is a path, a
    PIL image or an array uint8 ``[H, W, 3]`` (RGB). Boxes are xyxy in pixels of that image, upright as its EXIF
    orientation says. What is computed is what ``reseen evaluate`` scores.
    """

    def __init__(
        self,
        network: SearchNetwork,
        config: Config,
        *,
        device: str | None = None,
        embed_cuts: Callable[[Sequence[Tensor]], Tensor] | None = None,
    ) -> None:
        """
        Args:
            device: auto, cpu, cuda or cuda:N; None is the one that ``config`` names, or this machine's own.
            embed_cuts: features ``[n, D]`` of persons that are cut out (uint8 ``[3, h, w]``), in place of the network's
                own: a search in two steps.
        """
        if device is None:
            self.device, self.precision = available(config)
        else:
            self.device = resolve_device(device)
            self.precision = precision_here(self.device, config.train.precision)
        self.network = network.to(self.device)
        self.config = config
        self._embed_cuts = embed_cuts

    @classmethod
    def load(cls, source: str | Path, *, device: str | None = None) -> PersonSearcher:
        """From a run folder (its last epoch) of r-siamnet or two-step, or a checkpoint file of r-siamnet.

        Raises:
            ReseenError: no such file, a damaged one, or a model for crops.
        """
        place = Path(source)
        if is_two_step(place):
            network, checkpoint = load_searcher(place / "detector")
            _, cuts = cut_embedder(place, device=device)
            return cls(network, checkpoint.config, device=device, embed_cuts=cuts)
        network, checkpoint = load_searcher(place)
        return cls(network, checkpoint.config, device=device)

    def __call__(self, scene: Any, *, min_score: float = 0.0) -> SceneDetections:
        """Everybody in the scene, surest first, as numpy arrays.

        Args:
            min_score: of the detections that are returned. Benchmarks count those from 0.5 on; the detectors
                themselves return up to 100 with scores above 0.05.

        Raises:
            ReseenError: the scene cannot be read.
        """
        image = scene_pixels(scene)
        images, sizes, scale = self._seen(image)
        with self._inference():
            maps = self.network.pyramid(images)
            boxes, scores = self.network.detector.detect(maps, sizes)[0]
            kept = torch.nonzero(scores >= min_score).squeeze(1)
            kept = kept[scores[kept].argsort(descending=True, stable=True)]
            boxes, scores = boxes[kept].float(), scores[kept].float()
            if self._embed_cuts is None:
                features = features_of(self.network, maps, images, [boxes], self.config)
        found = in_file_pixels(boxes, scale).cpu().numpy()
        if self._embed_cuts is not None:
            features = self._embed_cuts(cut_out(image, found))
        return SceneDetections(found, scores.cpu().numpy(), features.float().cpu().numpy())

    def embed(self, scene: Any, boxes: ArrayLike) -> NDArray[np.float32]:
        """Features ``[n, D]`` of persons whose boxes ``[n, 4]`` are known, for example of whom to search for.

        A box ends at the border of the image.

        Raises:
            ReseenError: the scene cannot be read, or a box lies outside of it, has no area or is not a number.
        """
        given = np.asarray(boxes, dtype=np.float32)
        if given.size and (given.ndim != 2 or given.shape[1] != 4):
            raise ReseenError(f"boxes must be rows of x1, y1, x2, y2, not of shape {given.shape}")
        image = scene_pixels(scene)
        height, width = image.shape[1:]
        inside, kept = cut_to_image(given.reshape(-1, 4), height, width)
        lost = sorted(set(range(len(given))) - set(kept.tolist()))
        if lost:
            raise ReseenError(
                f"box {lost[0]} is {given[lost[0]].tolist()}: in an image of {width} x {height} pixels it shows "
                "nobody; give x1, y1, x2, y2 with x1 < x2 and y1 < y2 that reach into the image"
            )
        if self._embed_cuts is not None:
            features = self._embed_cuts(cut_out(image, inside))
        else:
            images, _, scale = self._seen(image)
            pixels = torch.from_numpy(inside).to(self.device) * scale.repeat(2)
            with self._inference():
                features = features_of(
                    self.network, self.network.pyramid(images), images, [pixels], self.config
                )
        result: NDArray[np.float32] = features.float().cpu().numpy()
        return result

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with evaluation_mode(self.network), torch.inference_mode(), autocast(self.device, self.precision):
            yield

    def _seen(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The scene as a batch of one, its size in there, and its scale."""
        size = SceneView.of_config(self.config)
        seen = seen_scene(image, torch.zeros(0, 4), size, mirrored=False)
        layout = torch.channels_last if self.config.train.channels_last else torch.contiguous_format
        images = padded([seen.image]).to(self.device, memory_format=layout)
        sizes = torch.tensor([seen.image.shape[1:]], device=self.device)
        return images, sizes, seen.scale.to(self.device)


def scene_pixels(scene: Any) -> Tensor:
    """uint8 ``[3, H, W]`` of a path, a PIL image (upright, RGB) or an array uint8 ``[H, W, 3]`` or ``[H, W]``.

    Raises:
        ReseenError: it is none of these, or cannot be read.
    """
    if isinstance(scene, str | Path):
        return read_image(scene)
    if isinstance(scene, Image.Image):
        try:
            scene = np.array(ImageOps.exif_transpose(scene).convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow decodes when it is asked for pixels
            raise ReseenError(f"the image cannot be decoded ({error}): replace it") from error
    array = np.asarray(scene)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ReseenError(
            f"a scene is a path, an image, or an array uint8 [H, W, 3]; not {array.dtype} {list(array.shape)}"
        )
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)

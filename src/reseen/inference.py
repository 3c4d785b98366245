"""Trained models in a program: images of persons in and features out, or a scene in and its persons out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor, nn

from reseen.config import Config
from reseen.data import SceneView, in_file_pixels
from reseen.data.images import image_pixels
from reseen.data.scene_transforms import padded, seen_scene
from reseen.device import autocast, resolve_device
from reseen.errors import ReseenError
from reseen.evaluation.encoders import available, embed_crops, sees_grey
from reseen.evaluation.search import Finder, FoundScenes, Step, features_of
from reseen.evaluation.two_steps import cut_out, detect_persons, embed_images, find_in_two_steps
from reseen.methods import get_method
from reseen.models import Encoder
from reseen.models.checkpoint import STEPS, model_fingerprint, of_this_version
from reseen.models.encoders import evaluation_mode
from reseen.models.hub import local_copy
from reseen.models.search import SearchNetwork
from reseen.pixels import boxes_inside
from reseen.records import Crop, Probe, Scene, SceneDetections
from reseen.training import Checkpoint, Method, read_checkpoint
from reseen.training.run_folder import chosen_file


def load_encoder(
    source: Path, *, branch: str | None = None, method: Method[Any, Any] | None = None
) -> tuple[Encoder, Checkpoint]:
    """One branch of a model that was trained on crops, in evaluation mode.

    Args:
        source: a run folder (its last checkpoint) or a checkpoint file.
        branch: ``first`` or ``second``; None takes the branch that the method ships.
        method: what trained it, where that is none of :data:`reseen.methods.METHODS`.

    Raises:
        ReseenError: no such file or branch, a damaged file, or a model that searches scenes.
    """
    model, checkpoint = _load(source, branch, method)
    if not isinstance(model, Encoder):
        raise ReseenError(f"{source} searches scenes ({checkpoint.config.method}): give a model for crops")
    return model, checkpoint


def load_searcher(source: Path) -> tuple[SearchNetwork, Checkpoint]:
    """A trained person search, in evaluation mode, from a run folder or a checkpoint file.

    Raises:
        ReseenError: no such file, a damaged one, or a model for crops.
    """
    model, checkpoint = _load(source, None)
    if not isinstance(model, SearchNetwork):
        raise ReseenError(
            f"{source} holds a model for crops ({checkpoint.config.method}): give one that searches scenes"
        )
    return model, checkpoint


def _load(
    source: Path, branch: str | None, own: Method[Any, Any] | None = None
) -> tuple[nn.Module, Checkpoint]:
    """The shipped part of the networks as the method builds them, or the branch that is asked for."""
    path = chosen_file(source, "last")
    checkpoint = read_checkpoint(path)
    config, name = checkpoint.config, branch or checkpoint.state["deployed"]
    tensors = checkpoint.under(f"networks.{name}.")
    if not tensors:
        raise ReseenError(f"{path} holds no branch {name!r}: leave --branch out to take the one it ships")
    method = own or get_method(config.method)
    model = method.shipped(config, method.encoder(config))
    with of_this_version(path):
        model.load_state_dict(tensors)
    return model.eval(), checkpoint


class Embedder:
    """Turns images of persons into features: the inner product of two is their similarity.

    An image is a path, a PIL image, or an array uint8 ``[H, W, 3]`` (RGB), of any size. What is computed is what
    ``reseen evaluate`` scores.
    """

    def __init__(
        self, encoder: Encoder, config: Config, *, grey: bool = False, device: str | None = None
    ) -> None:
        """
        Args:
            grey: whether images lose their colour first, for a branch that was trained on grey ones.
            device: auto, cpu, cuda or cuda:N; None is the one that ``config`` names, or this machine's own.
        """
        self.encoder = encoder
        self.config = config if device is None else _on(config, device)
        self.grey = grey
        self.dim = encoder.dim

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        branch: str | None = None,
        device: str | None = None,
        method: Method[Any, Any] | None = None,
        download: bool = False,
    ) -> Embedder:
        """From a run folder (its last epoch), a checkpoint file, a folder for a hub, or a name on the hub.

        Args:
            download: fetch a model that is named; without it, it is looked for in the hub's cache only.
            branch: ``first`` or ``second``; None is the one that the method ships.
            method: what trained it, where that is your own.

        Raises:
            ReseenError: no such file or branch, a damaged file, or a model that searches scenes.
        """
        place = local_copy(source, download=download)
        encoder, checkpoint = load_encoder(place, branch=branch, method=method)
        name = branch or checkpoint.state["deployed"]
        return cls(encoder, checkpoint.config, grey=sees_grey(checkpoint.config, name), device=device)

    def __call__(self, images: Any) -> NDArray[np.float32]:
        """Features ``[N, D]`` (rows of length 1) of one image or of N, in their order.

        Args:
            images: an image, or any number of them: a list, a generator, an array ``[N, H, W, 3]``.

        Raises:
            ReseenError: an image cannot be read (its name and why).
        """
        one = isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", 0) in (2, 3)
        many = list(images) if isinstance(images, Iterable) and not one else [images]
        if all(isinstance(image, str | Path) for image in many):
            crops = tuple(Crop(Path(image)) for image in many)
            features = embed_crops(self.encoder, crops, self.config, grey=self.grey)
        else:
            features = self.of_pixels([image_pixels(image) for image in many])
        result: NDArray[np.float32] = features.numpy()
        return result

    def of_pixels(self, crops: Sequence[Tensor]) -> Tensor:
        """Features ``[n, D]``, on the CPU, of crops uint8 ``[3, h, w]`` of any size."""
        return embed_images(self.encoder, crops, self.config, grey=self.grey)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights and preprocessing: features of another fingerprint are another model's."""
        return _fingerprint(self.encoder, self.config, grey=self.grey)


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
        second: Embedder | None = None,
    ) -> None:
        """
        Args:
            device: auto, cpu, cuda or cuda:N; None is the one that ``config`` names, or this machine's own.
            second: what embeds the persons that are cut out, in place of the network: a search in two steps.
        """
        self.device, self.precision = available(config if device is None else _on(config, device))
        self.network = network.to(self.device)
        self.config = config
        self.second = second

    @classmethod
    def load(cls, source: str | Path, *, device: str | None = None, download: bool = False) -> PersonSearcher:
        """From a run folder (its last epoch) of r-siamnet or two-step, a checkpoint file of r-siamnet, a folder for a
        hub, or a name on the hub (``download``: see :meth:`Embedder.load`).

        Raises:
            ReseenError: no such file, a damaged one, or a model for crops.
        """
        place = local_copy(source, download=download)
        if _in_two_steps(place):
            network, checkpoint = load_searcher(place / "detector")
            _, second = second_step(place, device=device)
            return cls(network, checkpoint.config, device=device, second=second)
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
        image = image_pixels(scene)
        images, sizes, scale = self._seen(image)
        with self._inference():
            maps = self.network.pyramid(images)
            boxes, scores = self.network.detector.detect(maps, sizes)[0]
            kept = torch.nonzero(scores >= min_score).squeeze(1)
            kept = kept[scores[kept].argsort(descending=True, stable=True)]
            boxes, scores = boxes[kept].float(), scores[kept].float()
            if self.second is None:
                features = features_of(self.network, maps, images, [boxes], self.config)
        found = in_file_pixels(boxes, scale).cpu().numpy()
        if self.second is not None:
            features = self.second.of_pixels(cut_out(image, found))
        return SceneDetections(found, scores.cpu().numpy(), features.float().cpu().numpy())

    def embed(self, scene: Any, boxes: ArrayLike) -> NDArray[np.float32]:
        """Features ``[n, D]`` of persons whose boxes ``[n, 4]`` are known, for example of whom to search for.

        A box ends at the border of the image.

        Raises:
            ReseenError: the scene cannot be read, or a box lies outside of it, has no area or is not a number.
        """
        image = image_pixels(scene)
        inside = boxes_inside(boxes, *image.shape[1:])
        if self.second is not None:
            features = self.second.of_pixels(cut_out(image, inside))
        else:
            images, _, scale = self._seen(image)
            pixels = torch.from_numpy(inside).to(self.device) * scale.repeat(2)
            with self._inference():
                features = features_of(
                    self.network, self.network.pyramid(images), images, [pixels], self.config
                )
        result: NDArray[np.float32] = features.float().cpu().numpy()
        return result

    @property
    def dim(self) -> int:
        """D of its features."""
        if self.second is not None:
            return self.second.dim
        return self.network.dim * (2 if self.config.search.paths_at_test == "both" else 1)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights and preprocessing, of both steps where there are two."""
        own = _fingerprint(self.network, self.config)
        return own if self.second is None else f"{own}+{self.second.fingerprint}"

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


def load_model(source: str | Path, *, device: str | None = None) -> Embedder | PersonSearcher:
    """What a run folder or a checkpoint file holds: an :class:`Embedder` or a :class:`PersonSearcher`.

    Raises:
        ReseenError: no such file, or a damaged one.
    """
    place = Path(source)
    if _in_two_steps(place):
        return PersonSearcher.load(place, device=device)
    network, checkpoint = _load(place, None)
    if isinstance(network, SearchNetwork):
        return PersonSearcher(network, checkpoint.config, device=device)
    grey = sees_grey(checkpoint.config, checkpoint.state["deployed"])
    return Embedder(cast(Encoder, network), checkpoint.config, grey=grey, device=device)


def _in_two_steps(place: Path) -> bool:
    return all((place / step).is_dir() for step in STEPS)


def _fingerprint(network: nn.Module, config: Config, *, grey: bool = False) -> str:
    sizes = {"height": config.data.height, "width": config.data.width, "grey": grey}
    pixels = {"mean": list(config.data.mean), "std": list(config.data.std)}
    scene = [config.search.long_side, config.search.short_side, config.search.paths_at_test]
    return model_fingerprint(network.state_dict(), {**sizes, **pixels, "scene": scene})


def second_step(run_dir: Path, *, epoch: str = "last", device: str | None = None) -> tuple[int, Embedder]:
    """The second step of a run in two steps, which embeds what is cut out, and the epoch it is of."""
    encoder, checkpoint = load_encoder(chosen_file(run_dir / "reid", epoch))
    grey = sees_grey(checkpoint.config, checkpoint.state["deployed"])
    embedder = Embedder(encoder, checkpoint.config, grey=grey, device=device)
    return int(checkpoint.state["epoch"]), embedder


def two_step_finder(run_dir: Path, *, epoch: str = "last", step: Step | None = None) -> tuple[int, Finder]:
    """What finds the persons of scenes, and features of probes, by both steps of a run; and the second's epoch."""
    network, detector = load_searcher(run_dir / "detector")
    number, second = second_step(run_dir, epoch=epoch)

    def find(scenes: Sequence[Scene], names: Sequence[str], probes: Sequence[Probe]) -> FoundScenes:
        found = detect_persons(network, scenes, detector.config, step=step)
        return find_in_two_steps(found, second.of_pixels, scenes, names, probes=probes, step=step)

    return number, find


def _on(config: Config, device: str) -> Config:
    return replace(config, train=replace(config.train, device=str(resolve_device(device))))

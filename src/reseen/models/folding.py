"""Batch norm folded into the convolutions before it: the same function in fewer passes over the maps.

For evaluation only, where batch norm is a fixed scale and shift of each channel (grouped batch norm too).
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from timm.layers import BatchNormAct2d
from timm.layers.conv2d_same import Conv2dSame
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reseen.models.encoders import Encoder

_PLAIN = (nn.Conv2d, Conv2dSame)  # others (standardised weights) do more than convolve


class _Tracer(fx.Tracer):
    traced_func_name = "forward_features"

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, _BatchNorm)) or super().is_leaf_module(m, module_qualified_name)


def folded(encoder: Encoder) -> Encoder:
    """A copy of ``encoder`` in evaluation mode whose batch norms are part of the convolutions that feed them.

    Equal up to rounding. What follows no convolution (pre-activation networks, the neck) stays as it is, and a
    backbone that cannot be traced is copied unchanged.
    """
    result = copy.deepcopy(encoder).eval()
    backbone = result.backbone
    for conv_name, norm_name in _pairs(backbone):
        conv: Any = backbone.get_submodule(conv_name)
        norm: Any = backbone.get_submodule(norm_name)
        backbone.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        after = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        backbone.set_submodule(norm_name, after)
    return result


def _pairs(backbone: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and the batch norm that alone reads its output, each called once in a pass."""
    try:
        nodes = list(_Tracer().trace(backbone).nodes)
    except Exception:  # whatever its code meets when it is run without numbers
        return []
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    parts = dict(backbone.named_modules())
    pairs = []
    for node in nodes:
        feeding: Any = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(feeding, fx.Node) or feeding.op != "call_module" or len(feeding.users) != 1:
            continue
        conv, norm = parts[str(feeding.target)], parts[str(node.target)]
        once = calls[feeding.target] == calls[node.target] == 1
        if once and type(conv) in _PLAIN and isinstance(norm, _BatchNorm) and norm.running_var is not None:
            pairs.append((str(feeding.target), str(node.target)))
    return pairs

"""What tells two models apart: features of one are never compared with those of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reseen.files import to_json


def model_fingerprint(weights: Mapping[str, Tensor], preprocessing: Mapping[str, Any]) -> str:
    """Hex digest over names, types, shapes and bytes of ``weights``, and over how images are made ready for them."""
    digest = hashlib.blake2b(to_json(preprocessing, sort_keys=True).encode(), digest_size=16)
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()

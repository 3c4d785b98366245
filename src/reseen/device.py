"""Where a model runs, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reseen.errors import ReseenError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": torch.float32}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name``; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ReseenError: no such device, or it is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ReseenError(f"no device is called {name!r}; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ReseenError(
            f"{device} is not on this machine ({torch.cuda.device_count()} found): --set train.device=auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ReseenError("mps is not on this machine; use --set train.device=auto")
    return device


def resolve_precision(device: torch.device, precision: str = "auto") -> str:
    """ "bf16", "fp16" or "none" for ``precision``; "auto" is bf16 where the hardware computes in it.

    On a CPU that means AVX512-BF16 or AMX: there it doubles the rate, elsewhere bf16 is emulated and slow.

    Raises:
        ReseenError: unknown precision, or fp16 on a CPU.
    """
    if precision == "auto":
        return "bf16" if _computes_in_bf16(device) else "none"
    if precision not in _DTYPES:
        raise ReseenError(f"train.precision is {precision!r}; use auto, bf16, fp16 or none")
    if precision == "fp16" and device.type == "cpu":
        raise ReseenError("fp16 needs a GPU; on a CPU use --set train.precision=auto")
    return precision


def precision_here(device: torch.device, precision: str) -> str:
    """``precision`` for a model that is trained, perhaps elsewhere: where this hardware has it not, its own instead.

    bf16 without units for it is emulated and slow, and float32 computes the same more exactly.
    """
    try:
        resolved = resolve_precision(device, precision)
    except ReseenError:
        return resolve_precision(device, "auto")
    return "none" if resolved == "bf16" and not _computes_in_bf16(device) else resolved


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context for the forward pass in a precision that :func:`resolve_precision` returned."""
    enabled = precision != "none"
    return torch.autocast(device.type, dtype=_DTYPES[precision] if enabled else None, enabled=enabled)


@contextmanager
def full_precision() -> Iterator[None]:
    """Shut out TF32 and bf16 in products of float32 tensors, which an error bound of float32 does not cover."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # both are torch's own checks of the CPU, not yet public names in torch 2.11
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False

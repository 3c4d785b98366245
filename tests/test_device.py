"""Which device and precision a name means."""

import pytest
import torch

from reseen import device
from reseen.device import autocast, resolve_device, resolve_precision
from reseen.errors import ReseenError

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def test_auto_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == CUDA
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ReseenError, match=r"cuda:1 is not on this machine.*train\.device"):
        resolve_device("cuda:1")
    with pytest.raises(ReseenError, match="no device is called 'gpu'"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ReseenError, match="mps"):
        resolve_device("mps")


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "none")]
)
def test_auto_on_a_cpu_follows_its_bf16_units(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert resolve_precision(CPU, "auto") == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "none")])
def test_auto_on_cuda_refuses_emulated_bf16(monkeypatch, supported, expected):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    assert resolve_precision(CUDA, "auto") == expected


def test_auto_elsewhere_is_full_precision(monkeypatch):
    assert resolve_precision(torch.device("mps"), "auto") == "none"
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, check, raising=False)
    assert resolve_precision(CPU, "auto") == "none"


def test_named_precisions():
    assert resolve_precision(CPU, "bf16") == "bf16"
    assert resolve_precision(CPU, "none") == "none"
    assert resolve_precision(CUDA, "fp16") == "fp16"
    with pytest.raises(ReseenError, match="fp16 needs a GPU"):
        resolve_precision(CPU, "fp16")
    with pytest.raises(ReseenError, match="auto, bf16, fp16 or none"):
        resolve_precision(CPU, "half")


def test_autocast_sets_the_dtype_of_products():
    x = torch.randn(2, 2)
    with autocast(CPU, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, "none"):
        assert (x @ x).dtype == torch.float32
    assert device._DTYPES.keys() == {"bf16", "fp16", "none"}

"""The deformable convolution: loops, torchvision's kernel and our gather are one function."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from oracles import reppoints as oracle
from reseen.models.detectors import deform
from reseen.models.detectors.deform import DeformConv, Taps, regular_grid

SIZES = [(1, 4, 4, 5, 7), (2, 3, 6, 8, 8), (1, 4, 2, 1, 9), (2, 4, 4, 6, 1), (1, 2, 2, 1, 1)]


def draw(batch, channels_in, channels_out, rows, columns, reach=4.0, seed=0):
    torch.manual_seed(seed)
    conv = DeformConv(channels_in, channels_out, std=0.5)
    maps = torch.randn(batch, channels_in, rows, columns)
    # far beyond the border, and on whole cells, where a bilinear weight is 0 and 1
    offsets = torch.randn(batch, 18, rows, columns) * reach
    offsets[:, :, ::2] = offsets[:, :, ::2].round()
    return conv, maps, offsets


@pytest.mark.parametrize("size", SIZES)
def test_gather_is_the_kernel_is_the_loop(size):
    conv, maps, offsets = draw(*size)
    with torch.no_grad():
        gathered = conv.gather(maps, Taps(offsets))
        fused = conv(maps, offsets)
    torch.testing.assert_close(gathered, fused, rtol=1e-4, atol=1e-5)
    slow = oracle.deform_conv(maps[0].tolist(), offsets[0].tolist(), conv.weight.tolist())
    torch.testing.assert_close(gathered[0], torch.tensor(slow), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", [-1.0, -0.999, -1.001, 40.0, -40.0, 1e6])
def test_offsets_that_leave_the_map(shift):
    conv, maps, offsets = draw(1, 3, 4, 5, 6)
    offsets = torch.full_like(offsets, shift)
    with torch.no_grad():
        torch.testing.assert_close(
            conv.gather(maps, Taps(offsets)), conv(maps, offsets), rtol=1e-4, atol=1e-5
        )


def test_large_maps_go_through_in_blocks(monkeypatch):
    conv, maps, offsets = draw(2, 8, 8, 12, 13)
    with torch.no_grad():
        whole = conv.gather(maps, Taps(offsets))
        monkeypatch.setattr(deform, "_BLOCK_VALUES", 500)  # six cells of the 312
        torch.testing.assert_close(conv.gather(maps, Taps(offsets)), whole)
        relative = (conv(maps, offsets) - whole).abs().max() / whole.abs().max()
    assert relative < 1e-4


def test_channels_last_maps_give_the_same():
    conv, maps, offsets = draw(2, 8, 8, 6, 7)
    with torch.no_grad():
        other = conv.gather(maps.contiguous(memory_format=torch.channels_last), Taps(offsets))
        torch.testing.assert_close(other, conv.gather(maps, Taps(offsets)))


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_the_kernels(size):
    gradients = []
    for gather in (False, True):
        conv, maps, offsets = draw(*size)
        # a derivative at a whole cell is one of two: keep off
        offsets = torch.where(offsets == offsets.round(), offsets + 0.25, offsets)
        maps.requires_grad_()
        offsets.requires_grad_()
        out = conv.gather(maps, Taps(offsets)) if gather else conv(maps, offsets)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        gradients.append((maps.grad, offsets.grad, conv.weight.grad))
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close_and_only_without_gradients():
    conv, maps, offsets = draw(2, 32, 32, 10, 12, reach=1.5)
    with torch.no_grad():
        exact = conv.gather(maps, Taps(offsets))
        with torch.autocast("cpu", torch.bfloat16):
            lowered = conv.gather(maps.bfloat16(), Taps(offsets))
            assert conv(maps.bfloat16(), offsets).dtype == torch.float32
    assert lowered.dtype == torch.bfloat16
    assert (lowered - exact).norm() < 0.01 * exact.norm()
    with torch.autocast("cpu", torch.bfloat16):
        assert conv.gather(maps, Taps(offsets)).dtype == torch.float32


def test_the_layout_of_offsets_is_torchvisions():
    """Tap k of the regular grid at (y, x) moved by (dy, dx) reads (y + dy, x + dx)."""
    maps = torch.arange(25.0).view(1, 1, 5, 5)
    conv = DeformConv(1, 1)
    for tap in range(9):
        conv.weight.data.zero_()
        conv.weight.data.view(-1)[tap] = 1
        offsets = torch.zeros(1, 18, 5, 5)
        offsets[:, 2 * tap], offsets[:, 2 * tap + 1] = 1, -1
        y, x = (int(v) for v in regular_grid(torch.device("cpu"))[tap])
        assert conv.gather(maps, Taps(offsets))[0, 0, 2, 2] == maps[0, 0, 2 + y + 1, 2 + x - 1]
        assert deform_conv2d(maps, offsets, conv.weight, padding=1)[0, 0, 2, 2] == maps[0, 0, 3 + y, 1 + x]


def test_offsets_of_minus_the_grid_read_the_cell_nine_times():
    """Specification 8.5: zero outputs of the first stage make the offset -base."""
    conv, maps, _ = draw(2, 4, 4, 5, 6)
    offsets = -regular_grid(maps.device).reshape(1, -1, 1, 1).expand(2, 18, 5, 6)
    expected = F.conv2d(maps, conv.weight.sum((2, 3), keepdim=True))
    torch.testing.assert_close(conv(maps, offsets), expected)
    torch.testing.assert_close(conv.gather(maps, Taps(offsets)), expected)

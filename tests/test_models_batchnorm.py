"""Grouped batch norm against separate layers on slices, which is its definition."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import nn

from reseen.errors import ReseenError
from reseen.models.batchnorm import (
    GroupedBatchNorm1d,
    GroupedBatchNorm2d,
    GroupedBatchNormAct2d,
    convert,
    group_sizes,
)


def trained_looking(layer: nn.Module) -> nn.Module:
    """Weights, biases and buffers that are not 0 and 1, so that a mistake in any of them shows."""
    for tensor in (layer.weight, layer.bias, layer.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return layer


def separate_layers(layer: nn.Module, x: torch.Tensor, sizes: list[int]):
    """Oracle: one plain layer per slice, all starting alike; running statistics are their mean."""
    layers = [copy.deepcopy(layer) for _ in sizes]
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    slices = [x[stop - size : stop] for stop, size in zip(stops, sizes, strict=True)]
    outputs = torch.cat([one(part) for one, part in zip(layers, slices, strict=True)])
    mean = torch.stack([one.running_mean for one in layers]).mean(0)
    variance = torch.stack([one.running_var for one in layers]).mean(0)
    gradients = lambda name: sum(getattr(one, name).grad for one in layers)  # noqa: E731
    return outputs, mean, variance, gradients


LAYERS = {
    "1d": (lambda: nn.BatchNorm1d(3), (), GroupedBatchNorm1d),
    "2d": (lambda: nn.BatchNorm2d(3, momentum=0.3, eps=1e-3), (4, 2), GroupedBatchNorm2d),
    "cumulative": (lambda: nn.BatchNorm2d(3, momentum=None), (4, 2), GroupedBatchNorm2d),
    "with activation": (lambda: BatchNormAct2d(3, inplace=False), (4, 2), GroupedBatchNormAct2d),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("count", [8, 9, 11, 4, 3])
def test_equals_separate_layers_on_slices_forward_and_backward(kind, count, channels_last):
    torch.manual_seed(count)
    make, extent, grouped_type = LAYERS[kind]
    plain = trained_looking(make()).double().train()
    grouped = convert(copy.deepcopy(plain), 4)
    assert type(grouped) is grouped_type
    x = torch.randn(count, 3, *extent, dtype=torch.float64)
    if channels_last and extent:
        x = x.to(memory_format=torch.channels_last)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    output = grouped(ours)
    expected, mean, variance, gradients = separate_layers(plain, theirs, group_sizes(count, 4))
    pull = torch.randn_like(expected)
    output.backward(pull)
    expected.backward(pull)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(grouped.running_mean, mean)
    torch.testing.assert_close(grouped.running_var, variance)
    torch.testing.assert_close(grouped.weight.grad, gradients("weight"))
    torch.testing.assert_close(grouped.bias.grad, gradients("bias"))
    assert int(grouped.num_batches_tracked) == 1
    if channels_last and extent:
        assert output.is_contiguous(memory_format=torch.channels_last)


def test_groups_are_contiguous_and_differ_from_the_whole_batch():
    torch.manual_seed(0)
    x = torch.cat([torch.zeros(4, 2), torch.ones(4, 2)]) + 0.1 * torch.randn(8, 2)
    grouped = convert(nn.BatchNorm1d(2), 4)
    assert grouped(x)[:4].mean().abs() < 1e-6  # each half is centred by itself
    assert nn.BatchNorm1d(2)(x)[:4].mean() < -0.9


@pytest.mark.parametrize("group_size", [0, 8, 100])
def test_one_group_is_plain_batch_norm(group_size):
    torch.manual_seed(0)
    plain = trained_looking(nn.BatchNorm2d(3))
    grouped = convert(copy.deepcopy(plain), group_size)
    x = torch.randn(8, 3, 4, 2)
    assert torch.equal(grouped(x), plain(x))
    assert torch.equal(grouped.running_var, plain.running_var)


def test_evaluation_uses_running_statistics_and_leaves_them():
    plain = trained_looking(nn.BatchNorm2d(3)).eval()
    grouped = convert(copy.deepcopy(plain), 2)
    x = torch.randn(8, 3, 4, 2)
    assert torch.equal(grouped(x), plain(x))
    assert torch.equal(grouped.running_mean, plain.running_mean)


def test_without_running_statistics_groups_hold_in_evaluation_too():
    layer = convert(nn.BatchNorm1d(2, track_running_stats=False), 4)
    x = torch.randn(8, 2)
    expected = torch.cat([nn.BatchNorm1d(2)(x[:4]), nn.BatchNorm1d(2)(x[4:])])
    torch.testing.assert_close(layer(x), expected)


def test_a_frozen_bias_stays_frozen():
    layer = nn.BatchNorm1d(2)
    layer.bias.requires_grad_(False)
    convert(layer, 4)(torch.randn(8, 2)).square().sum().backward()
    assert layer.bias.grad is None
    assert layer.weight.grad is not None


def test_statistics_stay_float32_under_autocast():
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), 4)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.randn(8, 3, 8, 8))
    assert output.dtype == torch.bfloat16
    assert model[1].running_mean.dtype == model[1].running_var.dtype == torch.float32


def test_convert_keeps_names_tensors_and_mode_and_can_be_undone():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(BatchNormAct2d(4)), nn.BatchNorm1d(4)
    )
    model[3].eval()
    before = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert convert(model, 16) is model
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == before
    assert not model[3].training
    assert isinstance(model[2][0].act, nn.ReLU)
    convert(model, 0)
    assert [model[1].group_size, model[2][0].group_size, model[3].group_size] == [0, 0, 0]


@pytest.mark.parametrize("group_size", [1, -4])
def test_a_group_without_variance_is_refused(group_size):
    with pytest.raises(ReseenError, match="bn_group_size"):
        convert(nn.BatchNorm1d(2), group_size)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 300), st.integers(2, 70))
def test_group_sizes_cover_the_batch_and_leave_no_image_alone(count, group_size):
    sizes = group_sizes(count, group_size)
    assert sum(sizes) == count
    assert all(size == group_size for size in sizes[:-1])
    assert sizes[-1] <= group_size + 1
    assert count == 1 or min(sizes) >= 2


@pytest.mark.parametrize("inplace", [False, True])
def test_relu6_gives_the_bits_of_torch_in_both_directions(inplace):
    """Also where an input is 0 or 6 exactly, which only the input could tell from beyond."""
    torch.manual_seed(0)
    plain = BatchNormAct2d(3, act_layer=nn.ReLU6, inplace=inplace)
    grouped = convert(copy.deepcopy(plain), 4)
    nn.init.constant_(grouped.weight, 3.0)
    grouped.weight.data[0] = 0.0  # a channel of one value, its bias
    grouped.bias.data[:] = torch.tensor([6.0, 0.0, 3.0])
    x = torch.randn(8, 3, 4, 2)
    ours, torchs = x.clone().requires_grad_(), x.clone().requires_grad_()
    output = grouped(ours)
    grouped_norm = convert(nn.BatchNorm2d(3), 4)
    grouped_norm.load_state_dict(plain.state_dict())
    grouped_norm.weight.data[:], grouped_norm.bias.data[:] = grouped.weight.data, grouped.bias.data
    expected = nn.functional.relu6(grouped_norm(torchs))
    assert torch.equal(output, expected)
    assert ((expected == 0).any(), (expected == 6).any()) == (True, True)
    weights = torch.randn_like(x)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(ours.grad, torchs.grad)
    assert torch.equal(grouped.weight.grad, grouped_norm.weight.grad)
    assert torch.equal(grouped.bias.grad, grouped_norm.bias.grad)


def test_relu6_keeps_no_copy_of_its_input():
    layer = convert(BatchNormAct2d(3, act_layer=nn.ReLU6), 4)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        output = layer(torch.randn(8, 3, 4, 2))
    whole = [t for t in kept if t.shape == output.shape]
    assert [t.data_ptr() for t in whole] == [output.data_ptr()]

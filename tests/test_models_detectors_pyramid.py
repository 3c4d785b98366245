"""The feature pyramid: its maps, what stays frozen, and where its weights come from."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import nn

from reseen.errors import ReseenError
from reseen.models.pyramid import STRIDES, build_pyramid, norm_groups

TINY = "test_resnet"


def tiny(channels: int = 16, backbone: str = TINY):
    torch.manual_seed(0)
    return build_pyramid(backbone, channels=channels, weights="none")[0]


@pytest.mark.parametrize("backbone", [TINY, "resnet18", "mobilenetv3_small_050", "test_convnext"])
@pytest.mark.parametrize(("height", "width"), [(96, 160), (64, 32), (100, 70)])
def test_five_maps_each_half_the_size_of_the_one_before(backbone, height, width):
    maps = tiny(24, backbone)(torch.randn(2, 3, height, width))
    assert STRIDES == (8, 16, 32, 64, 128)
    if height % 32 == 0:
        assert [m.shape for m in maps] == [(2, 24, -(-height // s), -(-width // s)) for s in STRIDES]
    assert len(maps) == 5


def test_what_each_map_is_made_of():
    pyramid = tiny().eval()
    seen = {}
    pyramid.backbone.layer2.register_forward_hook(lambda *a: seen.update(c3=a[2]))
    pyramid.backbone.layer3.register_forward_hook(lambda *a: seen.update(c4=a[2]))
    pyramid.backbone.layer4.register_forward_hook(lambda *a: seen.update(c5=a[2]))
    maps = pyramid(torch.randn(1, 3, 128, 192))

    def norm(x: torch.Tensor, conv: nn.Sequential, **options) -> torch.Tensor:
        x = F.conv2d(x, conv[0].weight, padding=conv[0].kernel_size[0] // 2, **options)
        return F.group_norm(x, norm_groups(16), conv[1].weight, conv[1].bias)

    def twice(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    tops = [norm(seen[c], lateral) for c, lateral in zip(("c3", "c4", "c5"), pyramid.laterals, strict=True)]
    p4 = tops[1] + twice(tops[2])
    expected = [
        norm(x, out) for x, out in zip((tops[0] + twice(p4), p4, tops[2]), pyramid.outputs, strict=True)
    ]
    expected.append(norm(seen["c5"], pyramid.extras[0], stride=2))
    expected.append(norm(expected[-1], pyramid.extras[1], stride=2))
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not any(
        isinstance(m, nn.ReLU) for part in (pyramid.laterals, pyramid.outputs, pyramid.extras) for m in part
    )


def test_group_norm_has_32_groups_at_256_channels():
    assert norm_groups(256) == 32
    assert all(m.num_groups == 4 for m in tiny(32).modules() if isinstance(m, nn.GroupNorm))


def test_from_scratch_everything_trains_and_statistics_move():
    pyramid = tiny().train()
    before = {name: value.clone() for name, value in pyramid.named_buffers()}
    sum(m.square().sum() for m in pyramid(torch.randn(2, 3, 96, 96))).backward()
    assert [name for name, p in pyramid.named_parameters() if p.grad is None] == []
    assert all(not torch.equal(value, before[name]) for name, value in pyramid.named_buffers())


def test_frozen_the_stem_and_stage_1_stay_and_statistics_stay():
    pyramid = tiny()
    pyramid.freeze()
    assert pyramid.training
    assert not pyramid.backbone.layer2[0].bn1.training  # at once, and after train()
    pyramid.train()
    before = {name: value.clone() for name, value in pyramid.named_buffers()}
    sum(m.square().sum() for m in pyramid(torch.randn(2, 3, 96, 96))).backward()
    still = {name for name, p in pyramid.named_parameters() if p.grad is None}
    backbone = pyramid.backbone
    early = [*backbone.conv1.parameters(), *backbone.bn1.parameters(), *backbone.layer1.parameters()]
    names = {id(p): name for name, p in pyramid.named_parameters()}
    assert still == {names[id(p)] for p in early}
    assert all(torch.equal(value, before[name]) for name, value in pyramid.named_buffers())
    assert backbone.layer2[0].bn1.weight.grad is not None  # scale and shift train where the convolutions do
    assert pyramid.outputs.training
    assert not backbone.layer2[0].bn1.training


def test_pretrained_weights_come_from_a_file_and_freeze(tmp_path):
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    short = {name: value.half() for name, value in theirs.items() if not name.startswith("layer4")}
    save_file(short, tmp_path / "short.safetensors")
    pyramid, report = build_pyramid("resnet18", channels=8, weights=tmp_path / "short.safetensors")
    assert pyramid.frozen
    torch.testing.assert_close(pyramid.backbone.conv1.weight, theirs["conv1.weight"], rtol=1e-3, atol=1e-3)
    assert report.missing
    assert all(name.startswith("backbone.layer4.") for name in report.missing)
    assert not pyramid.backbone.conv1.weight.requires_grad
    assert pyramid.backbone.layer4[0].conv1.weight.requires_grad
    # what the file lacks is a scale and a shift, and its maps stay of the size of the others
    norm = pyramid.backbone.layer4[0].bn1
    assert norm.running_mean.eq(0).all()
    assert norm.running_var.eq(1).all()


def test_nothing_is_frozen_without_weights():
    assert not tiny().frozen
    assert all(p.requires_grad for p in tiny().parameters())


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "street", "squeezenet1_1"])
def test_a_backbone_without_maps_is_refused(backbone):
    with pytest.raises(ReseenError, match="strides 8, 16 and 32"):
        tiny(backbone=backbone)


@pytest.mark.parametrize("channels", [0, 12, -8])
def test_channels_that_groups_do_not_divide_are_refused(channels):
    with pytest.raises(ReseenError, match="multiple of 8"):
        tiny(channels)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ReseenError, match="did you mean resnet50"):
        tiny(backbone="resnet5o")

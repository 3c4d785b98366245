"""Encoders: shapes, strides, pooling, neck; and the predictor."""

import dataclasses

import pytest
import torch
from torch import nn

from reseen.config import ModelConfig
from reseen.errors import ReseenError
from reseen.methods.common import crop_encoder
from reseen.models.batchnorm import GroupedBatchNorm1d, GroupedBatchNorm2d, GroupedBatchNormAct2d
from reseen.models.encoders import Encoder, EncoderOutput, GeM, build_encoder, build_predictor
from worlds import tiny

STREET = ModelConfig(backbone="street")


def maps_of(encoder: Encoder, height: int = 64, width: int = 32) -> torch.Tensor:
    encoder.eval()
    with torch.no_grad():
        return encoder.backbone.forward_features(torch.randn(1, 3, height, width))


@pytest.mark.parametrize(
    ("backbone", "dim", "maps"),
    [
        ("street", 96, (8, 4)),
        ("squeezenet1_1", 512, (3, 1)),
        ("resnet18", 512, (4, 2)),
        ("resnet50", 2048, (4, 2)),
        ("resnet50d", 2048, (4, 2)),  # its shortcut pools
        ("densenet121", 1024, (2, 1)),
    ],
)
def test_shapes_with_last_stride_1(backbone, dim, maps):
    encoder = build_encoder(ModelConfig(backbone=backbone))
    assert encoder.dim == dim
    assert maps_of(encoder).shape == (1, dim, *maps)
    output = encoder(torch.randn(2, 3, 64, 32))
    assert [part.shape for part in output] == [(2, dim)] * 3
    torch.testing.assert_close(output.features.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(output.features, output.embedding / output.embedding.norm(dim=1, keepdim=True))


def test_last_maps_of_a_resnet_are_16x8_at_256x128():
    encoder = build_encoder(ModelConfig(backbone="resnet18"))
    assert maps_of(encoder, 256, 128).shape[2:] == (16, 8)
    encoder = build_encoder(ModelConfig(backbone="resnet18", last_stride=2))
    assert maps_of(encoder, 256, 128).shape[2:] == (8, 4)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_transformers_give_one_vector_for_any_image_size(backbone):
    encoder = build_encoder(ModelConfig(backbone=backbone)).eval()
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, 64, 32)).features.shape == (1, encoder.dim)


def test_a_transformer_is_pooled_over_its_patches_without_the_class_token():
    encoder = build_encoder(ModelConfig(backbone="vit_tiny_patch16_224")).eval()
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        tokens = encoder.backbone.forward_features(images)
        assert tokens.shape == (1, 1 + 4 * 2, 192)
        torch.testing.assert_close(encoder(images).pooled, tokens[:, 1:].mean(1))


def test_caffe_style_moves_the_stride_to_conv1_and_sets_eps():
    usual = build_encoder(ModelConfig(backbone="resnet50")).backbone
    caffe = build_encoder(ModelConfig(backbone="resnet50", stride_on="conv1", bn_eps=1e-3)).backbone
    for stage in ("layer2", "layer3"):
        assert (usual.get_submodule(stage)[0].conv1.stride, usual.get_submodule(stage)[0].conv2.stride) == (
            (1, 1),
            (2, 2),
        )
        assert (caffe.get_submodule(stage)[0].conv1.stride, caffe.get_submodule(stage)[0].conv2.stride) == (
            (2, 2),
            (1, 1),
        )
    assert caffe.layer4[0].conv1.stride == caffe.layer4[0].conv2.stride == (1, 1)
    assert {layer.eps for layer in caffe.modules() if isinstance(layer, nn.BatchNorm2d)} == {1e-3}
    caffe.load_state_dict(usual.state_dict())
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        ours, theirs = (one.eval().forward_features(images) for one in (usual, caffe))
    assert ours.shape == theirs.shape
    assert not torch.allclose(ours, theirs)
    with pytest.raises(ReseenError, match="stride_on"):
        build_encoder(ModelConfig(backbone="resnet18", stride_on="conv1"))


def test_every_batch_norm_is_grouped_and_state_dicts_fit_any_group_size():
    grouped = build_encoder(ModelConfig(backbone="densenet121"))
    plain = build_encoder(ModelConfig(backbone="densenet121", bn_group_size=0))
    kinds = (GroupedBatchNorm1d, GroupedBatchNorm2d, GroupedBatchNormAct2d)
    sizes = [layer.group_size for layer in grouped.modules() if isinstance(layer, kinds)]
    assert len(sizes) == 122  # 121 of the backbone and the neck
    assert set(sizes) == {16}
    assert not any(isinstance(layer, kinds) and layer.group_size for layer in plain.modules())
    plain.load_state_dict(grouped.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(grouped.eval()(images).features, plain.eval()(images).features)


def test_an_encoder_over_groups_equals_the_plain_encoder_on_each_group():
    torch.manual_seed(0)
    grouped = build_encoder(dataclasses.replace(STREET, bn_group_size=4)).double()
    plain = build_encoder(dataclasses.replace(STREET, bn_group_size=0)).double()
    plain.load_state_dict(grouped.state_dict())
    images = torch.randn(8, 3, 32, 16, dtype=torch.float64)
    output = grouped(images)
    assert output.features.dtype == torch.float64
    expected = torch.cat([plain(images[:4]).features, plain(images[4:]).features])
    torch.testing.assert_close(output.features, expected)


def test_neck_bias_is_zero_and_never_learns():
    encoder = build_encoder(STREET)
    assert not encoder.neck.bias.requires_grad
    assert torch.equal(encoder.neck.bias, torch.zeros(96))
    assert torch.equal(encoder.neck.weight, torch.ones(96))


def test_outputs_are_float32_under_autocast_and_follow_full_precision():
    torch.manual_seed(0)
    encoder = build_encoder(STREET).eval()
    images = torch.randn(4, 3, 64, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = encoder(images)
    assert {part.dtype for part in half} == {torch.float32}
    with torch.no_grad():
        full = encoder(images)
    assert (half.features * full.features).sum(1).min() > 0.999


def test_gem_is_the_average_at_1_and_nears_the_maximum():
    torch.manual_seed(0)
    maps = torch.rand(2, 5, 8, 4, dtype=torch.float64) + 0.1
    torch.testing.assert_close(GeM(1.0).double()(maps), maps.mean((2, 3)))
    torch.testing.assert_close(GeM(2.0).double()(maps), maps.square().mean((2, 3)).sqrt())
    torch.testing.assert_close(GeM(400.0).double()(maps), maps.amax((2, 3)), rtol=0.02, atol=0)


def test_gem_learns_its_exponent_and_survives_dead_maps():
    encoder = build_encoder(dataclasses.replace(STREET, pooling="gem"))
    encoder(torch.randn(4, 3, 32, 16)).features.sum().backward()
    assert encoder.pooling.p.grad is not None
    assert torch.isfinite(encoder.pooling.p.grad)
    dead = torch.zeros(1, 3, 4, 2, requires_grad=True)
    GeM()(dead).sum().backward()
    assert torch.isfinite(dead.grad).all()


@pytest.mark.parametrize("reads", ["pooled", "embedding"])
@pytest.mark.parametrize("kind", ["linear", "linear_bn"])
def test_predictor_variants(kind, reads):
    torch.manual_seed(0)
    config = dataclasses.replace(STREET, predictor=kind, predictor_input=reads, bn_group_size=4)
    predictor = build_predictor(config, 5)
    output = EncoderOutput(torch.randn(8, 5), torch.randn(8, 5), torch.randn(8, 5))
    hidden = getattr(output, reads) @ predictor.linear.weight.T + predictor.linear.bias
    if kind == "linear":
        expected = hidden
    else:
        halves = hidden.reshape(2, 4, 5)  # two groups of four, each normalised by itself
        expected = (halves - halves.mean(1, keepdim=True)) / (
            halves.var(1, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        assert not predictor.bn.bias.requires_grad
    torch.testing.assert_close(predictor(output), expected.reshape(8, 5))


def test_predictor_is_float32_under_autocast():
    output = EncoderOutput(*torch.randn(3, 4, 96))
    with torch.autocast("cpu", torch.bfloat16):
        assert build_predictor(STREET, 96)(output).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet5O", "resnet50"), ("stret", "street"), ("qqqqq", "list_models")]
)
def test_an_unknown_backbone_gets_the_nearest_name(name, hint):
    with pytest.raises(ReseenError, match=hint):
        build_encoder(ModelConfig(backbone=name))


def test_an_unknown_tag_is_one_line():
    with pytest.raises(ReseenError, match="nonsense"):
        build_encoder(ModelConfig(backbone="resnet18.nonsense"))


def test_the_street_net_is_tiny():
    assert sum(tensor.numel() for tensor in build_encoder(STREET).parameters()) < 180_000


@pytest.mark.parametrize("backbone", ["crossvit_tiny_240", "vit_tiny_patch16_224"])
def test_a_backbone_without_maps_of_such_images_is_one_line(backbone):
    """Lists of tokens; and patches of 16 pixels, into which 24 x 24 does not fall."""
    with pytest.raises(ReseenError, match=r"model\.backbone: this one gives no feature maps") as error:
        crop_encoder(tiny("cacl", f"model.backbone={backbone}", "data.height=24", "data.width=24"))
    assert "\n" not in str(error.value)

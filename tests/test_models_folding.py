"""Folded encoders against the plain ones."""

import copy

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reseen.config import ModelConfig
from reseen.models.encoders import build_encoder
from reseen.models.folding import folded

LEFT = {  # batch norms that stay: the neck; in DenseNet those that read a concatenation
    "street": 1,
    "tf_efficientnet_lite0": 1,
    "resnet18": 1,
    "densenet121": 63,
    "squeezenet1_1": 1,
    "vit_tiny_patch16_224": 1,
}


def trained_looking(encoder: nn.Module) -> nn.Module:
    for layer in encoder.modules():
        if isinstance(layer, _BatchNorm):
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
    return encoder


def norms(encoder: nn.Module) -> int:
    return sum(isinstance(layer, _BatchNorm) for layer in encoder.modules())


@pytest.mark.parametrize("backbone", LEFT)
def test_folding_changes_rounding_only(backbone):
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, bn_group_size=2)
    encoder = trained_looking(build_encoder(config))
    before = copy.deepcopy(encoder.state_dict())
    images = torch.randn(5, 3, 64, 32)
    result = folded(encoder)
    assert norms(result) == LEFT[backbone]
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    with torch.inference_mode():
        expected, output = encoder.eval()(images), result(images)
    torch.testing.assert_close(output.features, expected.features, rtol=0, atol=1e-5)
    scale = expected.pooled.abs().max()
    torch.testing.assert_close(output.pooled / scale, expected.pooled / scale, rtol=0, atol=1e-5)


class Awkward(nn.Module):
    """What must stay: read twice, called twice, standardised weights, no running statistics."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.again = (nn.Conv2d(i, 4, 3, padding=1) for i in (3, 4, 4))
        self.standard = StdConv2d(4, 4, 3, padding=1)
        self.after_stem, self.after_twice, self.after_standard = (nn.BatchNorm2d(4) for _ in range(3))
        self.after_again = nn.BatchNorm2d(4, track_running_stats=False)

    def forward_features(self, images):
        stem = self.stem(images)
        maps = self.after_stem(stem) + stem
        maps = self.after_twice(self.twice(self.twice(maps)))
        maps = self.after_standard(self.standard(maps))
        return self.after_again(self.again(maps))


class Untraceable(nn.Module):
    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward_features(self, images):
        return self.norm(self.conv(images if images.mean() > 0 else -images))


@pytest.mark.parametrize("kind", [Awkward, Untraceable])
def test_what_cannot_be_folded_stays(kind):
    torch.manual_seed(0)
    encoder = build_encoder(ModelConfig(backbone="street"))
    encoder.backbone, encoder.neck = kind(), nn.BatchNorm1d(4)
    for layer in encoder.modules():
        if isinstance(layer, _BatchNorm) and layer.running_var is not None:
            nn.init.normal_(layer.running_mean)
    result, images = folded(encoder), torch.randn(3, 3, 16, 8)
    assert norms(result) == norms(encoder)
    with torch.inference_mode():
        assert torch.equal(result(images).features, encoder.eval()(images).features)

"""Embedding many crops: order, mode, precision, and what is handed to the loader."""

from pathlib import Path

import pytest
import torch
from torch import nn

from reseen.config import ModelConfig
from reseen.models import embedding
from reseen.models.embedding import embed
from reseen.models.encoders import build_encoder
from reseen.records import Crop

CROPS = tuple(Crop(Path(f"{i}.jpg")) for i in range(7))


def image_of(crop: Crop) -> torch.Tensor:
    generator = torch.Generator().manual_seed(int(crop.path.stem))
    return torch.randn(3, 32, 16, generator=generator)


@pytest.fixture(autouse=True)
def loader(monkeypatch):
    """Batches that arrive last first, as a loader with workers might hand them over."""

    def clean_batches(crops, transform, *, batch_size, workers, pin):
        assert (workers, pin) == (0, False)
        for rows in reversed(torch.arange(len(crops)).split(batch_size)):
            yield rows, torch.stack([transform(image_of(crops[row])) for row in rows])

    monkeypatch.setattr(embedding, "clean_batches", clean_batches)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder(ModelConfig(backbone="street", bn_group_size=2))


def test_rows_follow_the_crops_and_progress_counts_images(encoder):
    seen = []
    features = embed(
        encoder,
        CROPS,
        lambda x: 2 * x,
        batch_size=3,
        device="cpu",
        precision="none",
        workers=0,
        progress=seen.append,
    )
    assert seen == [1, 4, 7]
    assert features.dtype == torch.float32
    assert not features.requires_grad
    with torch.no_grad():
        expected = encoder.eval()(torch.stack([2 * image_of(crop) for crop in CROPS])).features
    torch.testing.assert_close(features, expected)


def test_modes_come_back_also_frozen_parts_and_after_an_error(encoder):
    encoder.backbone.eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    embed(encoder, CROPS, lambda x: x, batch_size=4, device="cpu", precision="none")
    assert encoder.training
    assert encoder.neck.training
    assert not encoder.backbone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())

    def fail(_image):
        assert not encoder.training
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        embed(encoder, CROPS, fail, batch_size=4, device="cpu", precision="none")
    assert encoder.neck.training


def test_half_precision_gives_float32_rows_of_length_1_near_the_full_ones(encoder):
    full = embed(encoder, CROPS, lambda x: x, batch_size=4, device="cpu", precision="none")
    half = embed(encoder, CROPS, lambda x: x, batch_size=4, device="cpu", precision="bf16")
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.norm(dim=1), torch.ones(len(CROPS)))
    assert (half * full).sum(1).min() > 0.999
    assert not torch.equal(half, full)


def test_features_can_be_trained_on_afterwards(encoder):
    features = embed(encoder, CROPS, lambda x: x, batch_size=4, device="cpu", precision="none")
    head = nn.Linear(96, 2)
    head(features).sum().backward()  # an inference tensor would refuse
    assert head.weight.grad is not None

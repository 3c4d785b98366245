from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reseen.config import DataConfig
from reseen.data import clean_transform, grey_transform, training_transform
from reseen.data.transforms import ERASE_FILL, LUMA, MEAN, STD, greyed

SMALL = DataConfig(height=64, width=32)
PLAIN = replace(SMALL, flip=0.0, erase=0.0, pad=0.0)
MEANS, STDS = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)


def image(height: int = 64, width: int = 32, seed: int = 0) -> Tensor:
    return torch.randint(1, 256, (3, height, width), generator=torch.Generator().manual_seed(seed)).byte()


def pixels(view: Tensor) -> Tensor:
    """Undo the normalisation."""
    return view * STDS + MEANS


def seeded(transform: object, raw: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    result: Tensor = transform(raw)  # type: ignore[operator]
    return result


def test_clean_is_bicubic_antialiased_and_normalised() -> None:
    smooth = np.array(Image.fromarray(image(6, 4).permute(1, 2, 0).numpy()).resize((100, 180)))
    expected = np.asarray(Image.fromarray(smooth).resize((32, 64), Image.Resampling.BICUBIC))
    view = clean_transform(SMALL)(torch.from_numpy(smooth).permute(2, 0, 1))
    assert view.shape == (3, 64, 32)
    assert view.dtype == torch.float32
    assert (pixels(view) * 255 - torch.from_numpy(expected.copy()).permute(2, 0, 1)).abs().max() <= 1.001


def test_clean_of_the_right_size_changes_nothing() -> None:
    torch.testing.assert_close(pixels(clean_transform(SMALL)(image())) * 255, image().float())


def test_grey_is_luma_in_every_channel() -> None:
    raw = image()
    view = pixels(grey_transform(SMALL)(raw)) * 255
    expected = sum(weight * raw[channel].float() for channel, weight in enumerate(LUMA))
    for channel in view:
        torch.testing.assert_close(channel, expected, atol=1e-3, rtol=0)
    assert greyed(torch.rand(3, 4, 5)).is_contiguous()


def test_the_input_is_left_alone() -> None:
    raw = image()
    before = raw.clone()
    for transform in (clean_transform(SMALL), grey_transform(SMALL), training_transform(SMALL, second=True)):
        transform(raw)
    assert torch.equal(raw, before)


@pytest.mark.parametrize("second_view", ["grey", "none", "jitter"])
@pytest.mark.parametrize("size", [(64, 32), (128, 64), (30, 50), (1, 1)])
def test_a_view_is_a_function_of_the_seed(second_view: str, size: tuple[int, int]) -> None:
    config = replace(SMALL, second_view=second_view, zoom=0.2, jitter=0.3)  # type: ignore[arg-type]
    for second in (False, True):
        transform = training_transform(config, second=second)
        one, same, other = (seeded(transform, image(*size), seed) for seed in (1, 1, 2))
        assert one.shape == (3, 64, 32)
        assert one.dtype == torch.float32
        assert torch.isfinite(one).all()
        assert torch.equal(one, same)
        assert size == (1, 1) or not torch.equal(one, other)


def test_the_second_view_is_grey_everywhere_erased_patch_and_border_included() -> None:
    transform = training_transform(replace(SMALL, erase=1.0), second=True)
    spread = max(
        (pixels(view).amax(0) - pixels(view).amin(0)).max().item()
        for view in (seeded(transform, image(), seed) for seed in range(20))
    )
    assert spread < 1e-6


def test_grey_comes_last_and_only_there() -> None:
    """G after T': the grey view is the luma of the colour view of the same draw."""
    grey = training_transform(SMALL, second=True)
    colour = training_transform(replace(SMALL, second_view="none"), second=True)
    first = training_transform(SMALL, second=False)
    for seed in range(5):
        view = seeded(colour, image(), seed)
        torch.testing.assert_close(pixels(seeded(grey, image(), seed)), greyed(pixels(view)))
        assert torch.equal(view, seeded(first, image(), seed))  # T' is T, drawn apart


def test_flip() -> None:
    raw = image()
    always = training_transform(replace(PLAIN, flip=1.0), second=False)
    never = training_transform(PLAIN, second=False)
    torch.testing.assert_close(pixels(always(raw)) * 255, raw.flip(2).float())
    torch.testing.assert_close(pixels(never(raw)) * 255, raw.float())


def test_pad_and_crop_is_a_shift_on_black_that_reaches_every_offset() -> None:
    pad = 3
    config = replace(PLAIN, pad=pad / 64)
    raw = image()
    padded = torch.nn.functional.pad(raw, (pad,) * 4)
    transform = training_transform(config, second=False)
    seen = set()
    for seed in range(400):
        view = (pixels(seeded(transform, raw, seed)) * 255).round().byte()
        places = [
            (y, x)
            for y in range(2 * pad + 1)
            for x in range(2 * pad + 1)
            if torch.equal(view, padded[:, y : y + 64, x : x + 32])
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == (2 * pad + 1) ** 2


def test_default_pad_is_ten_pixels_of_256() -> None:
    assert round(DataConfig().pad * 256) == 10


def test_erasing_has_the_fill_of_spcl_and_the_right_size() -> None:
    """SpCL fills with ImageNet's mean AFTER normalising, so the patch holds .485, .456, .406 there."""
    transform = training_transform(replace(PLAIN, erase=1.0), second=False)
    never = training_transform(PLAIN, second=False)
    shares, aspects = [], []
    for seed in range(300):
        view = seeded(transform, image(), seed)
        patch = (view - MEANS).abs().amax(0) < 1e-6
        rows, columns = patch.any(1).nonzero().flatten(), patch.any(0).nonzero().flatten()
        tall, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert int(patch.sum()) == tall * wide  # one full rectangle
        assert torch.equal(view[:, ~patch], never(image())[:, ~patch])
        shares.append(tall * wide / (64 * 32))
        aspects.append(tall / wide)
    assert 0.01 < min(shares) < 0.06
    assert 0.3 < max(shares) < 0.43
    assert 0.2 < min(aspects) < 0.5
    assert 2.5 < max(aspects) < 4.5
    torch.testing.assert_close((ERASE_FILL - MEANS) / STDS, MEANS)


def test_erasing_happens_as_often_as_configured() -> None:
    transform = training_transform(replace(PLAIN, erase=0.5), second=False)
    clean = training_transform(PLAIN, second=False)(image())
    erased = sum(not torch.equal(seeded(transform, image(), seed), clean) for seed in range(400))
    assert 150 < erased < 250


def test_zoom_changes_the_scale_both_ways() -> None:
    """A white image: smaller ones leave a black border, larger ones none."""
    transform = training_transform(replace(PLAIN, zoom=0.3), second=False)
    white = torch.full((3, 64, 32), 255, dtype=torch.uint8)
    shares = [float((pixels(seeded(transform, white, seed))[0] > 0.5).float().mean()) for seed in range(100)]
    assert min(shares) < 0.6
    assert 30 < sum(share == 1.0 for share in shares) < 70


@pytest.mark.parametrize("second", [False, True])
def test_jitter_moves_colours_of_both_views(second: bool) -> None:
    config = replace(PLAIN, jitter=0.3, second_view="none")
    view = pixels(seeded(training_transform(config, second=second), image(), 1))
    assert not torch.allclose(view, image().float() / 255, atol=0.02)
    assert view.min() + 1e-6 >= 0
    assert view.max() <= 1 + 1e-6


def test_second_view_jitter_keeps_colour_and_leaves_the_first_view_alone() -> None:
    config = replace(PLAIN, second_view="jitter")
    first = pixels(training_transform(config, second=False)(image()))
    second = pixels(seeded(training_transform(config, second=True), image(), 3))
    torch.testing.assert_close(first, image().float() / 255)
    assert not torch.allclose(second, first, atol=0.02)
    assert (second.amax(0) - second.amin(0)).max() > 0.1

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reseen.config import DataConfig
from reseen.data import clean_batches, clean_transform, train_batches
from reseen.data.images import read_image
from reseen.data.loaders import TrainBatch, resolve_workers, view_seed
from reseen.data.transforms import training_transform
from reseen.errors import ReseenError
from reseen.records import Crop

SMALL = DataConfig(height=32, width=16, pad=3 / 32)
BATCHES = [np.array([3, 1, 4]), np.array([1, 5, 0]), np.array([2, 2, 2]), np.array([5])]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Crop, ...]:
    root, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for row in range(6):
        noise = Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8))
        noise.resize((20, 40)).save(root / f"{row}.jpg")
    return tuple(Crop(root / f"{row}.jpg") for row in range(6))


def load(crops: tuple[Crop, ...], seed: int = 1, epoch: int = 2, **options: object) -> list[TrainBatch]:
    config = options.pop("config", SMALL)
    return list(train_batches(crops, BATCHES, config, seed=seed, epoch=epoch, **options))  # type: ignore[arg-type]


def same(one: list[TrainBatch], other: list[TrainBatch]) -> bool:
    def views(batches: list[TrainBatch]) -> list[Tensor]:
        return [t for b in batches for t in (b.rows, b.first, b.second) if t is not None]

    pairs = list(zip(views(one), views(other), strict=True))
    return all(torch.equal(a, b) for a, b in pairs)


def test_shapes_and_rows(crops: tuple[Crop, ...]) -> None:
    batches = load(crops)
    assert [batch.rows.tolist() for batch in batches] == [rows.tolist() for rows in BATCHES]
    for batch in batches:
        assert batch.first is not None
        assert batch.second is not None
        assert batch.rows.dtype == torch.int64
        assert batch.first.shape == batch.second.shape == (len(batch.rows), 3, 32, 16)
        assert batch.first.dtype == batch.second.dtype == torch.float32


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(crops: tuple[Crop, ...], workers: int) -> None:
    assert same(load(crops), load(crops, workers=workers))


def test_ranks_share_the_batch_of_one_process(crops: tuple[Crop, ...]) -> None:
    whole, parts = load(crops), [load(crops, rank=rank, ranks=2) for rank in range(2)]
    for number, batch in enumerate(whole):
        shares = [part[number] for part in parts]
        assert torch.equal(torch.cat([share.rows for share in shares]), batch.rows)
        seconds = [share.second for share in shares if share.second is not None]
        assert batch.second is not None
        assert torch.equal(torch.cat(seconds), batch.second)


def test_later_batches_alone_are_what_they_are_after_the_first(crops: tuple[Crop, ...]) -> None:
    rest = train_batches(crops, BATCHES[1:], SMALL, seed=1, epoch=2, position=len(BATCHES[0]))
    assert same(list(rest), load(crops)[1:])


def test_every_view_is_the_transform_under_its_seed(crops: tuple[Crop, ...]) -> None:
    """The oracle: one image, one seed, one transform, position by position."""
    config = replace(SMALL, zoom=0.1)
    position = 0
    for batch in load(crops, config=config):
        for index, row in enumerate(batch.rows.tolist()):
            for number, images in enumerate((batch.first, batch.second)):
                torch.manual_seed(view_seed(1, 2, position, number))
                view = training_transform(config, second=number == 1)(read_image(crops[row].path))
                assert images is not None
                assert torch.equal(images[index], view)
            position += 1


def test_draws_differ_by_seed_epoch_position_and_view(crops: tuple[Crop, ...]) -> None:
    config = replace(SMALL, second_view="none")
    base = load(crops, config=config)
    assert not same(base, load(crops, config=config, seed=2))
    assert not same(base, load(crops, config=config, epoch=3))
    repeated = base[2]  # three draws of one image
    assert repeated.first is not None
    assert repeated.second is not None
    views = [*repeated.first, *repeated.second]
    assert sum(torch.equal(a, b) for i, a in enumerate(views) for b in views[:i]) <= 1


def test_seeds_do_not_collide() -> None:
    seeds = {
        view_seed(seed, epoch, position, view)
        for seed in (0, 1)
        for epoch in range(3)
        for position in range(2000)
        for view in (0, 1)
    }
    assert len(seeds) == 2 * 3 * 2000 * 2
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert view_seed(1, 0, 0, 0) != view_seed(0, 1, 0, 0)
    assert view_seed(-3, 0, 0, 0) >= 0


@pytest.mark.parametrize("workers", [0, 1])
def test_the_callers_generators_are_untouched(crops: tuple[Crop, ...], workers: int) -> None:
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    for _ in train_batches(crops, BATCHES, SMALL, seed=1, epoch=2, workers=workers):
        assert torch.equal(torch.get_rng_state(), before[0])
    list(clean_batches(crops, clean_transform(SMALL), batch_size=2, workers=workers))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("view", ["first", "second"])
def test_one_view_only(crops: tuple[Crop, ...], view: str) -> None:
    both, one = load(crops), load(crops, views=(view,))
    other = "second" if view == "first" else "first"
    for batch, single in zip(both, one, strict=True):
        assert torch.equal(getattr(single, view), getattr(batch, view))
        assert getattr(single, other) is None


def test_to(crops: tuple[Crop, ...]) -> None:
    batch = load(crops, views=("first",))[0].to("cpu", channels_last=True)
    assert batch.first is not None
    assert batch.first.is_contiguous(memory_format=torch.channels_last)
    assert batch.second is None


@pytest.mark.parametrize("workers", [0, 2])
def test_clean_batches(crops: tuple[Crop, ...], workers: int) -> None:
    transform = clean_transform(SMALL)
    batches = list(clean_batches(crops, transform, batch_size=4, workers=workers))
    assert [rows.tolist() for rows, _ in batches] == [[0, 1, 2, 3], [4, 5]]
    images = torch.cat([images for _, images in batches])
    assert torch.equal(images, torch.stack([transform(read_image(crop.path)) for crop in crops]))


def test_nothing_to_load(crops: tuple[Crop, ...]) -> None:
    assert list(train_batches(crops, [], SMALL, seed=0, epoch=0, workers=2)) == []
    assert list(clean_batches((), clean_transform(SMALL), batch_size=4, workers=2)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_later_is_one_clear_line(
    crops: tuple[Crop, ...], tmp_path: Path, workers: int
) -> None:
    (tmp_path / "torn.jpg").write_bytes(crops[0].path.read_bytes()[:300])
    torn = (*crops[:5], Crop(tmp_path / "torn.jpg"))
    with pytest.raises(ReseenError, match=r"torn\.jpg is truncated") as caught:
        load(torn, workers=workers)
    assert "\n" not in str(caught.value)


def _die(image: Tensor) -> Tensor:
    os._exit(3)


def test_a_worker_that_dies_is_one_clear_line(crops: tuple[Crop, ...]) -> None:
    with pytest.raises(ReseenError, match=r"set data\.workers=0"):
        list(clean_batches(crops, _die, batch_size=2, workers=1))


def test_workers_by_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 0), (2, 1), (8, 4), (64, 8)):
        monkeypatch.setattr("reseen.data.loaders.usable_cpus", lambda cores=cores: cores)
        assert resolve_workers(-1) == workers
    assert resolve_workers(5) == 5

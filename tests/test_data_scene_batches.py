"""What a network sees of a scene: boxes follow the pixels, batches depend on nothing but seed, epoch and scene."""

from __future__ import annotations

import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reseen.data import SceneBatch, SceneView, clean_scene_batches, in_file_pixels, scene_batches
from reseen.data.scene_loaders import _make
from reseen.data.scene_transforms import padded, seen_scene
from reseen.data.transforms import MEAN, STD
from reseen.errors import ReseenError
from reseen.records import Scene
from scene_worlds import scene

SIZE = SceneView(96, 48)
BATCHES = [np.array([3, 1]), np.array([0, 2, 4, 1]), np.array([5])]
BOXES = [(2.0, 3.0, 11.0, 20.0), (30.0, 5.0, 8.0, 16.0)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, ...]:
    """Six scenes of different shapes; scene 2 has no person, scene 4 a NaN, a box outside and a good one."""
    root = tmp_path_factory.mktemp("scenes")
    sizes = [(60, 40), (40, 60), (60, 40), (200, 30), (50, 50), (33, 44)]
    boxes: list[Any] = [
        BOXES,
        [(1, 2, 20, 40)],
        [],
        [(150, 2, 20, 20)],
        [BOXES[1], (60, 60, 9, 9), BOXES[0]],
        BOXES[:1],
    ]
    made = [scene(root / f"{n}.png", boxes[n], sizes[n]) for n in range(6)]
    made[4].boxes[0, 0] = np.nan
    return tuple(made)


def load(scenes: tuple[Scene, ...], seed: int = 1, epoch: int = 2, **options: Any) -> list[SceneBatch]:
    return list(scene_batches(scenes, BATCHES, SIZE, seed=seed, epoch=epoch, **options))


def tensors(batch: SceneBatch) -> list[Tensor]:
    found: list[Tensor] = []
    for field in fields(batch):
        value = getattr(batch, field.name)
        found += value if isinstance(value, list) else [value]
    return found


def same(one: list[SceneBatch], other: list[SceneBatch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a, b) for left, right in pairs for a, b in zip(tensors(left), tensors(right), strict=True)
    )


# Sizes


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (600, 800, (800, 1067)),  # CUHK-SYSU's usual scene: the shorter side is the limit
        (1080, 1920, (750, 1333)),  # PRW: the longer one is
        (1920, 1080, (1333, 750)),
        (10, 10_000, (1, 1333)),
        (1, 1_000_000, (1, 1333)),
        (800, 1333, (800, 1333)),
    ],
)
def test_scenes_fit_into_both_limits_and_keep_their_ratio(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    size = SceneView()
    assert size.of(height, width) == expected
    assert max(expected) <= size.long
    assert min(expected) <= size.short


def test_the_large_size_and_an_impossible_one() -> None:
    assert SceneView(1500, 900).of(1080, 1920) == (844, 1500)
    with pytest.raises(ReseenError, match="the longer side first"):
        SceneView(600, 800)
    with pytest.raises(ReseenError):
        SceneView(10, 0)


# Boxes and pixels


def block(height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    """A black image with a white block at ``box`` (xyxy)."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, box[1] : box[3], box[0] : box[2]] = 255
    return image


def bright(image: Tensor) -> list[int]:
    """Corners of what is nearer to white than to black in a normalised image."""
    level = image * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    down, across = (level.mean(dim=0) > 0.5).nonzero(as_tuple=True)
    return [int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [SceneView(128, 96), SceneView(50, 30), SceneView(301, 200)])
def test_boxes_follow_the_pixels(size: SceneView, mirrored: bool) -> None:
    box = (8, 12, 24, 44)
    seen = seen_scene(block(48, 64, box), torch.tensor([box]).float(), size, mirrored=mirrored)
    assert seen.image.shape == (3, *size.of(48, 64))
    assert np.abs(np.array(bright(seen.image)) - seen.boxes[0].numpy()).max() <= 1
    wide = seen.boxes[0, 2] - seen.boxes[0, 0]
    assert wide == pytest.approx(16 * seen.scale[0].item(), rel=1e-5)
    if not mirrored:
        assert torch.allclose(in_file_pixels(seen.boxes, seen.scale), torch.tensor([box]).float(), atol=1e-4)


def test_mirrored_twice_is_where_it_was() -> None:
    image = torch.randint(0, 256, (3, 37, 53), dtype=torch.uint8)
    boxes = torch.tensor([[1.5, 2.0, 30.25, 20.0], [0.0, 0.0, 53.0, 37.0]])
    size = SceneView(53, 37)
    once = seen_scene(image, boxes, size, mirrored=True)
    assert not torch.equal(once.boxes, boxes)
    twice = seen_scene(image.flip(2), once.boxes, size, mirrored=True)
    plain = seen_scene(image, boxes, size, mirrored=False)
    assert torch.equal(twice.image, plain.image)
    assert torch.allclose(twice.boxes, boxes, atol=1e-5)


def test_boxes_are_cut_at_the_border_and_what_vanishes_is_dropped_with_its_index() -> None:
    nan = float("nan")
    boxes = torch.tensor(
        [
            [-5.0, -5.0, 10.0, 10.0],  # 0: cut
            [60.0, 0.0, 70.0, 10.0],  # right of the image
            [5.0, 5.0, 5.0, 9.0],  # no area
            [9.0, 9.0, 4.0, 12.0],  # inverted
            [nan, 0.0, 4.0, 4.0],
            [0.0, 0.0, nan, 4.0],
            [30.0, 20.0, float("inf"), 30.0],  # 6: cut
            [10.0, 10.0, 20.0, 20.0],  # 7
            [0.0, -9.0, 9.0, 0.0],  # above the image
        ]
    )
    image = torch.zeros(3, 30, 50, dtype=torch.uint8)
    seen = seen_scene(image, boxes, SceneView(100, 60), mirrored=False)
    assert seen.kept.tolist() == [0, 6, 7]
    assert seen.boxes.tolist() == [[0, 0, 20, 20], [60, 40, 100, 60], [20, 20, 40, 40]]
    flipped = seen_scene(image, boxes, SceneView(100, 60), mirrored=True)
    assert flipped.kept.tolist() == [0, 6, 7]
    assert flipped.boxes.tolist() == [[80, 0, 100, 20], [0, 40, 40, 60], [60, 20, 80, 40]]


def test_normalised_as_imagenet_networks_expect() -> None:
    image = torch.full((3, 8, 8), 51, dtype=torch.uint8)
    seen = seen_scene(image, torch.empty(0, 4), SceneView(8, 8), mirrored=False)
    for channel in range(3):
        assert torch.allclose(seen.image[channel], torch.tensor((0.2 - MEAN[channel]) / STD[channel]))
    assert seen.boxes.shape == (0, 4)
    assert seen.kept.shape == (0,)


def test_padding_is_zero_and_only_right_and_below() -> None:
    images = [torch.ones(3, 33, 20), torch.ones(3, 5, 65)]
    batch = padded(images)
    assert batch.shape == (2, 3, 64, 96)
    for row, image in enumerate(images):
        assert torch.equal(batch[row, :, : image.shape[1], : image.shape[2]], image)
        assert batch[row].sum() == image.sum()
    assert padded([torch.ones(3, 64, 32)]).shape == (1, 3, 64, 32)


# Batches


def test_a_batch_has_what_it_says(scenes: tuple[Scene, ...]) -> None:
    batches = load(scenes)
    assert [batch.scenes.tolist() for batch in batches] == [rows.tolist() for rows in BATCHES]
    offsets = np.cumsum([0, 2, 1, 0, 1, 3])
    for batch in batches:
        assert batch.images.dtype == torch.float32
        assert batch.images.shape[2] % 32 == batch.images.shape[3] % 32 == 0
        assert batch.rows[0].dtype == batch.sizes.dtype == batch.scenes.dtype == torch.int64
        for place, row in enumerate(batch.scenes.tolist()):
            with Image.open(scenes[row].path) as image:
                width, height = image.size
            assert batch.sizes[place].tolist() == list(SIZE.of(height, width))
            ratio = batch.sizes[place].flip(0) / torch.tensor([width, height])
            assert torch.allclose(batch.scales[place], ratio)
            kept = [2] if row == 4 else list(range(len(scenes[row].boxes)))
            assert batch.rows[place].tolist() == [offsets[row] + n for n in kept]
            assert batch.boxes[place].shape == (len(kept), 4)
    assert batches[1].persons.tolist() == [0, 1, 6, 2]


def test_every_scene_is_the_transform_of_its_image(scenes: tuple[Scene, ...]) -> None:
    """The oracle: each image alone, mirrored or not; and mirrored is about half of them over the epochs."""
    flips = []
    for epoch in range(30):
        for batch in load(scenes, epoch=epoch):
            for place, row in enumerate(batch.scenes.tolist()):
                with Image.open(scenes[row].path) as file:
                    image = torch.from_numpy(np.array(file)).permute(2, 0, 1)
                boxes = torch.from_numpy(scenes[row].boxes)
                height, width = batch.sizes[place].tolist()
                matches = []
                for mirrored in (False, True):
                    seen = seen_scene(image, boxes, SIZE, mirrored=mirrored)
                    equal = torch.equal(batch.images[place, :, :height, :width], seen.image)
                    matches.append(equal and torch.equal(batch.boxes[place], seen.boxes))
                assert sum(matches) == 1
                flips.append(matches[1])
    assert 0.4 < np.mean(flips) < 0.6


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(scenes: tuple[Scene, ...], workers: int) -> None:
    assert same(load(scenes), load(scenes, workers=workers))


def test_seed_and_epoch_matter_the_order_does_not(scenes: tuple[Scene, ...]) -> None:
    batches = [np.arange(6)]
    twice = [next(scene_batches(scenes, batches, SIZE, seed=1, epoch=epoch)) for epoch in range(8)]
    patterns = {tuple(float(image[0, 0, 0]) for image in batch.images) for batch in twice}
    assert len(patterns) > 3
    backwards = next(scene_batches(scenes, [np.arange(6)[::-1]], SIZE, seed=1, epoch=0))
    assert torch.equal(backwards.images.flip(0), twice[0].images)
    assert not same(load(scenes, seed=1), load(scenes, seed=2))


def test_ranks_share_the_batch_of_one_process(scenes: tuple[Scene, ...]) -> None:
    whole, parts = load(scenes), [load(scenes, rank=rank, ranks=2) for rank in range(2)]
    for number, batch in enumerate(whole):
        shares = [part[number] for part in parts]
        assert torch.equal(torch.cat([share.scenes for share in shares]), batch.scenes)
        assert torch.equal(torch.cat([share.persons for share in shares]), batch.persons)
        together = [image for share in shares for image in share.images]
        for place, image in enumerate(together):
            height, width = batch.sizes[place].tolist()
            assert torch.equal(image[:, :height, :width], batch.images[place, :, :height, :width])
    empty = parts[0][2]  # half of one scene
    assert empty.images.shape == (0, 3, 32, 32)
    assert empty.sizes.shape == empty.scales.shape == (0, 2)
    assert (empty.boxes, empty.rows, empty.persons.tolist()) == ([], [], [])


def test_clean_batches_are_all_scenes_in_order_and_never_mirrored(scenes: tuple[Scene, ...]) -> None:
    batches = list(clean_scene_batches(scenes, SIZE, batch_size=4))
    assert [batch.scenes.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert same(batches, list(clean_scene_batches(scenes, SIZE, batch_size=4, workers=2)))
    first = batches[0]
    assert torch.allclose(in_file_pixels(first.boxes[0], first.scales[0]), torch.from_numpy(scenes[0].boxes))
    never = list(scene_batches(scenes, [np.arange(4), [4, 5]], SIZE, seed=0, epoch=0, flip=0))
    assert same(batches, never)
    always = next(scene_batches(scenes, [[0]], SIZE, seed=0, epoch=0, flip=1))
    assert torch.equal(always.images[0, :, :48, :72], first.images[0, :, :48, :72].flip(2))


def test_the_callers_random_numbers_stay_as_they_were(scenes: tuple[Scene, ...]) -> None:
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    load(scenes, workers=1)
    load(scenes)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_batch_moves_as_a_whole(scenes: tuple[Scene, ...]) -> None:
    batch = load(scenes)[1]
    moved = batch.to("meta", channels_last=True)
    assert all(tensor.is_meta for tensor in tensors(moved))
    assert moved.images.is_contiguous(memory_format=torch.channels_last)
    assert [len(rows) for rows in moved.rows] == [len(rows) for rows in batch.rows]


def test_a_pinned_batch_is_the_same_batch(scenes: tuple[Scene, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loader pins is the packed batch; here without the accelerator that real pinning needs."""
    plain = load(scenes)
    pinned: list[Tensor] = []

    def pin(self: Tensor) -> Tensor:
        pinned.append(self)
        return self.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    offsets = np.cumsum([0, *(len(scene.boxes) for scene in scenes)])
    for batch in plain:
        packed = _make(scenes, offsets, SIZE, lambda row: False, batch.scenes.numpy())
        assert same([packed.pin_memory().unpacked()], [packed.unpacked()])
    assert len(pinned) == 7 * len(plain)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_or_huge_image_is_one_clear_line_from_any_worker(tmp_path: Path, workers: int) -> None:
    good, bad, huge = (scene(tmp_path / f"{name}.png", BOXES) for name in ("good", "bad", "huge"))
    bad.path.write_bytes(b"\x89PNG and no more")
    Image.new("1", (12_000, 9_000)).save(huge.path)
    for wrong, message in ((bad, r"bad\.png is"), (huge, r"huge\.png .*100,000,000")):
        with pytest.raises(ReseenError, match=message) as error:
            list(scene_batches((good, wrong), [[0], [1]], SIZE, seed=0, epoch=0, workers=workers))
        assert "\n" not in str(error.value)


def test_thousands_of_boxes_and_none_in_one_batch(tmp_path: Path) -> None:
    many = scene(tmp_path / "many.png", [(n % 50, n % 30, 5, 5) for n in range(5_000)])
    none = scene(tmp_path / "none.png", [])
    batch = next(scene_batches((none, many, none), [[0, 1, 2]], SIZE, seed=0, epoch=0, workers=1))
    assert [len(boxes) for boxes in batch.boxes] == [0, 5_000, 0]
    assert batch.persons.tolist() == list(range(5_000))


@pytest.mark.timeout(60)  # where files run out, the worker hangs
def test_many_small_tensors_do_not_run_out_of_open_files(tmp_path: Path) -> None:
    """A tensor that leaves a worker is an open file: the lists of a batch travel as one."""
    resource = pytest.importorskip("resource")
    one = scene(tmp_path / "one.png", BOXES)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files + 60, hard))
    try:
        batches = list(scene_batches((one,) * 120, [np.arange(120)] * 3, SIZE, seed=0, epoch=0, workers=1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [len(batch.boxes) for batch in batches] == [120] * 3

"""The network of person search: two paths to a person against loops over pixels, sizes, gradients, crowds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oracles import search as oracle
from reseen.models.pyramid import Pyramid, build_pyramid
from reseen.models.search import AT_ONCE, SearchNetwork, build_search_network, cut_persons
from worlds import tiny_search

PERSON = (96, 32)


def small_pyramid(channels: int = 8, seed: int = 0) -> Pyramid:
    torch.manual_seed(seed)
    return build_pyramid("test_resnet.r160_in1k", channels=channels, weights="none")[0]


def small_network(*settings: str, seed: int = 0) -> SearchNetwork:
    config = tiny_search("search.channels=8", "search.dim=12", *settings)
    return build_search_network(config, small_pyramid(config.search.channels, seed))


def boxes_at(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The instance path


@pytest.mark.parametrize("person", [(192, 64), (96, 32)])
def test_a_person_image_is_a_map_of_a_sixteenth_without_pooling(person: tuple[int, int]) -> None:
    """Spec 8.4: 192 x 64 gives 12 x 4 at P4, which is what the search path pools to."""
    pyramid = small_pyramid()
    maps = pyramid(noise(1, 3, *person))
    assert maps[1].shape[2:] == (person[0] // 16, person[1] // 16)
    network = build_search_network(
        tiny_search("search.channels=8", f"data.height={person[0]}", f"data.width={person[1]}"), pyramid
    )
    assert network.cells == tuple(maps[1].shape[2:])
    assert network.embedding.in_features == 8 * network.cells[0] * network.cells[1]


BOXES = boxes_at(
    (20, 10, 52, 106),  # of just this size
    (3.3, 7.8, 20.1, 30.4),  # enlarged
    (0, 0, 100, 120),  # the whole image
    (-4, 100, 7, 126),  # over the border
    (40.5, 3.25, 41, 60),  # thin
)


def test_a_cut_person_is_the_content_of_the_box() -> None:
    image = noise(2, 1, 120, 100)
    cut = cut_persons(image, [BOXES[:2], BOXES[2:]], (24, 8))
    scenes = [0, 0, 1, 1, 1]
    for row, (scene, box) in enumerate(zip(scenes, BOXES.tolist(), strict=True)):
        assert torch.allclose(
            cut[row, 0], torch.tensor(oracle.cut(image[scene, 0].tolist(), box, 24, 8)), atol=1e-5
        ), row


def test_a_cut_person_is_the_box_bilinearly_resized() -> None:
    """A box of whole pixels, against torch's own resize; at its border that one cannot see the neighbours."""
    image = noise(1, 3, 120, 100)
    cut = cut_persons(image, [boxes_at((20, 10, 60, 58))], PERSON)[0]
    resized = F.interpolate(image[:, :, 10:58, 20:60], PERSON, mode="bilinear", align_corners=False)[0]
    assert cut.shape == (3, *PERSON)
    assert torch.allclose(cut[:, 2:-2, 2:-2], resized[:, 2:-2, 2:-2], atol=1e-5)
    exact = cut_persons(image, [boxes_at((20, 10, 52, 106))], PERSON)[0]  # nothing to resample
    assert torch.allclose(exact, image[0, :, 10:106, 20:52], atol=1e-5)


def test_nothing_around_the_box_is_seen_and_mirrored_scenes_give_mirrored_persons() -> None:
    image, box = noise(1, 3, 64, 80), boxes_at((21.0, 9.0, 41.0, 49.0))
    cut = cut_persons(image, [box], PERSON)
    changed = torch.full_like(image, 1e6)
    changed[:, :, 8:50, 20:42] = image[:, :, 8:50, 20:42]  # half a pixel further on, bilinear looks reach
    assert torch.equal(cut_persons(changed, [box], PERSON), cut)
    there = torch.tensor([80 - box[0, 2], box[0, 1], 80 - box[0, 0], box[0, 3]])[None]
    assert torch.allclose(cut_persons(image.flip(3), [there], PERSON).flip(3), cut, atol=1e-5)


def test_the_instance_path_takes_p4_or_every_second_cell_of_p3() -> None:
    image, box = noise(1, 3, 128, 128), boxes_at((10, 10, 60, 110))
    features = {}
    for level in ("P4", "P3half"):
        network = small_network(f"search.crop_level={level}").eval()
        maps = network.pyramid(cut_persons(image, [box], PERSON))
        chosen = maps[1] if level == "P4" else maps[0][:, :, ::2, ::2]
        expected = F.normalize(network.embedding(chosen.flatten(1)), dim=1)
        features[level] = network.instance_features(image, [box])
        assert torch.allclose(features[level], expected, atol=1e-6)
        assert features[level].norm().item() == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(features["P4"], features["P3half"], atol=1e-2)


def test_what_is_cut_is_input_and_gets_no_gradient() -> None:
    network = small_network()
    image = noise(1, 3, 128, 128).requires_grad_()
    network.instance_features(image, [BOXES[:2]]).sum().backward()
    assert image.grad is None
    assert all(p.grad is not None for p in network.pyramid.laterals[1].parameters())


# The search path


def maps_of(scenes: int, height: int, width: int, channels: int = 2) -> list[Tensor]:
    return [
        noise(scenes, channels, -(-height // stride), -(-width // stride), seed=stride)
        for stride in (8, 16, 32, 64, 128)
    ]


def with_linear(channels: int, cells: tuple[int, int], dim: int = 5) -> SearchNetwork:
    """A network of which only what stands behind the maps is used."""
    network = small_network(f"data.height={16 * cells[0]}", f"data.width={16 * cells[1]}")
    torch.manual_seed(1)
    network.embedding = torch.nn.Linear(channels * cells[0] * cells[1], dim)
    return network


SIDES = (6.0, 57.0, 111.9, 112.1, 223.9, 224.1, 447.9, 448.1)  # around 112, 224, 448


def test_the_search_path_is_roi_align_on_one_level_and_one_layer() -> None:
    """Spec 2.3, against a loop over cells: boxes of every level, two scenes, one without a person."""
    cells = (3, 1)
    network = with_linear(2, cells)
    maps = maps_of(3, 640, 640)
    rows = [(7.3 + n, 11.8, 7.3 + n + side / 1.4, 11.8 + side * 1.4) for n, side in enumerate(SIDES)]
    rows += [(600.0, 590.5, 640.0, 640.0), (0.0, 0.0, 640.0, 640.0)]  # at the end of the scene, all of it
    boxes = [boxes_at(*rows[:6]), boxes_at(), boxes_at(*rows[6:])]
    features = network.search_features(maps, boxes)
    assert features.shape == (len(rows), 5)
    weight, bias = network.embedding.weight.tolist(), network.embedding.bias.tolist()
    row = 0
    for scene, part in enumerate(boxes):
        for box in part.tolist():
            own = [level[scene].tolist() for level in maps[:4]]
            expected = oracle.search_feature(own, box, cells, weight, bias)
            assert features[row].tolist() == pytest.approx(expected, abs=1e-4), (scene, box)
            row += 1
    assert [oracle.level(box) for part in boxes for box in part.tolist()] == [0, 0, 0, 1, 1, 2, 2, 3, 0, 3]


def test_levels_begin_at_their_side_and_not_above_it() -> None:
    """Exactly 112, 224 and 448 pixels belong to the coarser level, a little less to the finer one."""
    network, maps = with_linear(1, (1, 1), dim=3), maps_of(1, 512, 512, channels=1)
    for side, coarse in ((112.0, 1), (224.0, 2), (448.0, 3)):
        for length, level in ((side, coarse), (side * (1 - 1e-4), coarse - 1)):
            alone = [m if number == level else torch.zeros_like(m) for number, m in enumerate(maps)]
            box = [boxes_at((8, 8, 8 + length, 8 + length))]
            assert torch.equal(network.search_features(maps, box), network.search_features(alone, box))
            assert oracle.level(box[0][0].tolist()) == level


def test_the_order_of_boxes_and_other_scenes_of_the_batch_do_not_matter() -> None:
    network, maps = with_linear(2, (3, 1)), maps_of(2, 320, 320)
    one, two = boxes_at((5, 5, 30, 90), (10, 20, 200, 300)), boxes_at((40, 8, 140, 190))
    features = network.search_features(maps, [one, two])
    assert torch.allclose(network.search_features(maps, [one.flip(0), two])[:2].flip(0), features[:2])
    alone = network.search_features([m[1:] for m in maps], [two])
    assert torch.allclose(alone, features[2:], atol=1e-6)


def test_half_precision_maps_are_pooled_in_float32() -> None:
    """Box coordinates in bfloat16 would move by pixels; a step of the map's own rounding is what remains."""
    network, maps = with_linear(2, (3, 1)), maps_of(1, 640, 640)
    box = [boxes_at((301.3, 303.7, 333.3, 399.7))]
    full = network.search_features([m.bfloat16().float() for m in maps], box)
    assert torch.allclose(network.search_features([m.bfloat16() for m in maps], box), full, atol=1e-6)


def test_features_have_the_accuracy_of_float32_under_autocast() -> None:
    """FINCH and L_int look at small differences: given the same maps, bf16 must not round what comes of them."""
    network = small_network("search.dim=64").double()
    maps = noise(20, 8, *network.cells)
    exact = network._embed(maps.double())
    network = network.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = network._embed(maps)
        rough = F.normalize(network.embedding(maps.flatten(1)).float(), dim=1)
    assert features.dtype == torch.float32
    assert (features - exact).abs().max() < 1e-6
    assert (rough - exact).abs().max() > 1e-4  # what the layer inside of autocast gives


def test_nobody_anywhere_is_no_feature_but_a_part_of_the_graph() -> None:
    network, images = small_network(), noise(2, 3, 64, 64)
    nobody = [boxes_at(), boxes_at()]
    paths = network.both_paths(network.pyramid(images), images, nobody)
    assert paths.search.shape == paths.instance.shape == (0, 12)
    (paths.search.sum() + paths.instance.sum()).backward()
    assert network.embedding.weight.grad is not None
    assert not network.embedding.weight.grad.any()


# Crowds


def crowd(count: int, seed: int = 0) -> Tensor:
    corners = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 60
    return torch.cat([corners, corners + 30], dim=1)


def gradients(network: SearchNetwork) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_a_crowd_in_parts_is_the_crowd_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = small_network("search.freeze=true"), noise(1, 3, 96, 96)
    boxes, direction = [crowd(11)], noise(11, 12, seed=3)
    seen: list[Any] = []
    for at_once in (AT_ONCE, 4):
        monkeypatch.setattr("reseen.models.search.AT_ONCE", at_once)
        network.zero_grad()
        features = network.instance_features(image, boxes)
        (features * direction).sum().backward()
        seen.append((features.detach(), gradients(network)))
    (whole, gradient), (parts, again) = seen
    assert torch.allclose(whole, parts, atol=1e-5)
    assert gradient.keys() == again.keys()
    for name, value in gradient.items():
        assert torch.allclose(value, again[name], atol=1e-4), name


def statistics(network: SearchNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.named_buffers() if ".running_" in name}


def test_running_statistics_count_a_crowd_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reseen.models.search.AT_ONCE", 4)
    network, image = small_network(), noise(1, 3, 96, 96)
    features = network.instance_features(image, [crowd(11)])
    before = statistics(network)
    assert any(value.any() for name, value in before.items() if name.endswith("running_mean"))
    features.sum().backward()
    for name, value in statistics(network).items():
        assert torch.equal(value, before[name]), name
    network.instance_features(image, [crowd(11)])  # and are counted again afterwards
    assert all(not torch.equal(value, before[name]) for name, value in statistics(network).items())


def kept_for_the_gradient(network: SearchNetwork, image: Tensor, count: int) -> tuple[int, int]:
    """Bytes that the instance path of a crowd keeps, and the most persons that pass the pyramid together."""
    storages: dict[int, int] = {}
    passes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    handle = network.pyramid.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = network.instance_features(image, [crowd(count)])
    handle.remove()
    assert features.shape == (count, 12)
    return sum(storages.values()), max(passes)


def test_five_hundred_persons_in_one_scene_need_no_more_maps_than_a_batch() -> None:
    network, image = small_network(), noise(1, 3, 96, 96)
    crops = 500 * 3 * PERSON[0] * PERSON[1] * 4  # bytes
    few, together = kept_for_the_gradient(network, image, AT_ONCE)
    assert together == AT_ONCE
    many, together = kept_for_the_gradient(network, image, 500)
    assert together == AT_ONCE
    assert many < crops + 0.1 * few

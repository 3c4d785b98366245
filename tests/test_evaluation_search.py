"""Person search scored end to end: hand-made detections against slow oracles, and what becomes of boxes and probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oracles import metrics as oracle
from oracles.search import cut
from reseen.data import SceneView, open_search_data
from reseen.data.galleries import galleries_by_identity, probes_by_camera
from reseen.data.images import read_image
from reseen.data.scene_transforms import seen_scene
from reseen.errors import ReseenError
from reseen.evaluation.search import FoundScenes, evaluate_searcher, find_persons, search_record
from reseen.methods.r_siamnet import pyramid
from reseen.models.search import SearchNetwork, build_search_network
from reseen.records import Probe, Scene, SceneDetections, SearchData
from scene_worlds import cuhk_sysu, picture
from worlds import tiny_search

Box = tuple[float, float, float, float]


def data_of(folder: Path, people: Sequence[dict[int, Box]], sizes: Sequence[tuple[int, int]]) -> SearchData:
    """Test scenes of ``sizes`` (width, height): identity -> box, and a probe for each person seen twice."""
    scenes, names = [], []
    for number, (persons, size) in enumerate(zip(people, sizes, strict=True)):
        names.append(f"{number}.png")
        picture(folder / names[-1], size=size)
        scenes.append(Scene(folder / names[-1], np.array(list(persons.values()), np.float32).reshape(-1, 4)))
    return with_probes(folder, tuple(scenes), tuple(names), [list(persons) for persons in people])


def with_probes(
    folder: Path, scenes: tuple[Scene, ...], names: tuple[str, ...], people: Sequence[Sequence[int]]
) -> SearchData:
    identities = tuple(np.array(persons, dtype=np.int64) for persons in people)
    probes = probes_by_camera(scenes, identities)
    return SearchData(
        "hand-made",
        folder,
        (),
        (),
        test=scenes,
        test_names=names,
        test_identities=identities,
        probes=probes,
        read_gallery=galleries_by_identity(scenes, names, identities, probes),
    )


class Told(nn.Module):
    """A detector that finds what it is told: boxes in file pixels and scores of each scene, in their order."""

    def __init__(
        self, found: Sequence[tuple[list[Box], list[float]]], scales: Sequence[Sequence[float]]
    ) -> None:
        super().__init__()
        self.found, self.scales, self.next = found, scales, 0

    def detect(self, maps: list[Tensor], sizes: Tensor) -> list[tuple[Tensor, Tensor]]:
        result = []
        for _ in range(len(sizes)):
            boxes, scores = self.found[self.next]
            scale = torch.tensor(self.scales[self.next]).repeat(2)
            result.append((torch.tensor(boxes).reshape(-1, 4) * scale, torch.tensor(scores)))
            self.next = (self.next + 1) % len(self.found)
        return result


def told(data: SearchData, found: Sequence[tuple[list[Box], list[float]]], size: SceneView) -> Told:
    scales = []
    for one in data.test:
        _, height, width = read_image(one.path).shape
        after = size.of(height, width)
        scales.append((after[1] / width, after[0] / height))
    return Told(found, scales)


class Knowing(nn.Module):
    """A network that knows everybody: the feature of a box is that of the person whose true box it touches most."""

    dim = 8

    def __init__(self, data: SearchData, detector: Told) -> None:
        super().__init__()
        self.detector, self.data, self.scene, self.passes = detector, data, 0, 0

    def pyramid(self, images: Tensor) -> list[Tensor]:
        self.passes += len(images)
        return [images]

    def search_features(self, maps: list[Tensor], boxes: list[Tensor]) -> Tensor:
        rows = []
        for part in boxes:
            scale = np.tile(np.array(self.detector.scales[self.scene]), 2)
            truth, people = self.data.test[self.scene].boxes, self.data.test_identities[self.scene]
            for box in part.numpy() / scale:
                overlaps = [oracle.iou(box, true) for true in truth]
                sure = bool(overlaps) and max(overlaps) > 0
                rows.append(people[int(np.argmax(overlaps))] if sure else self.dim - 1)
            self.scene = (self.scene + 1) % len(self.data.test)
        return F.one_hot(torch.tensor(rows, dtype=torch.int64), self.dim).float()


LARGE = (200, 120)  # 40 x 80 people fit
PEOPLE: list[dict[int, Box]] = [
    {0: (10, 10, 50, 90), 1: (100, 20, 140, 100)},
    {0: (60, 15, 100, 95)},
    {},
    {1: (20, 20, 60, 100), 2: (120, 20, 160, 100)},
    {0: (5, 30, 45, 110), 2: (100, 10, 140, 90)},
]
SIZES = [LARGE, (150, 110), (100, 60), (240, 130), LARGE]  # resized by 4 different scales


def score(data: SearchData, found: Sequence[tuple[list[Box], list[float]]], *settings: str) -> dict[str, Any]:
    config = tiny_search("search.long_side=128", "search.short_side=64", *settings)
    network = Knowing(data, told(data, found, SceneView(128, 64)))
    return evaluate_searcher(network, data, config)  # type: ignore[arg-type]


def perfect(data: SearchData) -> list[tuple[list[Box], list[float]]]:
    return [([tuple(box) for box in one.boxes.tolist()], [0.9] * len(one.boxes)) for one in data.test]


def test_perfect_detections_and_features_score_one(tmp_path: Path) -> None:
    """Spec 8.6, from files on: resized scenes, an empty one, two batches."""
    data = data_of(tmp_path, PEOPLE, SIZES)
    record = score(data, perfect(data))
    assert record["mean_ap"] == record["top1"] == record["detection_recall"] == 1
    assert record["detection_ap"] == pytest.approx(1)
    assert record["queries"] == len(data.probes) == 3
    assert "galleries" not in record
    assert "left_out" not in record


def test_a_lost_target_costs_half(tmp_path: Path) -> None:
    data = data_of(tmp_path, PEOPLE, SIZES)
    found = perfect(data)
    found[4] = ([found[4][0][1]], [0.9])  # person 0 is asked for in scene 0, and now found in scene 1 only
    record = score(data, found)
    assert record["mean_ap"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert record["top1"] == 1
    assert record["detection_recall"] == pytest.approx(6 / 7)
    unsure = perfect(data)
    unsure[4] = (unsure[4][0], [0.49, 0.9])  # the same: it does not count below a half
    assert score(data, unsure) == record


@pytest.mark.parametrize(("size", "right"), [(10, True), (40, False)])
def test_a_small_target_may_be_hit_by_a_quarter(size: int, right: bool, tmp_path: Path) -> None:
    """A 10 x 10 target counts from IoU .25 on, one of 40 x 40 from .5 on."""
    target = (50.0, 30.0, 50.0 + size, 30.0 + size)
    data = data_of(tmp_path, [{0: (10, 10, 50, 90)}, {0: target}], [LARGE, LARGE])
    shifted = (target[0] + 0.5 * size, *target[1:2], target[2] + 0.5 * size, target[3])  # IoU a third
    found = [*perfect(data)[:1], ([shifted], [0.9])]
    assert score(data, found)["mean_ap"] == float(right)


def test_nothing_found_is_zero_and_no_crash(tmp_path: Path) -> None:
    data = data_of(tmp_path, PEOPLE, SIZES)
    record = score(data, [([], [])] * len(data.test))
    assert record["mean_ap"] == record["top10"] == record["detection_recall"] == record["detection_ap"] == 0


def test_scoring_without_a_test_part_says_what_is_missing(tmp_path: Path) -> None:
    data = data_of(tmp_path, PEOPLE[:2], SIZES[:2])
    for part in (replace(data, probes=(), read_gallery=None), SearchData("mine", tmp_path, (), ())):
        with pytest.raises(ReseenError, match="no test scenes with queries: scoring needs") as error:
            score(part, [([], [])])
        assert "\n" not in str(error.value)


# Scores of what was found, against loops


def drawn(seed: int) -> tuple[SearchData, FoundScenes]:
    """Random people, detections that miss, shift and invent, similarities that tie."""
    rng = np.random.default_rng(seed)
    scenes, people, found = [], [], {}
    names = tuple(f"{number}.png" for number in range(6))
    for name in names:
        present = rng.permutation(4)[: rng.integers(0, 4)]
        corners = rng.uniform(0, 60, (len(present), 2)).round()
        boxes = np.concatenate([corners, corners + rng.choice([6, 10, 40], (len(present), 2))], axis=1)
        scenes.append(Scene(Path(name), boxes.astype(np.float32).reshape(-1, 4)))
        people.append(present.tolist())
        seen = boxes[rng.random(len(boxes)) < 0.8]
        extra = np.tile([0, 0, 20, 30], (rng.integers(0, 3), 1)) + rng.integers(0, 50)
        seen = np.concatenate([seen + rng.normal(0, 2, seen.shape), seen, extra])  # some twice
        features = rng.choice([0.0, 0.6, 0.8], (len(seen), 3))
        found[name] = SceneDetections(seen, rng.choice([0.3, 0.5, 0.7, 0.9], len(seen)), features)
    data = with_probes(Path(), tuple(scenes), names, people)
    return data, FoundScenes(found, torch.from_numpy(rng.choice([0.0, 0.6, 0.8], (len(data.probes), 3))))


@pytest.mark.parametrize("seed", range(12))
def test_a_record_is_what_loops_over_the_protocol_give(seed: int) -> None:
    data, found = drawn(seed)
    if not data.probes:
        pytest.skip("nobody is seen twice")
    precision, first = [], []
    for probe, feature in zip(data.probes, found.probes.numpy(), strict=True):
        targets: dict[str, Any] = {}
        for number, name in enumerate(data.test_names):
            if number != probe.scene:
                boxes, people = data.test[number].boxes, data.test_identities[number].tolist()
                targets[name] = boxes[people.index(probe.identity)] if probe.identity in people else None
        one, rank = oracle.search_one(feature, targets, found.detections, 0.5)
        precision.append(one)
        first.append(rank)
    record = search_record(found, data)
    assert record["mean_ap"] == pytest.approx(np.mean(precision))
    for rank in (1, 5, 10):
        assert record[f"top{rank}"] == pytest.approx(np.mean([0 < place <= rank for place in first]))
    truth = {name: one.boxes for name, one in zip(data.test_names, data.test, strict=True)}
    recall, average = oracle.detection(found.detections, truth, 0.5, 0.5)
    assert record["detection_recall"] == pytest.approx(recall)
    assert record["detection_ap"] == pytest.approx(average)


def test_each_gallery_size_is_scored_and_the_scenes_are_seen_once(tmp_path: Path) -> None:
    """CUHK-SYSU's own files: the first size is the headline, features are those of one pass."""
    data = open_search_data(cuhk_sysu(tmp_path / "sysu"))
    assert data.gallery_sizes == (50, 100)
    people = ([0, 6], [0], [2, 0], [0], [])  # whom those of s4 to s8 look like
    data = replace(data, test_identities=tuple(np.array(part, dtype=np.int64) for part in people))
    found = perfect(data)
    found[2] = ([found[2][0][1]], [0.9])  # in s6 the target of the query in s5 is missed
    config = tiny_search("search.long_side=60", "search.short_side=40")
    network = Knowing(data, told(data, found, SceneView(60, 40)))
    record = evaluate_searcher(network, data, config, sizes=(100, 50))  # type: ignore[arg-type]
    assert network.passes == len(data.test) == 5
    assert list(record["galleries"]) == ["100", "50"]
    for key in ("mean_ap", "top1", "top5", "top10", "queries"):
        assert record[key] == record["galleries"]["100"][key]
    assert record["galleries"]["100"]["mean_ap"] < record["galleries"]["50"]["mean_ap"]  # s4 looks like s7
    again = Knowing(data, told(data, found, SceneView(60, 40)))
    alone = evaluate_searcher(again, data, config, sizes=(50,))  # type: ignore[arg-type]
    assert {key: alone[key] for key in record["galleries"]["50"]} == record["galleries"]["50"]
    assert alone["detection_recall"] == record["detection_recall"]
    with pytest.raises(ReseenError, match="gallery size 70"):
        evaluate_searcher(again, data, config, sizes=(70,))  # type: ignore[arg-type]


# What find_persons returns


def searcher(*settings: str) -> tuple[SearchNetwork, Any]:
    config = tiny_search("search.long_side=160", "search.short_side=96", *settings)
    torch.manual_seed(0)
    network = build_search_network(config, pyramid(config))
    torch.nn.init.constant_(network.detector.head.classification_head.cls_logits.bias, 2.0)  # sees persons
    return network.train(), config


def by_hand(network: SearchNetwork, one: Scene, box: Any, size: SceneView) -> tuple[Tensor, Tensor]:
    """x and y of a box (file pixels) of a scene, from the file on and one step after the other."""
    image = read_image(one.path)
    seen = seen_scene(image, torch.tensor([[float(side) for side in box]]), size, mirrored=False)
    images = F.pad(seen.image, (0, -seen.image.shape[2] % 32, 0, -seen.image.shape[1] % 32))[None]
    network.eval()
    with torch.no_grad():
        x = network.search_features(network.pyramid(images), [seen.boxes])[0]
        crop = torch.tensor([cut(channel.tolist(), seen.boxes[0].tolist(), 96, 32) for channel in images[0]])
        y = F.normalize(network.embedding(network.pyramid(crop[None])[1].flatten(1)), dim=1)[0]
    network.train()
    return x, y


@pytest.mark.parametrize("paths", ["search", "both"])
def test_probes_and_persons_have_the_features_of_their_boxes(paths: str, tmp_path: Path) -> None:
    """Scenes of one size, so that a batch pads none of them further than it is alone; six scenes, two batches."""
    network, config = searcher(f"search.paths_at_test={paths}")
    size = SceneView(160, 96)
    data = data_of(tmp_path, [*PEOPLE, {0: (80, 30, 120, 110)}], [LARGE] * 6)
    probes = (Probe(5, np.array([80, 30, 120, 110], np.float32), 0), *data.probes)
    modes = [part.training for part in network.modules()]
    steps: list[tuple[str, int, int]] = []
    found = find_persons(
        network, data.test, data.test_names, config, probes=probes, step=lambda *word: steps.append(word)
    )
    assert [part.training for part in network.modules()] == modes
    assert steps == [("find persons", 4, 6), ("find persons", 6, 6)]
    assert found.probes.shape == (len(probes), 64 if paths == "both" else 32)
    assert list(found.detections) == list(data.test_names)

    def expected(scene: int, box: Any) -> Tensor:
        x, y = by_hand(network, data.test[scene], box, size)
        return x if paths == "search" else torch.cat([y, x]) / 2**0.5

    for probe, feature in zip(probes, found.probes, strict=True):
        assert torch.allclose(feature, expected(probe.scene, probe.box), atol=2e-4)
    for scene in (0, 4):
        persons = found.detections[data.test_names[scene]]
        assert len(persons.boxes) > 1
        for row in (0, len(persons.boxes) - 1):
            feature = torch.from_numpy(persons.features[row])
            assert torch.allclose(feature, expected(scene, persons.boxes[row]), atol=2e-4)
    assert not torch.allclose(found.probes[0], found.probes[1], atol=1e-3)


def test_boxes_are_in_pixels_of_their_files(tmp_path: Path) -> None:
    """Four scales in two batches, a detection beyond what was annotated included."""
    data = data_of(tmp_path, PEOPLE, SIZES)
    found = perfect(data)
    found[2] = ([(0.0, 0.0, 100.0, 60.0)], [0.4])
    config = tiny_search("search.long_side=128", "search.short_side=64")
    network = Knowing(data, told(data, found, SceneView(128, 64)))
    seen = find_persons(network, data.test, data.test_names, config).detections  # type: ignore[arg-type]
    for name, (boxes, scores) in zip(data.test_names, found, strict=True):
        assert np.abs(seen[name].boxes - np.array(boxes).reshape(-1, 4)).max(initial=0) < 1e-3
        assert seen[name].scores.tolist() == pytest.approx(scores)


def test_the_sides_of_a_scene_are_scaled_each_by_its_own_rounding(tmp_path: Path) -> None:
    """300 x 11 pixels become 160 x 6: .533 and .545, which is some pixels at the far end."""
    network, config = searcher()
    (flat,) = data_of(tmp_path, [{0: (200, 1, 290, 10)}], [(300, 11)]).test
    found = find_persons(network, [flat], ["flat"], config, probes=[Probe(0, flat.boxes[0], 0)])
    x, _ = by_hand(network, flat, flat.boxes[0], SceneView(160, 96))
    assert torch.allclose(found.probes[0], x, atol=1e-4)


def test_a_probe_ends_at_the_border_of_its_scene(tmp_path: Path) -> None:
    network, config = searcher()
    data = data_of(tmp_path, PEOPLE[:1], SIZES[:1])
    over, inside = (np.array(box, np.float32) for box in ((150, 60, 230, 190), (150, 60, 200, 120)))
    probes = (Probe(0, over, 0), Probe(0, inside, 1), Probe(0, inside - 5, 2))
    features = find_persons(network, data.test, data.test_names, config, probes=probes).probes
    assert torch.allclose(features[0], features[1], atol=1e-6)
    assert not torch.allclose(features[0], features[2], atol=1e-3)


@pytest.mark.parametrize(
    "box", [(210, 10, 230, 50), (20, 20, 20, 50), (50, 20, 20, 50), (float("nan"), 0, 9, 9)]
)
def test_a_probe_that_shows_nobody_is_named(box: Box, tmp_path: Path) -> None:
    network, config = searcher()
    data = data_of(tmp_path, PEOPLE[:1], SIZES[:1])
    probes = (Probe(0, np.array((10, 10, 50, 90), np.float32), 0), Probe(0, np.array(box, np.float32), 1))
    with pytest.raises(ReseenError, match=r"0\.png: a query's box \[.*\] shows nobody") as error:
        find_persons(network, data.test, data.test_names, config, probes=probes)
    assert "\n" not in str(error.value)


def test_the_path_at_test_is_another_score(street: SearchData) -> None:
    """A real network on drawn scenes: the same boxes are found, what they resemble differs."""
    network, config = searcher()
    both = tiny_search("search.long_side=160", "search.short_side=96", "search.paths_at_test=both")
    one = find_persons(network, street.test, street.test_names, config, probes=street.probes)
    two = find_persons(network, street.test, street.test_names, both, probes=street.probes)
    for name in street.test_names:
        assert np.array_equal(one.detections[name].boxes, two.detections[name].boxes)
        assert np.allclose(np.linalg.norm(two.detections[name].features, axis=1), 1, atol=1e-5)
    assert not torch.allclose(one.probes @ one.probes.T, two.probes @ two.probes.T, atol=1e-3)
    records = [search_record(found, street) for found in (one, two)]
    assert records[0]["detection_ap"] == records[1]["detection_ap"]
    assert records[0]["queries"] == len(street.probes)

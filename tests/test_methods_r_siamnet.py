"""R-SiamNet's losses and memory: what each term is and what it moves, and whose row is whose."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oracles import losses as oracle
from reseen.clustering import finch
from reseen.config import SearchConfig
from reseen.data import SceneBatch, SceneView, clean_scene_batches
from reseen.losses import inter_instance_loss, self_instance_loss, unified_pair_loss
from reseen.methods import person_memory, r_siamnet
from reseen.methods.r_siamnet import METHOD
from reseen.models.search import Paths, cut_persons
from reseen.records import SearchData
from reseen.training import Run, new_run
from search_runs import ALL_OFF, DETECTION, begun, first_batch, quiet_fit, terms_of
from worlds import tiny_search

# The formulas on tiny cases (spec section 8; the rest is in test_losses.py and test_clustering_finch.py)


def test_equal_paths_cost_nothing_and_paths_can_be_swapped() -> None:
    random = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(7, 5, generator=random, dtype=torch.float64), dim=1) for _ in range(2))
    for loss in (self_instance_loss, inter_instance_loss):
        assert loss(x, x).item() == pytest.approx(0, abs=1e-12)
        assert loss(x, y).item() == pytest.approx(loss(y, x).item(), abs=1e-12)
        assert loss(x, y).item() > 0.1


def test_the_cluster_loss_is_its_printed_form_and_moves_both_halves_of_z_and_no_memory() -> None:
    """L_clu = log(1 + sum_p e^(-g (s_p - d)) sum_n e^(g s_n)) of z = [y; x], which is not normalised again."""
    x = torch.tensor([[0.6, 0.8]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (z,) = person_memory.keys_of(SearchConfig(), Paths(x, y)).values()
    assert z.tolist() == [[1.0, 0.0, 0.6, 0.8]]
    memory = F.normalize(
        torch.tensor([[1.0, 0, 1, 0], [1, 1, 1, 1], [1, 1, 0, 1]], dtype=torch.float64), dim=1
    )
    memory.requires_grad_()
    loss = unified_pair_loss(z, memory, torch.tensor([4]), torch.tensor([4, 9, 4]))
    s = [oracle.dot(z[0].tolist(), row) for row in memory.tolist()]
    pulled = math.exp(-16 * (s[0] - 0.1)) + math.exp(-16 * (s[2] - 0.1))
    assert loss.item() == pytest.approx(math.log(1 + pulled * math.exp(16 * s[1])), rel=1e-9)
    loss.backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.abs().min() > 0.1
    assert y.grad.abs().min() > 0.1
    assert memory.grad is None


def at(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def clusters(run: Run, features: Tensor, scenes: list[int]) -> list[int]:
    run.memory[person_memory.SCENE_OF] = torch.tensor(scenes)
    return METHOD.assign(run, features, np.zeros(0, np.int64)).labels.tolist()


def after_an_epoch(*settings: str) -> Run:
    run = new_run(tiny_search(*settings), METHOD, weights="none", say=lambda line: None)
    run.epoch = 1
    return run


def test_chains_and_filters_of_the_specification() -> None:
    run = after_an_epoch()
    chain = at(0, 10, 19)  # 0 -> 1 -> 2
    assert clusters(run, chain, [0, 1, 2]) == [0, 0, 0]
    assert clusters(run, at(0, 10, 30, 35), [0, 0, 1, 2]) == [0, 1, 2, 2]  # the link of 0 and 1 vanishes
    neighbours = at(0, 10, 20)  # 0 and 2 of one scene meet through 1
    assert clusters(run, neighbours, [0, 1, 0]) == [0, 0, 0]
    assert clusters(after_an_epoch("search.image_filter=strict"), neighbours, [0, 1, 0]) in (
        [0, 0, 1],
        [0, 1, 1],
    )


def test_every_filter_is_finchs_own_and_they_differ() -> None:
    """Far apart: two neighbours of one scene beside two others, and two of one scene who meet through others."""
    features, scenes = at(0, 4, 10, 17, 100, 103, 107, 115), [0, 0, 1, 2, 3, 4, 5, 3]
    found = {}
    for image_filter in ("none", "link", "next", "strict"):
        found[image_filter] = clusters(
            after_an_epoch(f"search.image_filter={image_filter}"), features, scenes
        )
        assert found[image_filter] == finch(features, image_ids=scenes, image_filter=image_filter).tolist()
    assert len(set(map(tuple, found.values()))) >= 3
    assert found["link"] != found["strict"]


def test_all_are_alone_in_the_first_epoch_unless_told_otherwise() -> None:
    features, scenes = at(0, 1, 40, 41), [0, 1, 2, 3]
    for epoch, first, expected in (
        (0, False, [0, 1, 2, 3]),
        (0, True, [0, 0, 1, 1]),
        (1, False, [0, 0, 1, 1]),
    ):
        run = after_an_epoch(f"search.cluster_first={first}".lower())
        run.epoch = epoch
        assert clusters(run, features, scenes) == expected


# Which loss moves what


def moved(run: Run, loss: Tensor) -> set[str]:
    """Which parts of the network get a gradient other than 0."""
    network = run.networks.network
    run.networks.zero_grad()
    loss.backward()
    parts = {
        "detector": network.detector,
        "backbone": network.pyramid.backbone,
        "pyramid": network.pyramid.laterals,
        "embedding": network.embedding,
    }
    return {
        name
        for name, part in parts.items()
        if any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
    }


@pytest.mark.parametrize("detector", DETECTION)
def test_a_detector_alone_is_all_that_is_computed(detector: str, street: SearchData) -> None:
    run = begun(tiny_search(f"search.detector={detector}", *ALL_OFF), street.train)
    assert run.memory == {}
    terms, keys = terms_of(run, first_batch(run, street.train, [0, 1]))
    assert list(terms) == DETECTION[detector]
    assert keys == {}
    assert moved(run, torch.stack(list(terms.values())).sum()) == {"detector", "backbone", "pyramid"}


@pytest.mark.parametrize(
    ("term", "memory"),
    [
        ("self_instance", "concat"),
        ("inter_instance", "concat"),
        ("cluster", "concat"),
        ("cluster", "dual"),
    ],
)
def test_each_loss_moves_both_paths_and_never_the_detector(
    term: str, memory: str, street: SearchData, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = [setting for setting in ALL_OFF if setting != f"search.{term}=false"]
    run = begun(tiny_search(f"search.memory={memory}", *off), street.train)
    seen: list[Paths] = []
    real = r_siamnet.both_paths

    def watched(run: Run, batch: SceneBatch) -> tuple[list[Tensor], Paths]:
        maps, paths = real(run, batch)
        for features in (paths.search, paths.instance):
            features.retain_grad()
        seen.append(paths)
        return maps, paths

    monkeypatch.setattr(r_siamnet, "both_paths", watched)
    batch = first_batch(run, street.train, [0, 1, 2])
    rows = {name: run.memory[name].requires_grad_() for name in run.memory if name != "scene_of"}
    terms, keys = terms_of(run, batch)
    assert list(terms) == [*DETECTION["retinanet"], term]
    names = {"concat": {"persons"}, "dual": {"instance", "search"}}[memory]
    assert keys.keys() == (names if term == "cluster" else set())
    assert rows.keys() == (names if term == "cluster" else set())
    assert moved(run, terms[term]) == {"backbone", "pyramid", "embedding"}
    (paths,) = seen
    for features in (paths.search, paths.instance):
        assert features.grad is not None
        assert (features.grad.norm(dim=1) > 0).all()
    assert batch.images.grad is None
    assert all(row.grad is None for row in rows.values())


def test_terms_are_what_the_formulas_say(street: SearchData) -> None:
    """All of them from the two paths' features, memories and labels; dual is the mean over both memories."""
    for memory in ("concat", "dual"):
        run = begun(tiny_search("search.freeze=true", f"search.memory={memory}"), street.train)
        run.labels = np.arange(len(run.labels)) // 2
        batch = first_batch(run, street.train, [0, 1, 2, 3])
        terms, keys = terms_of(run, batch)
        _, paths = person_memory.both_paths(run, batch)
        x, y = paths.search.tolist(), paths.instance.tolist()
        labels = run.labels[batch.persons].tolist()
        z = {
            "persons": [b + a for a, b in zip(x, y, strict=True)],
            "search": x,
            "instance": y,
        }
        assert terms["self_instance"].item() == pytest.approx(oracle.self_instance(x, y), rel=1e-4)
        assert terms["inter_instance"].item() == pytest.approx(oracle.inter_instance(x, y), rel=1e-3)
        expected = [
            oracle.unified_pair(z[name], run.memory[name].tolist(), labels, run.labels.tolist(), 16.0, 0.1)
            for name in keys
        ]
        assert terms["cluster"].item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_the_mean_of_the_relations_is_scaled_to_the_published_batch(street: SearchData) -> None:
    values = []
    for reduction in ("sum", "mean"):
        run = begun(tiny_search("search.freeze=true", f"search.int_reduction={reduction}"), street.train)
        batch = first_batch(run, street.train, [0, 1, 2, 3])
        values.append(terms_of(run, batch)[0]["inter_instance"].item())
    assert values[1] == pytest.approx(values[0] * 45 / len(batch.persons), rel=1e-5)


# The memory


def test_each_row_is_what_its_own_box_gives(street: SearchData) -> None:
    """From each box by itself: its own scene, its own crop, both paths; [y; x] in one memory, y and x in two."""
    scenes = street.train
    for memory in ("concat", "dual"):
        run = begun(tiny_search(f"search.memory={memory}"), scenes)
        network = run.networks.network.eval()
        size = SceneView(192, 128)
        row = 0
        for number, one in enumerate(scenes):
            batch = next(clean_scene_batches([one], size)).to("cpu", channels_last=True)
            for box in batch.boxes[0]:
                with torch.no_grad():
                    x = network.search_features(network.pyramid(batch.images), [box[None]])
                    crop = cut_persons(batch.images, [box[None]], (96, 32))
                    y = F.normalize(network.embedding(network.pyramid(crop)[1].flatten(1)), dim=1)
                whole = {"persons": torch.cat([y, x], dim=1) / math.sqrt(2), "instance": y, "search": x}
                for name, width in person_memory.memories(run.config.search):
                    assert run.memory[name].shape == (street.train_boxes, width)
                    distances = (run.memory[name] - whole[name]).norm(dim=1)
                    assert distances[row] < 1e-4
                    others = torch.cat([distances[:row], distances[row + 1 :]])
                    assert others.min() > 10 * distances[row]
                assert int(run.memory["scene_of"][row]) == number
                row += 1
        assert row == street.train_boxes


def test_two_memories_are_clustered_by_the_instance_path(street: SearchData) -> None:
    run = begun(tiny_search("search.memory=dual"), street.train)
    assert METHOD.embed(run, street.train) is run.memory["instance"]
    assert not torch.allclose(run.memory["instance"], run.memory["search"], atol=1e-2)


def test_what_a_batch_sends_to_the_memory_belongs_to_the_rows_it_names(street: SearchData) -> None:
    run = begun(tiny_search("search.freeze=true"), street.train)
    batch = first_batch(run, street.train, [5, 0, 3], flip=0)
    _, keys = terms_of(run, batch)
    nearest = (F.normalize(keys["persons"], dim=1) @ run.memory["persons"].T).argmax(dim=1)
    assert nearest.tolist() == batch.persons.tolist()
    assert len(set(nearest.tolist())) == len(nearest) > 3


@pytest.mark.parametrize("memory", ["concat", "dual"])
def test_steps_move_the_memory_as_the_formula_says(memory: str, street: SearchData, tmp_path: Path) -> None:
    """normalise(0.2 m + 0.8 z) in batch order, after each step, and nothing else ever changes it."""
    expected: dict[str, list[list[float]]] = {}

    def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
        names = [name for name, _ in person_memory.memories(run.config.search)]
        before = {name: expected.get(name, run.memory[name].tolist()) for name in names}
        assert [len(part) for part in keys.values()] == [len(rows)] * len(names)
        assert torch.equal(labels, torch.from_numpy(run.labels)[rows])
        METHOD.update(run, rows, labels, keys)
        for name in names:
            expected[name] = oracle.momentum_update(before[name], rows.tolist(), keys[name].tolist(), 0.2)
            assert torch.allclose(run.memory[name], torch.tensor(expected[name]), atol=1e-5)

    run = quiet_fit(
        tmp_path / "run", street.train, f"search.memory={memory}", method=replace(METHOD, update=update)
    )
    assert expected.keys() == run.memory.keys() - {"scene_of"}
    for name, rows in expected.items():
        assert torch.allclose(run.memory[name], torch.tensor(rows), atol=1e-5)

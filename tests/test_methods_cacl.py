"""CACL: which term reaches which module, for every row of Table 7; memories and views as Algorithm 1 has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reseen.data import TrainBatch
from reseen.errors import ReseenError
from reseen.losses import camera_loss
from reseen.methods import cameras, get_method
from reseen.methods.instance_memory import centroids, freeze_centroids
from reseen.records import PseudoLabels
from reseen.training import new_run
from worlds import people, tiny

FIRST, SECOND = {"first", "predictor"}, {"second", "second_predictor"}
CACL = {"instance": FIRST, "inter": FIRST, "intra_first": {"first"}, "intra_second": {"second"}}
CSCL = {**CACL, "instance_second": SECOND, "inter_second": SECOND}


def without(terms: dict[str, set[str]], *names: str) -> dict[str, set[str]]:
    return {name: reached for name, reached in terms.items() if name not in names}


TABLE_7 = {
    "cacl-no-clustering": {"instance": FIRST},
    "cacl-single": {"intra_second": {"second"}},
    "cacl-single-grey": {"intra_second": {"second"}},
    "cacl-no-refine": CACL,
    "cacl-no-instance": without(CACL, "instance"),
    "cacl-no-cluster-loss": without(CACL, "inter", "intra_first"),
    "cacl-no-intra": without(CACL, "intra_first"),
    "cacl-no-inter": without(CACL, "inter"),
    "cacl-no-stopgrad": {**CACL, "instance": FIRST | {"second"}},
    "cscl": CSCL,
    "cscl-no-stopgrad": {**CSCL, "instance": FIRST | {"second"}, "instance_second": SECOND | {"first"}},
    "cacl": CACL,
}


@pytest.mark.parametrize("row", TABLE_7)
def test_each_term_reaches_the_modules_that_table_7_says(row, tmp_path):
    crops, _ = people(tmp_path, identities=4)
    config = tiny(row)
    method = get_method(config.method)
    run = new_run(config, method, weights="none", say=lambda line: None)
    method.start(run, crops)
    run.labels = np.repeat(np.arange(4), 4)
    features = method.embed(run, crops)
    method.remember(run, features, method.assign(run, features, np.ones(16, dtype=np.int64)))
    run.labels = np.repeat(np.arange(4), 4)
    rows = torch.arange(8)
    images = torch.randn(2, 8, 3, 32, 16)
    run.networks.train()
    terms, keys = method.losses(
        run, TrainBatch(rows, images[0], images[1]), torch.from_numpy(run.labels)[rows]
    )
    modules = {name: list(m.parameters()) for name, m in run.networks.named_children()}
    reached = {
        term: {
            name
            for name, parameters in modules.items()
            if any(
                g is not None and g.abs().sum() > 0
                for g in torch.autograd.grad(
                    value, [p for p in parameters if p.requires_grad], retain_graph=True, allow_unused=True
                )
            )
        }
        for term, value in terms.items()
    }
    assert reached == TABLE_7[row]
    assert set(keys) == ({"second"} if row.startswith("cacl-single") else {"first", "second"})


def test_both_branches_start_from_the_same_weights_but_do_not_share_them():
    run = new_run(tiny(), get_method("cacl"), weights="none", say=lambda line: None)
    first, second = run.networks.first, run.networks.second
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()


def test_second_memory_starts_grey_and_from_colour_only_as_the_release_has_it(tmp_path):
    crops, _ = people(tmp_path)
    memories = {}
    for init in ("second_view", "colour"):
        config = tiny("cacl", f"loss.second_memory_init={init}")
        run = new_run(config, get_method("cacl"), weights="none", say=lambda line: None)
        get_method("cacl").start(run, crops)
        memories[init] = run.memory
    assert torch.equal(
        memories["colour"]["first"], memories["colour"]["second"]
    )  # equal weights, equal images
    assert not torch.allclose(memories["second_view"]["first"], memories["second_view"]["second"], atol=1e-3)


def test_memory_moves_by_equation_11_after_the_step_and_only_in_the_rows_of_the_batch(tmp_path):
    crops, _ = people(tmp_path)
    method = get_method("cacl")
    run = new_run(tiny(), method, weights="none", say=lambda line: None)
    method.start(run, crops)
    before = {name: tensor.clone() for name, tensor in run.memory.items()}
    rows, x = (
        torch.tensor([3, 5]),
        torch.nn.functional.normalize(torch.randn(2, run.networks.first.dim), dim=1),
    )
    method.update(run, rows, torch.zeros(2), {"first": x, "second": x})
    for name, memory in run.memory.items():
        for i, row in enumerate(rows.tolist()):
            expected = 0.2 * before[name][row] + 0.8 * x[i]
            assert torch.allclose(memory[row], expected / expected.norm(), atol=1e-6)
        others = [r for r in range(len(crops)) if r not in (3, 5)]
        assert torch.equal(memory[others], before[name][others])


def test_centroids_stand_still_within_an_epoch_when_asked_to(tmp_path):
    crops, _ = people(tmp_path)
    method = get_method("cacl")
    for update, moves in (("step", True), ("epoch", False)):
        run = new_run(
            tiny("cacl", f"loss.centroid_update={update}"), method, weights="none", say=lambda line: None
        )
        method.start(run, crops)
        run.labels = np.arange(len(crops)) // 4
        freeze_centroids(run)
        before = centroids(run)["first"].clone()
        x = torch.nn.functional.normalize(torch.randn(1, run.networks.first.dim), dim=1)
        method.update(run, torch.tensor([0]), torch.zeros(1), {"first": x, "second": x})
        assert torch.equal(centroids(run)["first"], before) != moves


def test_a_memory_of_clusters_starts_from_unit_means_and_each_query_moves_its_own(tmp_path):
    crops, _ = people(tmp_path)
    method = get_method("cacl")
    config = tiny("cacl", "loss.centroid_update=momentum")
    run = new_run(config, method, weights="none", say=lambda line: None)
    method.start(run, crops)
    run.labels = np.arange(len(crops)) // 4
    method.remember(run, run.memory["first"], PseudoLabels.of(run.labels))
    expected = {}
    for name in ("first", "second"):
        rows = run.memory[name].numpy()
        means = np.stack([rows[run.labels == k].mean(axis=0) for k in range(run.labels.max() + 1)])
        expected[name] = means / np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(run.memory[f"{name}_centroids"].numpy(), expected[name], atol=1e-6)
    x = torch.nn.functional.normalize(torch.randn(3, run.networks.first.dim), dim=1)
    labels = torch.tensor([1, 0, 1])  # cluster 1 is asked for twice, one after the other
    method.update(run, torch.tensor([5, 0, 6]), labels, {"first": x, "second": x})
    for name, centres in expected.items():
        for feature, label in zip(x.numpy(), labels.tolist(), strict=True):
            moved = 0.2 * centres[label] + 0.8 * feature
            centres[label] = moved / np.linalg.norm(moved)
        np.testing.assert_allclose(run.memory[f"{name}_centroids"].numpy(), centres, atol=1e-6)
        assert not torch.equal(run.memory[name][5], run.memory[f"{name}_centroids"][1])  # two memories


def test_centres_by_camera_are_unit_means_of_the_cluster_there_and_each_image_moves_its_own(tmp_path):
    crops, _ = people(tmp_path)
    method = get_method("cacl")
    run = new_run(tiny("cacl", "loss.camera_weight=0.5"), method, weights="none", say=lambda line: None)
    method.start(run, crops)
    memory = run.memory["first"].numpy().copy()
    labels = np.arange(len(crops)) // 4
    labels[5] = -1  # in no cluster
    taken_by = np.arange(len(crops)) % 2 + 3
    taken_by[6] = -1  # an unknown camera is one more
    run.memory["cameras"] = torch.from_numpy(taken_by)
    cameras.remember(run, PseudoLabels(labels))

    pairs = sorted({(k, c) for k, c in zip(labels.tolist(), taken_by.tolist(), strict=True) if k >= 0})
    assert run.memory["cluster_of_camera_centre"].tolist() == [k for k, _ in pairs]
    expected = np.stack([memory[(labels == k) & (taken_by == c)].mean(axis=0) for k, c in pairs])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(run.memory["camera_centres"].numpy(), expected, atol=1e-6)
    of = run.memory["camera_centre_of"].tolist()
    assert of == [pairs.index((k, c)) if k >= 0 else -1 for k, c in zip(labels, taken_by, strict=True)]

    x = torch.nn.functional.normalize(torch.randn(3, run.networks.first.dim), dim=1)
    rows = torch.tensor([0, 7, 2])  # 0 and 2: one cluster, one camera
    method.update(run, rows, torch.from_numpy(labels)[rows], {"first": x, "second": x})
    for feature, row in zip(x.numpy(), rows.tolist(), strict=True):
        moved = 0.2 * expected[of[row]] + 0.8 * feature
        expected[of[row]] = moved / np.linalg.norm(moved)
    np.testing.assert_allclose(run.memory["camera_centres"].numpy(), expected, atol=1e-6)


def test_the_camera_term_needs_cameras(tmp_path):
    crops, _ = people(tmp_path)
    method = get_method("cacl")
    run = new_run(tiny("cacl", "loss.camera_weight=0.5"), method, weights="none", say=lambda line: None)
    with pytest.raises(ReseenError, match="leave it 0"):
        method.start(run, tuple(replace(crop, camera=-1) for crop in crops))


def test_the_camera_term_has_its_weight_and_reaches_the_first_branch_alone(tmp_path):
    crops, _ = people(tmp_path)
    method = get_method("cacl")
    run = new_run(tiny("cacl", "loss.camera_weight=0.5"), method, weights="none", say=lambda line: None)
    method.start(run, crops)
    run.labels = np.arange(len(crops)) // 4
    method.remember(run, run.memory["first"], PseudoLabels.of(run.labels))
    rows, images = torch.arange(8), torch.randn(2, 8, 3, 32, 16)
    labels = torch.from_numpy(run.labels)[rows]
    run.networks.train()
    terms, keys = method.losses(run, TrainBatch(rows, images[0], images[1]), labels)
    value = camera_loss(
        keys["first"], run.memory["camera_centres"], labels, run.memory["cluster_of_camera_centre"]
    )
    assert value > 0
    assert terms["camera"].item() == pytest.approx(0.5 * value.item(), rel=1e-6)
    terms["camera"].backward()
    reached = {
        name
        for name, module in run.networks.named_children()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    }
    assert reached == {"first"}

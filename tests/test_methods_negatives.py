"""``cluster.outliers: negatives``: an image alone is a class of the loss, and no batch draws it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oracles import losses as oracle
from reseen.data import TrainBatch
from reseen.data.samplers import iterations_to_draw
from reseen.methods import get_method
from reseen.methods.labelling import settle_outliers
from reseen.records import OUTLIER, PseudoLabels
from reseen.training import EpochStats, Run, new_run
from reseen.training.health import ageing_memory
from worlds import people, tiny

# two clusters, an outlier, a part of one image that refinement cut off, another outlier
FOUND = np.array([0, 0, 0, 1, 1, OUTLIER, 2, OUTLIER, 1, 0, 1, 0])
CLASSES = np.array([0, 0, 0, 1, 1, 3, 2, 4, 1, 0, 1, 0])
ALONE = [5, 6, 7]


def begun(recipe: str, features: str, root) -> tuple[Run, tuple]:
    """A run whose labels are CLASSES, with memories as the method makes them."""
    crops, _ = people(root, identities=3)
    config = tiny(recipe, f"cluster.features={features}", "cluster.outliers=negatives")
    method = get_method(config.method)
    run = new_run(config, method, weights="none", say=lambda line: None)
    method.start(run, crops)
    method.embed(run, crops)
    run.labels = CLASSES
    return run, crops


def test_an_image_alone_is_a_class():
    config = tiny("cacl", "cluster.outliers=negatives").cluster
    assert settle_outliers(PseudoLabels(FOUND), config).labels.tolist() == CLASSES.tolist()


@pytest.mark.parametrize("recipe", ["cacl", "cscl", "spcl"])
@pytest.mark.parametrize("features", ["memory", "fresh"])
def test_it_is_never_drawn_and_everybody_else_is(recipe, features, tmp_path):
    run, crops = begun(recipe, features, tmp_path)
    method = get_method(run.config.method)
    drawn = {int(row) for _ in range(8) for row in np.concatenate(choose(method, run, crops))}
    assert drawn == set(range(len(FOUND))) - set(ALONE)


def choose(method, run: Run, crops: tuple) -> list[np.ndarray]:
    """The batches of one more epoch."""
    run.epoch += 1
    return method.choose(run, PseudoLabels(CLASSES), crops)


@pytest.mark.parametrize(("recipe", "term", "name"), [
    ("cacl", "intra_first", "first"),
    ("cacl", "intra_second", "second"),
    ("cscl", "intra_first", "first"),
    ("spcl", "cluster", "first"),
])  # fmt: skip
@pytest.mark.parametrize("features", ["memory", "fresh"])
def test_loss_and_gradient_agree_with_a_loop_over_all_classes(recipe, term, name, features, tmp_path):
    """The printed formula with one class for each image alone: the value, and the derivative by every coordinate."""
    run, _ = begun(recipe, features, tmp_path)
    method, config = get_method(run.config.method), run.config.loss
    rows = torch.tensor([0, 3, 8, 9])
    images = torch.randn(2, 4, 3, 32, 16, generator=torch.Generator().manual_seed(3))
    run.networks.train()
    terms, keys = method.losses(run, TrainBatch(rows, images[0], images[1]), torch.from_numpy(CLASSES)[rows])

    memory = run.memory[name].double().tolist()
    centroids = []
    for label in range(CLASSES.max() + 1):
        members = [memory[row] for row in np.flatnonzero(label == CLASSES)]
        centroids.append([sum(column) / len(members) for column in zip(*members, strict=True)])
    assert len(centroids) == 5
    labels = CLASSES[rows.numpy()].tolist()

    def loop(x: list[list[float]]) -> float:
        return oracle.cluster(x, centroids, labels, config.temperature, config.focal_gamma)

    x = keys[name].detach().double().tolist()
    assert terms[term].item() == pytest.approx(loop(x), rel=1e-4)
    (gradient,) = torch.autograd.grad(terms[term], keys[name])
    for person, coordinate in ((0, 0), (1, 17), (3, 95)):
        sides = []
        for step in (1e-5, -1e-5):
            moved = [list(row) for row in x]
            moved[person][coordinate] += step
            sides.append(loop(moved))
        slope = (sides[0] - sides[1]) / 2e-5
        assert gradient[person, coordinate].item() == pytest.approx(slope, rel=2e-3, abs=1e-5)
    without = [[centroids[label] for label in (0, 1)], labels]
    assert oracle.cluster(x, *without, config.temperature, config.focal_gamma) < loop(
        x
    )  # the negatives count


def test_a_memory_that_ages_is_said_with_the_batches_that_would_serve(tmp_path):
    """Above a third of the clustered images undrawn, and only where remembered features are clustered."""
    config = tiny("cacl", "train.iterations=1", "train.batch_size=4", "train.instances=2")
    labels = np.repeat(np.arange(8), 6)
    stats = EpochStats(
        images=48,
        clusters=8,
        outliers=0,
        cross_camera_share=0.5,
        feature_spread=0.9,
        label_free=0.5,
        criteria={},
    )
    said = {}
    for share in (1 / 3, 0.5, float("nan")):
        stats.undrawn_share = share
        said[share] = ageing_memory(stats, config, 2, labels)
    assert [line is not None for line in said.values()] == [False, True, False]
    enough = iterations_to_draw(labels, share=1 / 3, batch_size=4, instances=2, singles=True)
    assert f"train.iterations={enough} (now 1), or cluster.features=fresh" in said[0.5]
    fresh = tiny("cacl", "cluster.features=fresh")
    stats.undrawn_share = 0.5
    assert ageing_memory(stats, fresh, 2, labels) is None

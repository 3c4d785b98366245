"""A method of your own: the batch-hard triplet loss (Hermans et al. 2017, arXiv:1703.07737) on pseudo labels.

    python examples/your_own_method.py FOLDER RUN model.backbone=resnet18 train.epochs=20

A ``Method`` holds what one paper does differently. The rest is ``reseen.training.fit``: data, epochs, checkpoints,
resuming, several processes. FOLDER holds crops of persons, and a query and gallery where there are any.
"""

import sys
from pathlib import Path

import torch
from torch.nn.functional import softplus

import reseen
from reseen.config import resolve
from reseen.data import open_data
from reseen.evaluation import evaluate_features
from reseen.methods import ON_CROPS, OneBranch, embed_clean, first_view, pseudo_labels
from reseen.training import Method, fit


def embed(run, crops):
    """What is clustered: features [M, D] of the images as they are, by the network as it is now."""
    return embed_clean(run, run.networks.encoder, crops)


def assign(run, features, cameras):
    """Features to pseudo labels [M]: Jaccard distances and DBSCAN, as the settings under ``cluster`` say."""
    return pseudo_labels(features, cameras, run.config.cluster, run.ranks)


def triplet_loss(features, labels):
    """Each feature [N, D] nearer to its farthest positive than to its nearest negative; labels [N]."""
    distances = torch.sqrt((2 - 2 * features @ features.T).clamp(min=1e-6))  # [N, N], of unit vectors
    same = labels[:, None] == labels
    farthest_positive = distances.masked_fill(~same, 0).amax(dim=1)
    nearest_negative = distances.masked_fill(same, 2).amin(dim=1)  # 2: as far as unit vectors can be
    return softplus(farthest_positive - nearest_negative).mean()  # the soft margin


def losses(run, batch, labels):
    """The terms of the loss, by name; and what each memory would learn: there is none."""
    with run.autocast():
        features = run.networks.encoder(batch.first).features
    return {"triplet": triplet_loss(features, labels)}, {}


METHOD = Method(
    **ON_CROPS,  # how batches are drawn and loaded, which signs are warned of
    build=OneBranch,  # the networks: here one encoder
    deployed=lambda networks: networks.encoder,  # the part that is used afterwards
    views=first_view,  # one augmented view of each image
    embed=embed,
    assign=assign,
    losses=losses,
)

SETTINGS = ["method=triplet", "train.batch_size=64", "train.instances=4", "model.bn_group_size=16"]


def main(folder, run_dir, settings):
    images = open_data(folder)
    # a recipe with one encoder, and without outliers: they have no positives
    config = resolve("cluster-contrast", None, [*SETTINGS, *settings])
    fit(config, images.train, METHOD, folder=run_dir, root=images.root, resume=True)
    embedder = reseen.Embedder.load(run_dir, method=METHOD)
    if images.query is None or images.gallery is None:
        return None
    query, gallery = (embedder(crop.path for crop in part.crops) for part in (images.query, images.gallery))
    scores = evaluate_features(query, gallery, images.query, images.gallery)
    print(f"mAP {scores.mean_ap:.1%}, rank-1 {scores.cmc[1]:.1%}")
    return scores


if __name__ == "__main__":
    folder, run_dir, *settings = sys.argv[1:]
    main(Path(folder), Path(run_dir), settings)

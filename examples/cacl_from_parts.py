"""CACL from its parts, the training loop in sight (Li et al. 2021, arXiv:2106.07846; numbers are its equations).

    python examples/cacl_from_parts.py FOLDER model.backbone=resnet18 train.epochs=20

FOLDER holds crops of persons that nobody labelled. Settings are those of ``reseen train --set``; the defaults are the
paper's. ``reseen train cacl`` computes the same, with checkpoints, several processes and a report.
"""

import copy
import sys
from functools import partial
from pathlib import Path

import torch

from reseen.clustering import dbscan, jaccard_graph, refine
from reseen.config import resolve
from reseen.data import balanced_batches, clean_transform, grey_transform, open_data, train_batches
from reseen.losses import cluster_loss, instance_loss, inter_view_loss
from reseen.memory import cluster_means, momentum_update
from reseen.models import build_encoder, build_predictor, load_weights, resolve_device
from reseen.models.embedding import embed
from reseen.records import PseudoLabels, cameras_of


def pseudo_labels(features, c):
    """Section 3.1: features [M, D] to the cluster of each image, int64 [M]; an outlier is a cluster of its own."""
    graph = jaccard_graph(features, k1=c.k1, k2=c.k2)
    distances = graph.distances(c.eps)  # sparse: pairs within eps
    labels = dbscan(distances, eps=c.eps, min_samples=c.min_samples)
    tight = dbscan(distances, eps=c.eps - c.tight_gap, min_samples=c.min_samples)
    labels = refine(labels, tight, graph.within(labels))  # (1): a part tighter than its cluster leaves it
    return torch.from_numpy(PseudoLabels.of(labels).keep_outliers().labels)


def train(crops, config):
    data, loss, t, seed = config.data, config.loss, config.train, config.seed
    device = resolve_device(t.device)
    torch.manual_seed(seed)
    first = build_encoder(config.model)  # F: sees colour, and is what is used afterwards
    load_weights(first, config.weights)
    torch.manual_seed(seed)  # whatever the weights drew
    second = copy.deepcopy(first)  # F': sees grey images
    predictor = build_predictor(config.model, first.dim)  # G, on the first branch only
    networks = torch.nn.ModuleList([first, second, predictor]).to(device)
    moving = [weight for weight in networks.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(moving, lr=t.lr, weight_decay=t.weight_decay)
    embed_all = partial(embed, crops=crops, batch_size=128, device=device, precision="none")
    memory = embed_all(first, transform=clean_transform(data)).to(device)  # v [M, D]
    memory2 = embed_all(second, transform=grey_transform(data)).to(device)  # v~ [M, D]
    contrast = partial(cluster_loss, temperature=loss.temperature, focal_gamma=loss.focal_gamma)
    sizes = {"batch_size": t.batch_size, "instances": t.instances, "iterations": t.iterations}

    for epoch in range(t.epochs):
        drops = sum(epoch >= max(1, round(share * t.epochs)) for share in t.lr_steps)
        optimizer.param_groups[0]["lr"] = t.lr * 0.1**drops
        labels = pseudo_labels(memory, config.cluster)
        clusters = int(labels.max()) + 1
        place = {"seed": seed, "epoch": epoch}  # all randomness is a function of it
        batches = balanced_batches(labels, cameras_of(crops), camera_aware=True, **sizes, **place)
        networks.train()
        for batch in train_batches(crops, batches, data, workers=data.workers, **place):
            rows, y = batch.rows, labels[batch.rows].to(device)  # [N]
            output = first(batch.first.to(device))
            x, z, x2 = output.features, predictor(output), second(batch.second.to(device)).features  # [N, D]
            u, u2 = (cluster_means(v, labels, clusters) for v in (memory, memory2))  # (4), (8): [K, D]
            terms = [instance_loss(z, x2.detach()), inter_view_loss(z, u2, y)]  # (2), (3)
            terms += [contrast(x, u, y), contrast(x2, u2, y)]  # (5)
            optimizer.zero_grad()
            sum(terms).backward()  # (10)
            optimizer.step()
            momentum_update(memory, rows, x, momentum=loss.momentum)  # (11)
            momentum_update(memory2, rows, x2, momentum=loss.momentum)  # (12)
        print(f"epoch {epoch + 1}: {clusters} clusters, loss {sum(terms).item():.3f} in the last batch")
    return networks


if __name__ == "__main__":
    networks = train(open_data(Path(sys.argv[1])).train, resolve("cacl", None, sys.argv[2:]))
    torch.save(networks[0].state_dict(), "cacl.pt")

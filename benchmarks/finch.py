"""FINCH with the image filter on a memory of CUHK-SYSU's size, against the bare nearest-neighbour search.

    python benchmarks/finch.py
    python benchmarks/finch.py --boxes 10000 --pairs 3

Features are drawn (persons in a latent space of 160 dimensions, an isotropic part on top, so that none is of low
rank); five boxes a scene. Both sides run in turn in one process, which has searched once before; the peak over the
features is that of the whole process less what it held when the features were there.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import numpy as np

from reseen.clustering import finch, nearest_neighbours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", type=int, default=55_260)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--filters", nargs="+", default=["link"], help="none, link, next, strict")
    given = parser.parse_args()

    features = draw(given.boxes, given.dim)
    scenes = np.arange(given.boxes) // 5
    finch(features[:300].copy(), image_ids=scenes[:300])  # compiled kernels
    before = peak_mib()
    print("| filter | CPU s, FINCH | CPU s, bare search | ratio | clusters | peak over the features, MiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in given.filters:
        whole, bare, labels = [], [], np.empty(0, dtype=np.int64)
        for _ in range(given.pairs):
            started = time.process_time()
            labels = finch(features, image_ids=scenes, image_filter=name)
            whole.append(time.process_time() - started)
            started = time.process_time()
            nearest_neighbours(features, 2)
            bare.append(time.process_time() - started)
        ratio = statistics.median(a / b for a, b in zip(whole, bare, strict=True))
        print(
            f"| {name} | {statistics.median(whole):.1f} | {statistics.median(bare):.1f} | {ratio:.2f} | "
            f"{labels.max() + 1:,} | {peak_mib() - before:,.0f} |",
            flush=True,
        )


def draw(count: int, dim: int) -> np.ndarray:
    """Unit rows ``[count, dim]``, in place and in blocks: the peak belongs to the clustering."""
    random = np.random.default_rng(0)
    persons = random.standard_normal((count // 4 + 1, 160)).astype(np.float32)
    spread = random.standard_normal((160, dim)).astype(np.float32) / np.sqrt(160)
    features = np.empty((count, dim), dtype=np.float32)
    for start in range(0, count, 2048):
        block = features[start : start + 2048]
        who = random.integers(len(persons), size=len(block))
        latent = persons[who] + 0.8 * random.standard_normal((len(block), 160)).astype(np.float32)
        block[:] = latent @ spread + 0.4 * random.standard_normal(block.shape).astype(np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return features


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

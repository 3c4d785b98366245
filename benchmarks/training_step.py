"""One training step of CACL: our loop against the way of the released code, interleaved (docs/performance/training.md).

    python benchmarks/training_step.py
    python benchmarks/training_step.py --ablation --pairs 5

Both sides do the same arithmetic: same networks and start, batches, grouped batch norm, losses, optimiser. The way
of the released code, written anew from a description of it (nothing of that code is here):

- two full training loaders; the second one's batch is read every iteration and thrown away;
- float32 and contiguous images, no autocast;
- centres averaged from the whole memory every iteration, looked up one sample after the other;
- a softmax of plain exponentials; the memory is moved one sample after the other;
- a block of pairwise distances that nothing reads, with a wait for its value.

Both of its loaders are ours (one decoding for both views), so that the second one's price is the same images twice
and not another way to decode: if anything, that favours the released side.
The figure is CPU seconds (all threads of the process, loading included), because wall time on a shared machine says
more about the neighbours. Images are drawn; memories have the size of Market-1501's. Peak memory is that of a
process of its own for each side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch is imported by the measuring process only: it must not have grown before it starts
    from torch import Tensor

    from reseen.records import Crop
    from reseen.training import Run

GROUPS, ALONE = 700, 0.4  # pseudo labels: clusters, and the share of images that are alone (mid-training)
CAMERAS = 6


@dataclass(frozen=True)
class Way:
    """What differs between the sides; the ablation changes one at a time."""

    precision: str = "none"
    channels_last: bool = False
    loaders: int = 2
    memory: str = "loops"  # or "vectorised": reseen's losses and update


WAYS = {
    "released": Way(),
    "ours": Way("auto", True, 1, "vectorised"),
    "released, one loader": Way(loaders=1),
    "released, vectorised memory": Way(memory="vectorised"),
    "released, channels_last": Way(channels_last=True),
    "released, bf16": Way(precision="auto"),
    "released, bf16 and channels_last": Way(precision="auto", channels_last=True),
}


def main() -> None:
    given = parse()
    if given.measure:
        measure(given)
        return
    names = list(WAYS) if given.ablation else ["released", "ours"]
    with tempfile.TemporaryDirectory() as folder:
        draw_images(Path(folder), given.images)
        peaks = {} if given.ablation else {n: child(given, folder, [n], 1)["peak_mib"] for n in names}
        result = child(given, folder, names, given.pairs)
    if given.json:
        print(json.dumps(result | {"peaks": peaks}))
    report(given, names, result, peaks)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rows", type=int, default=12936, help="of each memory; Market-1501's by default")
    parser.add_argument("--images", type=int, default=512, help="different files that the rows are read from")
    parser.add_argument("--pairs", type=int, default=5, help="measured steps of each side, after one warm-up")
    parser.add_argument("--threads", type=int, default=1, help="of torch, both sides")
    parser.add_argument("--ablation", action="store_true", help="also change one thing at a time")
    parser.add_argument("--json", action="store_true", help="also print every measured step")
    parser.add_argument("--measure", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def draw_images(folder: Path, count: int) -> None:
    """JPEG files of 128x64, smooth blocks with some noise: about as many bytes as a photograph of that size."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for number in range(count):
        blocks = draw.integers(0, 256, (16, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        noisy = np.clip(blocks + draw.normal(0, 8, blocks.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:05d}.jpg", quality=90)


def child(given: argparse.Namespace, folder: str, names: list[str], pairs: int) -> dict[str, Any]:
    """Measure in a process of its own, so that its peak memory is its own."""
    options = ("backbone", "height", "width", "batch_size", "rows", "images", "threads")
    words = [word for o in options for word in (f"--{o.replace('_', '-')}", str(getattr(given, o)))]
    threads = {f"{library}_NUM_THREADS": str(given.threads) for library in ("OMP", "MKL", "NUMBA")}
    # Interleaved ways need more compiled kernels than oneDNN keeps by default (1024); both sides have this.
    environment = os.environ | threads | {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8192"}
    command = [
        sys.executable,
        __file__,
        *words,
        "--pairs",
        str(pairs),
        "--folder",
        folder,
        "--measure",
        *names,
    ]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(given: argparse.Namespace) -> None:
    """One warm-up round, then ``given.pairs`` rounds of one step of each way in turn. Prints JSON."""
    import resource

    import torch

    torch.set_num_threads(given.threads)
    steps = {name: stepper(WAYS[name], given) for name in given.measure}
    precisions = {name: run.precision for name, (run, _) in steps.items()}
    first_loss = {name: step() for name, (_, step) in steps.items()}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(given.pairs):
        for name, (_, step) in steps.items():
            cpu_before, wall_before = time.process_time(), time.perf_counter()
            step()
            cpu[name].append(time.process_time() - cpu_before)
            wall[name].append(time.perf_counter() - wall_before)
            print(f"{name}: {cpu[name][-1]:.2f} s of CPU, {wall[name][-1]:.2f} s", file=sys.stderr)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    result = {"cpu": cpu, "wall": wall, "first_loss": first_loss, "precision": precisions}
    print(json.dumps(result | {"peak_mib": peak, "torch": torch.__version__}))


def stepper(way: Way, given: argparse.Namespace) -> tuple[Run, Callable[[], float]]:
    """A run with filled memories and a function that does one step, loading included, and returns the loss."""
    import torch

    from reseen.config import resolve
    from reseen.methods.cacl import METHOD
    from reseen.training import new_run

    config = resolve(
        "cacl",
        None,
        [
            f"model.backbone={given.backbone}",
            f"data.height={given.height}",
            f"data.width={given.width}",
            f"train.batch_size={given.batch_size}",
            f"train.precision={way.precision}",
            f"train.channels_last={str(way.channels_last).lower()}",
            "train.device=cpu",
            "data.workers=0",  # in this process: its CPU time is counted
        ],
    )
    run = new_run(config, METHOD, weights="none", say=lambda text: None)
    crops = fill(run, given)
    labels = torch.from_numpy(run.labels)
    loaders = [loader(run, crops, given.pairs + 1, seed) for seed in range(way.loaders)]
    run.networks.train()

    def step() -> float:
        batch = next(loaders[0])
        for unread in loaders[1:]:
            next(unread)
        own = labels[batch.rows]
        losses = METHOD.losses if way.memory == "vectorised" else released_losses
        update = METHOD.update if way.memory == "vectorised" else released_update
        terms, keys = losses(run, batch, own)
        loss = torch.stack(list(terms.values())).sum()
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        update(run, batch, own, keys)
        return loss.item()

    return run, step


def fill(run: Run, given: argparse.Namespace) -> tuple[Crop, ...]:
    """Random unit memories and pseudo labels of ``given.rows`` images; the crops are files read in turn."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    from reseen.records import Crop

    draw = np.random.default_rng(0)
    labels = draw.integers(0, GROUPS, given.rows)
    alone = draw.random(given.rows) < ALONE
    labels[alone] = GROUPS + np.arange(alone.sum())
    run.labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    generator = torch.Generator().manual_seed(0)
    dim = run.networks.first.dim
    for name in ("first", "second"):
        run.memory[name] = F.normalize(torch.randn(given.rows, dim, generator=generator), dim=1)
    files = sorted(given.folder.glob("*.jpg"))
    cameras = draw.integers(0, CAMERAS, given.rows).tolist()
    return tuple(Crop(files[row % len(files)], camera) for row, camera in enumerate(cameras))


def loader(run: Run, crops: tuple[Crop, ...], steps: int, seed: int) -> Iterator[Any]:
    """Identity-balanced batches with both views, as the training epoch makes them."""
    from reseen.data import balanced_batches, train_batches
    from reseen.methods.cacl import METHOD
    from reseen.records import cameras_of

    train = run.config.train
    batches = balanced_batches(
        run.labels,
        cameras_of(crops),
        batch_size=train.batch_size,
        instances=train.instances,
        iterations=steps,
        camera_aware=True,
        seed=seed,
        epoch=0,
    )
    views = METHOD.views(run.config)
    for batch in train_batches(crops, batches, run.config.data, seed=seed, epoch=0, views=views, workers=0):
        yield batch.to(run.device, channels_last=train.channels_last)


def released_losses(run: Run, batch: Any, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The terms of Eq. (10) by loops and plain exponentials; values as reseen's, to about 1e-6 in each q."""
    import torch
    import torch.nn.functional as F

    with run.autocast():
        first, second = run.networks.first(batch.first), run.networks.second(batch.second)
        z = run.networks.predictor(first)
    x, x2 = first.features, second.features

    gram = x.detach() @ x.detach().T
    squares = x.detach().pow(2).sum(1)
    unread = (squares[:, None] + squares[None, :] - 2 * gram).clamp(min=0).sqrt()
    unread.max().item()  # the wait

    count = int(run.labels.max()) + 1
    all_labels = torch.from_numpy(run.labels)
    sizes = torch.zeros(count).index_add_(0, all_labels, torch.ones(len(all_labels)))
    terms, centres = {}, {}
    for name, features in (("first", x), ("second", x2)):
        sums = torch.zeros(count, features.shape[1]).index_add_(0, all_labels, run.memory[name])
        centres[name] = sums / sizes.clamp(min=1)[:, None]
        weights = torch.exp(features @ centres[name].T / run.config.loss.temperature)
        weights = weights * (sizes > 0).float()[None, :]
        q = weights / (weights.sum(1, keepdim=True) + 1e-6)
        own = torch.stack([q[i, int(label)] for i, label in enumerate(labels)])
        focal = (1 - own) ** run.config.loss.focal_gamma
        terms[f"intra_{name}"] = -(focal * torch.log(own + 1e-6)).mean()
    looked_up = torch.stack([centres["second"][int(label)] for label in labels])
    direction = F.normalize(z, dim=1)
    terms["inter"] = -(direction * F.normalize(looked_up, dim=1)).sum(1).mean()
    terms["instance"] = -(direction * x2.detach()).sum(1).mean()
    return terms, {"first": x, "second": x2}


def released_update(run: Run, batch: Any, labels: Tensor, keys: dict[str, Tensor]) -> None:
    """Eq. (11) and (12), one sample after the other."""
    alpha = run.config.loss.momentum
    for name, features in keys.items():
        memory = run.memory[name]
        for feature, row in zip(features.detach(), batch.rows.tolist(), strict=True):
            moved = alpha * memory[row] + (1 - alpha) * feature
            memory[row] = moved / moved.norm()


def report(
    given: argparse.Namespace, names: list[str], result: dict[str, Any], peaks: dict[str, float]
) -> None:
    """Markdown: setting, table, ratios of the pairs. Refuses to compare where the sides did not do the same."""
    cpu, wall, loss = result["cpu"], result["wall"], result["first_loss"]
    reference = loss["released"]
    if any(abs(value - reference) > 0.02 * abs(reference) for value in loss.values()):
        raise SystemExit(f"the sides do not compute the same: loss of the first step {loss}")
    print(
        f"{given.backbone}, {given.height}x{given.width}, batch {given.batch_size}, memory of {given.rows} rows, "
        f"{given.threads} thread(s), torch {result['torch']}, {given.pairs} interleaved steps each; "
        f"median, ratio as min / median / max over the steps\n"
    )
    print(
        "| | precision | CPU s per step | images per CPU s | ratio, CPU | images/s, wall | ratio, wall | peak MiB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        seconds, clock = statistics.median(cpu[name]), statistics.median(wall[name])
        print(
            f"| {name} | {result['precision'][name].replace('none', 'float32')} | {seconds:.2f} "
            f"| {given.batch_size / seconds:.1f} | {spread(cpu['released'], cpu[name])} "
            f"| {given.batch_size / clock:.1f} | {spread(wall['released'], wall[name])} "
            f"| {f'{peaks[name]:,.0f}' if name in peaks else ''} |"
        )
    print(f"\nloss of the first step: {', '.join(f'{name} {value:.4f}' for name, value in loss.items())}")


def spread(released: list[float], other: list[float]) -> str:
    """How many times as long the released way took, step by step."""
    ratios = sorted(a / b for a, b in zip(released, other, strict=True))
    return f"{ratios[0]:.2f} / {statistics.median(ratios):.2f} / {ratios[-1]:.2f}"


if __name__ == "__main__":
    main()

"""Features of crops by onnxruntime against PyTorch: float32, channels_last, batch norm folded, the same threads.

    python benchmarks/onnx_embedder.py --pairs 15

Random weights (the time does not depend on them) and random pixels at 128x64. Both sides sit in one process and take
turns, a batch each; ratios are taken pair by pair. Checks first that both give the same features.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reseen.config import Config, resolve
from reseen.export.onnx_files import write_onnx
from reseen.inference import Embedder
from reseen.models import build_encoder
from reseen.models.folding import folded
from reseen.onnx import Graph

BACKBONES = ("tf_efficientnet_lite0", "resnet18")
HEIGHT, WIDTH = 128, 64


def model_of(backbone: str) -> Embedder:
    torch.manual_seed(0)
    config: Config = resolve(
        "cacl", None, [f"model.backbone={backbone}", f"data.height={HEIGHT}", f"data.width={WIDTH}"]
    )
    config = replace(config, weights="none")
    return Embedder(build_encoder(config.model).eval(), config, device="cpu")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of all threads, and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(backbone: str, batch: int, pairs: int, threads: int) -> str:
    model = model_of(backbone)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(model, Path(folder) / "onnx", licence="none")
        graph = Graph.load(Path(folder) / "onnx" / "embedder.onnx", threads)
    network = folded(model.encoder).to(memory_format=torch.channels_last)
    pixels = torch.randn(batch, 3, HEIGHT, WIDTH)
    array, last = pixels.numpy(), pixels.contiguous(memory_format=torch.channels_last)

    def ours() -> torch.Tensor:
        with torch.inference_mode():
            return network(last).features

    difference = float(np.abs(ours().numpy() - graph(array)[0]).max())
    assert difference < 1e-4, difference
    for _ in range(3):
        ours(), graph(array)
    here, there = [], []
    for _ in range(pairs):
        here.append(timed(ours))
        there.append(timed(lambda: graph(array)))
    ratios = sorted(p[0] / o[0] for p, o in zip(here, there, strict=True))
    walls = sorted(p[1] / o[1] for p, o in zip(here, there, strict=True))
    cells = [f"{backbone}, batch {batch}, {threads} thread(s)", f"{difference:.1e}"]
    for column in (0, 1):
        cells += [
            f"{batch / statistics.median(side[column] for side in sides):.0f}" for sides in (here, there)
        ]
        found = (ratios, walls)[column]
        cells.append(f"{found[0]:.2f} / **{statistics.median(found):.2f}** / {found[-1]:.2f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = ("images per CPU s: PyTorch", "ONNX", "ratio", "images/s, wall: PyTorch", "ONNX", "ratio")
    print(f"| network | difference | {' | '.join(names)} |\n|{' --- |' * (len(names) + 2)}")
    for backbone in BACKBONES:
        print(compare(backbone, given.batch, given.pairs, given.threads), flush=True)


if __name__ == "__main__":
    main()

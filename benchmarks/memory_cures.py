"""Two cures for remembered features of images that are seldom drawn: docs/results/outliers.md, "Memories that age".

    python benchmarks/memory_cures.py --data MARKET --weights squeezenet1_1.safetensors --out RUNS --seeds 1 2

CACL's single colour branch with outliers as negatives and remembered features, data and steps as in parts/study.py.
`centred`: the mean and variance of the BN-neck are those of the data before the memory is filled, so that its first
rows are centred as those of drawn images are. `refreshed`: before each clustering the rows of images that no batch of
the last epoch held are embedded anew. Validation mAP / rank-1 after the last step, the share of the clustered rows that
an epoch did not draw, and the seconds of embedding. A row that is interrupted begins again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parts.study import SETTINGS, validation_manifest
from reseen.config import resolve
from reseen.data import clean_batches, clean_transform, open_data
from reseen.evaluation.encoders import as_record, evaluate_encoder
from reseen.methods import embed_clean, get_method
from reseen.records import Crop
from reseen.training import Method, Run, fit

ROWS = {
    "remembered": (),
    "centred": ("centred",),
    "refreshed": ("refreshed",),
    "both": ("centred", "refreshed"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    given = parser.parse_args()
    manifest = validation_manifest(given.data, given.out)
    print(
        "| rows | seed | mAP / rank-1 | not drawn, last epoch | embedding, s |\n| --- | --- | --- | --- | --- |"
    )
    for seed in given.seeds:
        for row in given.rows:
            file = given.out / f"{row}-{seed}.json"
            if not file.exists():
                file.write_text(
                    json.dumps(measured(row, seed, manifest, given.weights, given.out / f"{row}-{seed}"))
                )
            found = json.loads(file.read_text())
            scores = f"{100 * found['mean_ap']:.1f} / {100 * found['rank1']:.1f}"
            print(
                f"| {row} | {seed} | {scores} | {found['undrawn']:.0%} | {found['embedding']:.0f} |",
                flush=True,
            )


def measured(row: str, seed: int, manifest: Path, weights: Path, run_dir: Path) -> dict[str, float]:
    shutil.rmtree(run_dir, ignore_errors=True)
    data = open_data(manifest)
    settings = [*SETTINGS, f"seed={seed}", "cluster.outliers=negatives", "cluster.features=memory"]
    config = resolve("cacl-single", None, settings)
    seconds: list[float] = []
    method = cured(get_method("cacl"), ROWS[row], seconds)
    run = fit(config, data.train, method, folder=run_dir, root=data.root, weights=weights)
    scores = evaluate_encoder(run.networks.shipped(), data, run.config)
    return {**as_record(scores), "undrawn": run.history[-1]["undrawn_share"], "embedding": sum(seconds)}


def cured(method: Method[Any, Any], cures: tuple[str, ...], seconds: list[float]) -> Method[Any, Any]:
    """The method with these cures; what its embedding takes is added to ``seconds``."""
    touched: list[Tensor] = []  # rows of the memory, by step of the running epoch

    def start(run: Run, crops: tuple[Crop, ...]) -> None:
        began = time.process_time()
        if "centred" in cures:
            centre(run, crops)
        method.start(run, crops)
        seconds.append(time.process_time() - began)

    def embed(run: Run, crops: tuple[Crop, ...]) -> Tensor:
        began = time.process_time()
        if "refreshed" in cures and run.epoch > 0:
            drawn = torch.zeros(len(crops), dtype=torch.bool)
            drawn[torch.cat(touched)] = True
            rows = (~drawn).nonzero()[:, 0]
            run.memory["second"][rows] = embed_clean(
                run, run.networks.second, tuple(crops[row] for row in rows)
            )
        touched.clear()
        features = method.embed(run, crops)
        seconds.append(time.process_time() - began)
        return features

    def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
        touched.append(rows)
        method.update(run, rows, labels, keys)

    return replace(method, start=start, embed=embed, update=update)


@torch.no_grad()
def centre(run: Run, crops: tuple[Crop, ...]) -> None:
    """The neck's running mean and variance become those of all pooled vectors; nothing else changes."""
    encoder = run.networks.second.eval()
    images = (images for _, images in clean_batches(crops, clean_transform(run.config.data), batch_size=32))
    pooled = torch.cat([encoder(batch).pooled for batch in images])
    encoder.neck.running_mean.copy_(pooled.mean(0))
    encoder.neck.running_var.copy_(pooled.var(0))


if __name__ == "__main__":
    main()

"""The parts of an epoch of CACL in float32, this checkout against another one, in turn (docs/performance/training.md).

    python benchmarks/epoch.py --data market1501 --weights FILE --against OTHER_CHECKOUT

Two processes, one for each checkout, that wait while the other works: CPU seconds of embedding some images for both
memories and of some training steps from equal weights. An epoch of ``--iterations`` steps is the sum of its parts: both
embeddings (before the first epoch; with ``cluster.features=fresh`` before each), clustering drawn features (once, by
this checkout, and counted on both sides), steps. Refuses to print where losses or features differ.
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
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
CLOSE = 1e-5  # of losses and of features, absolute
CLUSTERS, ALONE = 700, 0.4  # pseudo labels: clusters, and the share of images that are alone (mid-training)


def main() -> None:
    given = parse()
    if given.child:
        serve(given)
        return
    print("| instruction set | part | before, CPU s | now, CPU s | before / now: min / median / max |")
    print("| --- | --- | --- | --- | --- |")
    for isa in given.isa:
        pairs(given, isa)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a folder of crops, as `reseen train` takes it")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--against", type=Path, required=True, help="the other checkout")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument(
        "--isa", nargs="+", default=["DEFAULT", "AVX2"], help="ONEDNN_MAX_CPU_ISA, one table each"
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=512, help="embedded in each pair")
    parser.add_argument("--steps", type=int, default=3, help="trained in each pair")
    parser.add_argument("--iterations", type=int, default=400, help="of the epoch that is summed up")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


class Side:
    """A process that runs one checkout and works when asked."""

    def __init__(self, checkout: Path, isa: str) -> None:
        one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "NUMBA")}
        environment = (
            os.environ | one_thread | {"PYTHONPATH": str(checkout / "src"), "ONEDNN_MAX_CPU_ISA": isa}
        )
        command = [sys.executable, __file__, *sys.argv[1:], "--child"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, part: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(part, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise SystemExit(f"a side ended during {part}")


def pairs(given: argparse.Namespace, isa: str) -> None:
    """Both sides in turn; one row for each part, and for the epoch."""
    sides = {"before": Side(given.against, isa), "now": Side(HERE, isa)}
    with tempfile.TemporaryDirectory() as folder:
        loss, kept = {}, {}
        for name, side in sides.items():  # the first of each warms up
            side.ask(f"embed {folder}/{name}.npy")
            kept[name] = np.load(f"{folder}/{name}.npy")
            loss[name] = side.ask("train")["loss"]
    off = abs(loss["before"] - loss["now"]), float(np.abs(kept["before"] - kept["now"]).max())
    if max(off) > CLOSE:
        raise SystemExit(f"the sides do not compute the same: loss and features differ by {off}")
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(given.pairs):
        order = list(sides) if number % 2 else list(sides)[::-1]
        for part in ("embed", "train"):
            for name in order:
                cpu = sides[name].ask(part)["cpu"]
                print(f"{isa} {part} {name}: {cpu:.3f}", file=sys.stderr, flush=True)
                seconds.setdefault(part, {"before": [], "now": []})[name].append(cpu)
    images = sides["now"].ask("images")
    cluster = sides["now"].ask("cluster")["cpu"]
    per_step = {n: [cpu / given.steps for cpu in seconds["train"][n]] for n in sides}
    seconds["epoch"] = {
        name: [
            images / given.images * embed + cluster + given.iterations * step
            for embed, step in zip(seconds["embed"][name], per_step[name], strict=True)
        ]
        for name in sides
    }
    called = {
        "embed": f"embedding {given.images} images for both memories",
        "train": f"{given.steps} steps",
        "epoch": f"epoch: {images:,} images embedded for both, clustered ({cluster:.1f} s), {given.iterations} steps",
    }
    for part, text in called.items():
        before, now = seconds[part]["before"], seconds[part]["now"]
        ratios = sorted(a / b for a, b in zip(before, now, strict=True))
        middle = statistics.median(ratios)
        print(
            f"| {isa} | {text} | {statistics.median(before):.2f} | {statistics.median(now):.2f} "
            f"| {ratios[0]:.2f} / **{middle:.2f}** / {ratios[-1]:.2f} |"
        )
    print(
        f"\nlosses of the first steps differ by {off[0]:.1e}, features by {off[1]:.1e} at most\n", flush=True
    )


def serve(given: argparse.Namespace) -> None:
    """Do what each line of the standard input asks for, and answer with one line."""
    import torch

    from reseen.config import resolve
    from reseen.data import open_data
    from reseen.methods.cacl import METHOD
    from reseen.records import PseudoLabels
    from reseen.training import new_run

    torch.set_num_threads(1)
    settings = [
        "train.precision=none",
        "train.device=cpu",
        "data.workers=0",
        "data.height=128",
        "data.width=64",
    ]
    size = [f"model.backbone={given.backbone}", f"train.iterations={given.steps}", "train.batch_size=64"]
    config = resolve("cacl", None, [*settings, *size])
    crops = open_data(Path(given.data)).train
    run = new_run(config, METHOD, weights=given.weights, say=lambda text: None)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, CLUSTERS, len(crops))
    alone = draw.random(len(crops)) < ALONE
    rows = draw.standard_normal((CLUSTERS, run.networks.second.dim), dtype=np.float32)[labels]
    rows += 1.2 * draw.standard_normal(rows.shape, dtype=np.float32)
    features = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)
    labels[alone] = -1
    pseudo = PseudoLabels.of(labels).keep_outliers()
    run.memory = {"first": features.clone(), "second": features.clone()}
    run.labels = pseudo.labels
    METHOD.remember(run, features, pseudo)
    for line in sys.stdin:
        part, _, path = line.strip().partition(" ")
        before, answer = time.process_time(), {}
        if part == "images":
            print("answer", len(crops), flush=True)
            continue
        if part == "train":
            answer["loss"] = train(run, crops, [draw.integers(0, len(crops), 64) for _ in range(given.steps)])
        elif part == "cluster":
            METHOD.assign(run, features, np.full(len(crops), -1))
        else:
            kept, run.memory = run.memory, {}
            METHOD.start(run, crops[: given.images])
            if path:
                np.save(path, torch.stack(list(run.memory.values())).numpy())
            run.memory = kept
        print("answer", json.dumps({"cpu": time.process_time() - before} | answer), flush=True)


def train(run: Any, crops: Any, batches: Any) -> float:
    """Steps on the rows of ``batches``; the loss of the first."""
    import torch

    from reseen.methods.cacl import METHOD

    labels, losses = torch.from_numpy(run.labels), []
    run.networks.train()
    for batch in METHOD.load(run, crops, batches, METHOD.views(run.config)):
        terms, keys = METHOD.losses(run, batch, labels[batch.rows])
        loss = torch.stack(list(terms.values())).sum()
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        METHOD.update(run, batch.rows, labels[batch.rows], keys)
        losses.append(loss.item())
    return losses[0]


if __name__ == "__main__":
    main()

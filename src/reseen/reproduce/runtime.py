"""Table 9 of R-SiamNet's supplementary on this machine: one scene of 900 x 1500, batch 1, each detector."""

from __future__ import annotations

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from reseen.config import resolve
from reseen.device import autocast, resolve_precision
from reseen.models import resolve_device
from reseen.models.pyramid import build_pyramid
from reseen.models.search import build_search_network
from reseen.pages.page import Section
from reseen.pages.tables import Table

HEIGHT, WIDTH = 928, 1504  # padded to multiples of 32
SIZE = (900, 1500)
PERSONS = 100  # the most that may be found
REPEATS = 3
DETECTORS = {"RepPoints": "reppoints", "RetinaNet": "retinanet", "Faster R-CNN": "faster-rcnn"}
PAPER = (("MGTS", "K80", "1269"), ("QEEPS", "P6000", "300"), ("NAE+", "V100", "98"), ("NAE", "V100", "83"))


def runtime_section(repeats: int = REPEATS) -> Section:
    """A table: median seconds and GFLOPs of R-SiamNet with each detector here; the paper's milliseconds on its GPUs.

    Random weights: the time does not depend on them, as 100 boxes are embedded whatever was found. CPU: seconds of all
    threads; CUDA: wall. `benchmarks/search_inference.py` compares with a network in the manner of NAE in one run.
    """
    device = resolve_device("auto")
    rows = []
    for label, name in DETECTORS.items():
        for precision in dict.fromkeys(("none", resolve_precision(device, "auto"))):
            seconds, flops = _measured(name, device, precision, repeats)
            shown = "float32" if precision == "none" else precision
            paper = "72 (V100)" if name == "reppoints" else "–"
            rows.append((f"R-SiamNet, {label}", shown, f"{1000 * seconds:,.0f}", f"{flops:,.1f}", paper))
    rows += [(f"{name} (paper)", "–", "–", "–", f"{ms} ({gpu})") for name, gpu, ms in PAPER]
    clock = "CPU ms here, all threads" if device.type == "cpu" else f"ms here, {device.type}"
    columns = ("method", "precision", clock, "GFLOPs", "paper, ms")
    caption = (
        f"Median of {repeats} after a warm-up; another processor than the paper's, so only ratios compare."
    )
    return Section("Runtime", text=caption, table=Table(columns, tuple(rows), caption))


def _measured(detector: str, device: torch.device, precision: str, repeats: int) -> tuple[float, float]:
    """Median seconds and GFLOPs (2 a multiply-add; RoIAlign is not counted) of one scene."""
    torch.manual_seed(0)
    config = resolve("r-siamnet", None, [f"search.detector={detector}"])
    network = build_search_network(config, build_pyramid("resnet50", weights="none")[0])
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    images = torch.randn(1, 3, HEIGHT, WIDTH, device=device).contiguous(memory_format=torch.channels_last)
    corner = torch.rand(PERSONS, 2) * torch.tensor([1300.0, 600.0])
    boxes = torch.cat([corner, corner + torch.tensor([80.0, 240.0])], dim=1).to(device)
    sizes = torch.tensor([SIZE], device=device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def search() -> None:
        with torch.inference_mode(), autocast(device, precision):
            maps = network.pyramid(images)
            network.detector.detect(maps, sizes)
            network.search_features(maps, [boxes])
        if device.type == "cuda":
            torch.cuda.synchronize()

    with FlopCounterMode(display=False) as counter:
        search()
    times = []
    for _ in range(repeats):
        started = clock()
        search()
        times.append(clock() - started)
    return statistics.median(times), counter.get_total_flops() / 1e9

"""One scene of 900 x 1500 through R-SiamNet and through a network in the manner of NAE: Table 9, as a ratio.

    python benchmarks/search_inference.py --repeats 4
    python benchmarks/search_inference.py --device cuda --repeats 20

On a CPU the figure is CPU seconds of all threads, since wall time on a shared machine says more about the neighbours.
Both have random weights and a batch of 1, padded to 928 x 1504; sides and precisions take turns in one process, one
warm-up each. Ours is the pyramid on ResNet-50, RepPoints, and features of 100 boxes, the most it may find. The other
side, written here from torchvision's parts, is what NAE and SeqNet's first stage do: ResNet-50 up to layer3, a region
proposal network with 300 proposals, layer4 on their 14 x 14 RoIs, classes, boxes and an embedding. FLOPs are counted
by torch (2 a multiply-add); RoIAlign and grid sampling are not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align

from reseen.config import resolve
from reseen.device import autocast, resolve_precision
from reseen.models.pyramid import build_pyramid
from reseen.models.search import SearchNetwork, build_search_network

HEIGHT, WIDTH = 928, 1504  # 900 x 1500, padded to multiples of 32
SIZE = (900, 1500)
PERSONS, REGIONS = 100, 300


def some_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * torch.tensor([1300.0, 600.0])
    return torch.cat([corner, corner + torch.tensor([80.0, 240.0])], dim=1)


class NaeLike(nn.Module):
    """Faster R-CNN on C4 with layer4 as the head of 300 regions, and an embedding of both of its maps."""

    def __init__(self) -> None:
        super().__init__()
        net = torchvision.models.resnet50(weights=None)
        self.body = nn.Sequential(
            net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3
        )
        self.tail = net.layer4
        anchors = AnchorGenerator(((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),))
        head = RPNHead(1024, anchors.num_anchors_per_location()[0])
        kept = {"training": 300, "testing": 300}
        self.rpn = RegionProposalNetwork(
            anchors, head, 0.7, 0.3, 256, 0.5, {"training": 6000, "testing": 6000}, kept, 0.7
        )
        self.box = nn.Linear(2048, 4)
        self.embedding = nn.ModuleList([nn.Linear(1024, 128), nn.Linear(2048, 128)])
        self.regions: Tensor
        self.register_buffer("regions", some_boxes(REGIONS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(images)
        self.rpn(ImageList(images, [SIZE]), {"0": maps})  # its cost; random weights propose any number
        regions = roi_align(maps.float(), [self.regions], (14, 14), 1 / 16, 2, aligned=False)
        regions = regions.contiguous(memory_format=torch.channels_last)
        deep = self.tail(regions)
        features = [regions.amax((2, 3)), deep.amax((2, 3))]
        joined = [layer(part) for layer, part in zip(self.embedding, features, strict=True)]
        return self.box(deep.mean((2, 3))), torch.cat(joined, dim=1)


def ours() -> SearchNetwork:
    config = resolve("r-siamnet")
    return build_search_network(config, build_pyramid("resnet50", weights="none")[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    device = torch.device(given.device)
    half = resolve_precision(device, "auto")
    images = torch.randn(1, 3, HEIGHT, WIDTH, device=device).contiguous(memory_format=torch.channels_last)
    sizes = torch.tensor([SIZE], device=device)
    boxes = some_boxes(PERSONS).to(device)
    network = ours().to(device).to(memory_format=torch.channels_last).eval()
    other = NaeLike().to(device).to(memory_format=torch.channels_last).eval()

    def search(precision: str) -> Tensor:
        with autocast(device, precision):
            maps = network.pyramid(images)
            network.detector.detect(maps, sizes)
            return network.search_features(maps, [boxes])

    def nae(precision: str) -> Tensor:
        with autocast(device, precision):
            features: Tensor = other(images)[1]
            return features

    sides: dict[str, Callable[[], Tensor]] = {
        "in the manner of NAE, float32": lambda: nae("none"),
        "R-SiamNet, float32": lambda: search("none"),
    }
    if half != "none":
        sides[f"in the manner of NAE, {half}"] = lambda: nae(half)
        sides[f"R-SiamNet, {half}"] = lambda: search(half)
    with torch.inference_mode():
        report(sides, given.repeats, device)
        if half != "none":
            cosine = (search("none") * search(half)).sum(dim=1)
            print(f"features in {half} against float32: cosine {cosine.min():.5f} at least")


def report(sides: dict[str, Callable[[], Tensor]], repeats: int, device: torch.device) -> None:
    """Time the sides in turn and print them, each against the first of its precision."""
    flops: dict[str, float] = {}
    for name, run in sides.items():
        with FlopCounterMode(display=False) as counter:
            run()
        flops[name] = counter.get_total_flops() / 1e9
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            started = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - started)
    print(
        "| network | GFLOPs | s, least | s, median | ratio of the same precision, by repeats: min / median / max |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, times in seconds.items():
        against = seconds[name.replace("R-SiamNet", "in the manner of NAE")]
        ratios = sorted(a / b for a, b in zip(times, against, strict=True))
        shown = f"{ratios[0]:.3f} / {statistics.median(ratios):.3f} / {ratios[-1]:.3f}"
        ratio = shown if name.startswith("R-SiamNet") else ""
        print(f"| {name} | {flops[name]:.1f} | {min(times):.2f} | {statistics.median(times):.2f} | {ratio} |")


if __name__ == "__main__":
    main()

"""Deformable convolution: reseen's gather and torchvision's kernel, interleaved (docs/methods/detectors.md).

    python benchmarks/deformable.py --threads 2

One layer, 256 channels, on P3 of a scene of 928 x 1504 pixels, maps channels_last, offsets of about three cells:
forward in float32 and in bfloat16 (the kernel has float32 only), then forward and backward on a batch of smaller maps.
Equality comes first: without it no ratio is printed. Each round runs every form once, in turn; the figures are the
least of ``--rounds``, CPU seconds (user and system) and wall. Several threads on a busy machine wait for each other.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from reseen.models.detectors.deform import DeformConv, Taps

CHANNELS = 256
P3 = (1, 116, 188)  # scenes, rows, columns
TRAINING = (2, 50, 84)
TOLERANCE = 1e-4  # of the largest value
BFLOAT16 = 0.02  # of the norm
Times = dict[str, tuple[float, float]]  # form: CPU seconds, wall


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    conv = DeformConv(CHANNELS, CHANNELS)
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {given.threads} thread(s)"
    )
    show("forward, P3", forward(conv, given.rounds))
    show("forward and backward", backward(conv, given.rounds))


def draw(scenes: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    maps = torch.randn(scenes, CHANNELS, rows, columns).contiguous(memory_format=torch.channels_last)
    return maps, torch.randn(scenes, 18, rows, columns) * 3


def forward(conv: DeformConv, rounds: int) -> Times:
    maps, offsets = draw(*P3)

    def lowered() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return conv.gather(maps.bfloat16(), Taps(offsets))

    forms = {
        "kernel": lambda: conv(maps, offsets),
        "gather": lambda: conv.gather(maps, Taps(offsets)),
        "gather, bfloat16": lowered,
    }
    with torch.no_grad():
        right = conv(maps, offsets)
        require((conv.gather(maps, Taps(offsets)) - right).abs().max() <= TOLERANCE * right.abs().max())
        require((lowered() - right).norm() <= BFLOAT16 * right.norm())
        return least(forms, rounds)


def backward(conv: DeformConv, rounds: int) -> Times:
    maps, offsets = (part.requires_grad_() for part in draw(*TRAINING))
    leaves = [maps, offsets, conv.weight]

    def gradients(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(out.square().sum(), leaves)

    forms = {
        "kernel": lambda: gradients(conv(maps, offsets)),
        "gather": lambda: gradients(conv.gather(maps, Taps(offsets))),
    }
    for ours, theirs in zip(forms["gather"](), forms["kernel"](), strict=True):
        require((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())
    return least(forms, rounds)


def least(forms: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    seen: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form, run in forms.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            seen[form].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {form: (min(c for c, _ in runs), min(w for _, w in runs)) for form, runs in seen.items()}


def require(equal: Tensor) -> None:
    if not equal:
        raise SystemExit("the forms differ: no ratio")


def show(what: str, times: Times) -> None:
    print(what)
    for form, (cpu, wall) in times.items():
        of_cpu, of_wall = cpu / times["kernel"][0], wall / times["kernel"][1]
        print(f"  {form:18} {cpu:6.3f} CPU s  {wall:6.3f} s   {of_cpu:.2f} and {of_wall:.2f} of the kernel")


if __name__ == "__main__":
    main()

"""Videos: what sampling and embedding cost beside decoding alone, and how often tracks are wrong.

    python benchmarks/video.py cost --run RUN --detector yolox_nano.onnx
    python benchmarks/video.py tracks --run RUN
    python benchmarks/video.py detector --detector yolox_nano.onnx --data PRW

RUN is a model for crops; for ``tracks`` that of ``reseen demo`` (the drawn street). Films are drawn.

``cost``: 20 seconds of the drawn street at 1280 x 720, 25 frames a second, H.264; every half second is looked at. CPU
seconds of all threads; the ways take turns in one process; ratios are of pairs.

``tracks``: on each camera, films in which people cross the picture; boxes are the true ones, as they are or shifted and
scaled at random with one in ten missing. ``broken``: of two consecutive hits of a person, how often the second is in
another track. ``wrong``: of two consecutive hits of a track, how often they are two persons.

``detector``: which of the annotated boxes are found, at an intersection over union of 0.5, each detection once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from unittest import mock

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import box_iou

from reseen.data import open_search_data, read_image
from reseen.data.images import image_pixels
from reseen.data.video import Sampling, read_video
from reseen.footage import Finder, finder, open_footage, persons_in, tracks
from reseen.footage.finding import MIN_SCORE_YOLOX
from reseen.footage.yolox import load_yolox
from reseen.inference import Embedder
from reseen.street import DrawnFrame, draw_walks

SECONDS, RATE, SIZE = 20, 25, (1280, 720)
SEEDS, CAMERAS, WALKERS, FILM = (110, 111, 112), (1, 2, 3, 4), 24, 40.0  # films of 40 seconds, 24 people each
JITTER, MISSED = 0.08, 0.1  # of a box: standard deviation of shift and size; share that is not found


def film(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for frame in draw_walks(0, 1, range(1, 13), seconds=SECONDS, rate=RATE):
            picture = np.asarray(frame.image.resize(SIZE, Image.Resampling.BICUBIC))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def decode(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return sum(1 for _ in container.decode(stream))


def cost(run: Path | None, detector: Path | None, repeats: int) -> None:
    ways: dict[str, Callable[[Path], object]] = {
        "decoding alone": decode,
        "frames of every 0.5 s, RGB": lambda path: list(read_video(path, Sampling(0.5), report=print)),
        "keyframes of every 0.5 s, RGB": lambda path: list(
            read_video(path, Sampling(0.5, keyframes=True), report=print)
        ),
    }
    if run is not None and detector is not None:
        who = finder(Embedder.load(run), detector=detector)
        found = lambda path, how: [  # noqa: E731
            len(part.rows)
            for job in open_footage(path, whole=False).jobs
            for part in persons_in(job, who, how)
        ]
        ways["detected, embedded, tracked"] = lambda path: found(path, Sampling(0.5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        film(path)
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 1):  # the first one warms up
            for name, way in ways.items():
                began = time.process_time()
                given = way(path)
                if turn:
                    spent[name].append(time.process_time() - began)
    base = spent["decoding alone"]
    if name == "detected, embedded, tracked":
        print(f"{sum(given)} persons")
    print(f"{SECONDS} s of {SIZE[0]} x {SIZE[1]} at {RATE} frames a second, {repeats} pairs, CPU s")
    for name, times in spent.items():
        ratios = sorted(own / other for own, other in zip(times, base, strict=True))
        middle = statistics.median(ratios)
        print(
            f"  {name:<32}{statistics.median(times):7.2f}  {ratios[0]:.2f} / {middle:.2f} / {ratios[-1]:.2f}"
        )


def hits_of(
    frames: list[DrawnFrame], who: Finder, every: float, rng: np.random.Generator | None
) -> Iterator[tuple[float, NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]:
    """Seconds, boxes, features and identities of each frame; with ``rng`` as a detector would have them."""
    for number, frame in enumerate(frames):
        boxes, identities = frame.boxes, frame.identities
        if rng is not None:
            seen = rng.random(len(boxes)) >= MISSED
            boxes, identities = boxes[seen], identities[seen]
            size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
            boxes = boxes + (rng.normal(0, JITTER, boxes.shape) * size).astype(np.float32)
            boxes[:, :2] = np.maximum(boxes[:, :2], 0)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 4)
        found = who.find([image_pixels(frame.image)], [boxes])[0]
        yield number * every, boxes, found.features, identities


def errors(films: list[list[tuple[float, NDArray, NDArray, NDArray]]]) -> tuple[float, float, float]:
    """Shares of links of persons that are broken and of links of tracks that are wrong; tracks for each walk."""
    broken, wrong, walks, count = [], [], 0, 0
    for frames in films:
        open_tracks, hits = tracks.Tracks.none(frames[0][2].shape[1]), []
        for seconds, boxes, features, identities in frames:
            numbers, open_tracks = tracks.follow(open_tracks, boxes, features, seconds)
            hits += [(seconds, int(i), int(t)) for i, t in zip(identities, numbers, strict=True)]
        by_person, by_track = ({} for _ in range(2))
        for hit in hits:
            by_person.setdefault(hit[1], []).append(hit)
            by_track.setdefault(hit[2], []).append(hit)
        broken += [a[2] != b[2] for own in by_person.values() for a, b in pairwise(own)]
        wrong += [a[1] != b[1] for own in by_track.values() for a, b in pairwise(own)]
        walks, count = walks + len(by_person), count + len(by_track)
    return float(np.mean(broken)), float(np.mean(wrong)), count / walks


def compare_tracks(run: Path) -> None:
    who = finder(Embedder.load(run))
    rules: dict[str, dict[str, float]] = {  # constants were chosen on streets 100 and 101
        "as it is": {},
        "boxes not widened": {"REACH": 0.0},
        "looks ignored": {"ALIKE": -1.1},
        "alike 0.4": {"ALIKE": 0.4},
        "alike 0.6": {"ALIKE": 0.6},
        "reach 1": {"REACH": 1.0},
    }
    for every in (0.5, 1.0):
        drawn = [
            list(draw_walks(seed, camera, range(1, WALKERS + 1), seconds=FILM, rate=1 / every))
            for seed in SEEDS
            for camera in CAMERAS
        ]
        for boxes, rng in (("true boxes", None), ("detected", np.random.default_rng(0))):
            films = [list(hits_of(frames, who, every, rng)) for frames in drawn]
            print(f"every {every:g} s, {boxes}: broken, wrong, tracks a walk")
            for name, constants in rules.items():
                with mock.patch.multiple(tracks, **{"GAP": tracks.GAP, **constants}):
                    print(f"  {name:<20}" + "{:8.1%}{:8.1%}{:8.2f}".format(*errors(films)))


def recall(detector: Path, data: Path) -> None:
    scenes = {scene.path: scene for scene in (lambda d: (*d.train, *d.test))(open_search_data(data))}.values()
    for least in (0.1, 0.2, MIN_SCORE_YOLOX, 0.4, 0.5):
        detect = load_yolox(detector, min_score=least)
        hits = persons = found = 0
        for scene in scenes:
            boxes, _ = detect(read_image(scene.path))
            overlap = box_iou(torch.from_numpy(boxes), torch.from_numpy(scene.boxes)).numpy()
            free = np.ones(len(scene.boxes), dtype=bool)
            for row in overlap:  # surest first
                best = int(np.where(free, row, 0).argmax())
                hits += bool(free[best] and row[best] >= 0.5)
                free[best] &= not row[best] >= 0.5
            persons, found = persons + len(scene.boxes), found + len(boxes)
        print(f"score {least:.1f}: {hits} of {persons} persons, {found} detections")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "tracks", "detector"))
    parser.add_argument("--run", type=Path, help="a model for crops")
    parser.add_argument("--detector", type=Path, help="YOLOX as .onnx")
    parser.add_argument("--data", type=Path, help="scenes with boxes")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "cost":
        cost(given.run, given.detector, given.repeats)
    elif given.what == "tracks":
        compare_tracks(given.run)
    else:
        recall(given.detector, given.data)


if __name__ == "__main__":
    main()

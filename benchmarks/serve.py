"""Many who search and one who adds, over HTTP on loopback: errors and waiting times (docs/performance/gallery.md).

    python benchmarks/serve.py [--seconds 60] [--searchers 50] [--rows 10000] [--dim 512]

The server is a process of its own. A stand-in takes the model's place, so that the gallery and the server are what is
measured: a feature is a fixed projection of the picture's pixels.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import numpy as np
from PIL import Image

SIZE = (16, 32)  # of a picture
PAUSE = 0.2  # seconds between two additions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("seconds", 60), ("searchers", 50), ("rows", 10_000), ("dim", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--listener", type=int, help=argparse.SUPPRESS)  # the server's own process
    given = parser.parse_args()
    if given.listener is not None:
        serve(given.listener, given.rows, given.dim)
        return
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        words = [sys.executable, __file__, "--listener", str(listener.fileno())]
        words += ["--rows", str(given.rows), "--dim", str(given.dim)]
        with subprocess.Popen(words, pass_fds=[listener.fileno()], stdin=subprocess.PIPE) as server:
            try:
                measure(listener.getsockname()[1], given)
            finally:
                server.terminate()


def serve(descriptor: int, rows: int, dim: int) -> None:
    import uvicorn

    from reseen.config import ClusterConfig
    from reseen.footage.finding import Finder
    from reseen.gallery import Gallery
    from reseen.gallery.server import Served, make_app
    from reseen.records import SceneDetections

    draw = np.random.default_rng(0)
    mixing = draw.standard_normal((SIZE[0] * SIZE[1] * 3, dim)).astype(np.float32)

    def find(images: Any, given: Any) -> list[SceneDetections]:
        features = [(image.numpy().astype(np.float32).ravel() - 128) @ mixing for image in images]
        box = np.array([[0, 0, *SIZE]], np.float32)
        return [SceneDetections(box, np.ones(1, np.float32), f[None] / np.linalg.norm(f)) for f in features]

    with tempfile.TemporaryDirectory() as place:
        gallery = Gallery.open(place, "be" * 20)
        gallery.add(
            draw.standard_normal((rows, dim)).astype(np.float32),
            sources=[f"{row}.jpg" for row in range(rows)],
            cameras=np.arange(rows) % 6,
            thumbnails=[draw.bytes(3000) for _ in range(rows)],
        )
        app = make_app(Served(gallery, Finder(find, dim, 8), detects=False, cluster=ClusterConfig()))
        config = uvicorn.Config(app, log_level="error", access_log=False, limit_concurrency=256)
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def measure(port: int, given: argparse.Namespace) -> None:
    ask(http.client.HTTPConnection("127.0.0.1", port, timeout=600), "GET", "/healthz")  # until it has begun
    before, end = os.getloadavg()[0], time.monotonic() + given.seconds
    waits: dict[str, list[float]] = {"find": [], "search": [], "thumbnail": [], "add": []}
    errors: list[str] = []
    threads = [
        threading.Thread(target=search, args=(port, end, seed, waits, errors))
        for seed in range(given.searchers)
    ]
    threads.append(threading.Thread(target=add, args=(port, end, waits, errors)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(
        f"{given.rows} rows x {given.dim}, {given.searchers} searchers, one adder, {given.seconds} s; "
        f"load before {before:.1f}, after {os.getloadavg()[0]:.1f}; {len(errors)} errors {errors[:3]}\n"
    )
    print("| what | answers | p50 ms | p99 ms |\n| --- | --- | --- | --- |")
    for name, seconds in waits.items():
        p50, p99 = np.percentile(seconds, (50, 99)) * 1000
        print(f"| {name} | {len(seconds):,} | {p50:.0f} | {p99:.0f} |")


def search(port: int, end: float, seed: int, waits: dict[str, list[float]], errors: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    draw = np.random.default_rng(seed)
    while time.monotonic() < end:
        try:
            found = timed(waits["find"], connection, "POST", "/api/find", picture(draw))
            query = {"query": json.loads(found)["persons"][0]["query"], "cameras": [int(draw.integers(6))]}
            for _ in range(4):
                body = timed(waits["search"], connection, "POST", "/api/search", json.dumps(query).encode())
                page = json.loads(body)
                query["cursor"] = page["next"]
            row = page["matches"][0]["row"]
            timed(waits["thumbnail"], connection, "GET", f"/api/rows/{row}/thumbnail")
        except Exception as error:  # every kind counts
            errors.append(repr(error))
            connection.close()


def add(port: int, end: float, waits: dict[str, list[float]], errors: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    draw = np.random.default_rng(99)
    while time.monotonic() < end:
        try:
            timed(waits["add"], connection, "POST", "/api/rows?camera=7", picture(draw))
            time.sleep(PAUSE)
        except Exception as error:
            errors.append(repr(error))
            connection.close()


def picture(draw: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def timed(waits: list[float], *request: Any) -> bytes:
    started = time.perf_counter()
    answer = ask(*request)
    waits.append(time.perf_counter() - started)
    return answer


def ask(
    connection: http.client.HTTPConnection, method: str, address: str, body: bytes | None = None
) -> bytes:
    kind = "application/json" if address == "/api/search" else "application/octet-stream"
    connection.request(method, address, body, {"content-type": kind})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{answer.status} {content[:200]!r}")
    return content


if __name__ == "__main__":
    main()

"""A gallery against faiss Flat, LanceDB's own search and plain reading (docs/performance/gallery.md).

    pip install --no-deps --target FAISS faiss-cpu
    python benchmarks/gallery.py --rows 100000 --dim 2048 --faiss FAISS

Rows are drawn: people of 17 images each. faiss is filled in one `add` and runs one thread, as the gallery does
unless said. Sides take turns in one process; a ratio is the median over pairs, in CPU seconds unless said. Every
pair is checked: the same rows are found. Without --faiss its rows are left out. What the processor is said to have:

    NUMBA_CPU_NAME=haswell ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
        FAISS_OPT_LEVEL=AVX2 OPENBLAS_CORETYPE=Haswell python benchmarks/gallery.py ...
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lancedb
import numba
import numpy as np
import torch
from numpy.typing import NDArray

from reseen.gallery import Gallery, scoring
from reseen.gallery.rows import unit

MODEL = "be" * 20
CAMERAS, PER_PERSON, PART = 6, 17, 10_000
K, TOGETHER, PAGE = 10, 100, 24

Side = Callable[[], Any]


def parts(rows: int, dim: int) -> Iterator[NDArray[np.float32]]:
    """Unit rows, some at a time."""
    for start in range(0, rows, PART):
        draw, count = np.random.default_rng(start), min(PART, rows - start)
        people = draw.standard_normal((count // PER_PERSON + 1, dim), dtype=np.float32)
        noise = draw.standard_normal((count, dim), dtype=np.float32)
        yield unit(people.repeat(PER_PERSON, axis=0)[:count] + 1.2 * noise)


def cameras(rows: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(1, CAMERAS + 1, rows)


def fill(place: Path, rows: int, dim: int) -> None:
    gallery, seen, start = Gallery.open(place, MODEL), cameras(rows), 0
    pictures = np.random.default_rng(0)
    for part in parts(rows, dim):
        numbers = range(start, start + len(part))
        gallery.add(
            part,
            sources=[f"camera/{number:08d}.jpg" for number in numbers],
            cameras=seen[start : start + len(part)],
            thumbnails=[pictures.bytes(1000) for _ in numbers],
        )
        start += len(part)


def pairs(name: str, ours: Side, theirs: Side, repeats: int, *, wall: bool = False, same: bool = True) -> str:
    """A line of the table: least and median seconds of both and the median ratio."""
    clock = time.perf_counter if wall else time.process_time
    if same:
        found, expected = ours(), theirs()
        assert np.array_equal(found, expected), f"{name}: other rows were found"
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for side, run in enumerate((ours, theirs)):
            started = clock()
            run()
            seconds[side].append(clock() - started)
    ratios = sorted(one / other for one, other in zip(*seconds, strict=True))
    mine, other = (1e3 * statistics.median(one) for one in seconds)
    middle = statistics.median(ratios)
    return f"| {name} | {mine:,.1f} | {other:,.1f} | {ratios[0]:.2f} / **{middle:.2f}** / {ratios[-1]:.2f} |"


def rows_of(hits: list[Any]) -> NDArray[np.int64]:
    return np.array([[hit.row for hit in some] for some in hits])


def against_faiss(gallery: Gallery, rows: int, dim: int, repeats: int) -> Iterator[str]:
    import faiss

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(dim)
    flat.add(np.concatenate([part.astype(np.float16).astype(np.float32) for part in parts(rows, dim)]))
    queries = some_queries(rows, dim)
    mine = np.flatnonzero(cameras(rows) == 3)
    chosen = faiss.SearchParameters(sel=faiss.IDSelectorBatch(mine))
    yield pairs(
        "single query, faiss Flat",
        lambda: rows_of(gallery.search_many(queries[:1], K)),
        lambda: flat.search(queries[:1], K)[1],
        repeats,
    )
    yield pairs(
        "one camera of six, faiss Flat with a selector",
        lambda: rows_of(gallery.search_many(queries[:1], K, cameras=3)),
        lambda: flat.search(queries[:1], K, params=chosen)[1],
        repeats,
    )
    yield pairs(
        f"{TOGETHER} queries at once, faiss Flat",
        lambda: rows_of(gallery.search_many(queries, K)),
        lambda: flat.search(queries, K)[1],
        max(3, repeats // 4),
    )


def some_queries(rows: int, dim: int) -> NDArray[np.float32]:
    some = next(parts(rows, dim))[:TOGETHER]
    return unit(some + 0.3 / dim**0.5 * np.random.default_rng(2).standard_normal(some.shape))


def without_faiss(gallery: Gallery, place: Path, rows: int, dim: int, repeats: int) -> Iterator[str]:
    queries = some_queries(rows, dim)
    table = lancedb.connect(str(place)).open_table(f"model-{MODEL}")

    def brute() -> NDArray[np.int64]:
        found = table.search(queries[0].astype(np.float16)).distance_type("dot").select(["row", "_distance"])
        return found.limit(K).to_arrow()["row"].to_numpy()[None]

    yield pairs(
        "single query, LanceDB without an index",
        lambda: rows_of(gallery.search_many(queries[:1], K)),
        brute,
        max(3, repeats // 4),
    )

    page = np.random.default_rng(3).choice(rows, PAGE, replace=False).tolist()
    dataset = table.to_lance()

    def by_number() -> list[bytes]:
        numbers = ", ".join(map(str, page))
        found = dataset.to_table(columns=["row", "thumbnail"], filter=f"row IN ({numbers})").to_pylist()
        pictures = {one["row"]: one["thumbnail"] for one in found}
        return [pictures[row] for row in page]

    def by_place() -> list[bytes]:
        pictures = gallery.thumbnails(page)
        return [pictures[row] for row in page]

    yield pairs(f"thumbnails of a page of {PAGE}, found by their numbers", by_place, by_number, repeats)

    def threads(count: int) -> Side:
        def search() -> NDArray[np.int64]:
            torch.set_num_threads(count)
            found = rows_of(gallery.search_many(queries[:1], K))
            torch.set_num_threads(1)
            return found

        return search

    yield pairs("two threads, one thread (wall)", threads(2), threads(1), repeats, wall=True)

    def read() -> None:
        lancedb.connect(str(place)).open_table(f"model-{MODEL}").to_lance().to_table(columns=["vector"])

    def first_answer() -> None:
        Gallery.open(place, MODEL).search_many(queries[:1], K)

    yield pairs(
        "open to first answer, reading the vectors (wall)", first_answer, read, 5, wall=True, same=False
    )


def erasing(place: Path, rows: int, repeats: int) -> Iterator[str]:
    number = iter(range(rows // 2, rows))

    def copy() -> None:
        shutil.copytree(place, place.with_name("copy"))
        shutil.rmtree(place.with_name("copy"))

    gallery = Gallery.open(place, MODEL)

    def erase() -> None:
        receipt = gallery.forget([next(number)])
        assert receipt is not None
        assert receipt.shared == 0

    for wall in (True, False):
        what = f"erase one row and prove it, copying the folder ({'wall' if wall else 'CPU'})"
        yield pairs(what, erase, copy, repeats, wall=wall, same=False)


def resident(side: str, place: str, rows: int, dim: int) -> None:
    """Resident megabytes that one side adds, once it has answered."""
    gc.collect()
    before = megabytes()
    if side == "faiss":
        import faiss

        before, index = megabytes(), faiss.IndexFlatIP(dim)
        index.add(np.concatenate(list(parts(rows, dim))))
        index.search(some_queries(rows, dim)[:1], K)
    else:
        small = Gallery.open(
            Path(place).with_name("small"), MODEL
        )  # what loading the database takes is not counted
        small.search_many(some_queries(100, dim)[:1], K)
        before = megabytes()
        opened = Gallery.open(place, MODEL)
        opened.search_many(some_queries(rows, dim)[:1], K)
    gc.collect()
    print(f"{megabytes() - before:.0f}")


def megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--faiss", metavar="DIR", help="where faiss-cpu is")
    parser.add_argument("--resident", nargs=2, metavar=("SIDE", "PLACE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.faiss:
        sys.path.append(given.faiss)
    torch.set_num_threads(1)
    scoring.BFLOAT16 &= not numba.config.CPU_NAME
    if given.resident:
        resident(*given.resident, given.rows, given.dim)
        return
    print(
        f"{given.rows:,} x {given.dim}; numba sees {numba.config.CPU_NAME or 'the processor as it is'}; "
        f"many queries are compared in {'bfloat16' if scoring.BFLOAT16 else 'float32'}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "gallery"
        fill(place.with_name("small"), 100, given.dim)
        started = time.process_time()
        fill(place, given.rows, given.dim)
        print(f"filled in {time.process_time() - started:.1f} s CPU, with drawing\n")
        print("| what, against what | gallery, ms | other, ms | ratio of pairs: least / median / most |")
        print("| --- | --- | --- | --- |")
        gallery = Gallery.open(place, MODEL)
        for line in without_faiss(gallery, place, given.rows, given.dim, given.repeats):
            print(line, flush=True)
        if given.faiss:
            for line in against_faiss(gallery, given.rows, given.dim, given.repeats):
                print(line, flush=True)
        del gallery
        words = [sys.executable, __file__, *sys.argv[1:], "--resident"]
        sides = ["gallery", "faiss"] if given.faiss else ["gallery"]
        taken = [
            float(
                subprocess.run([*words, side, str(place)], capture_output=True, text=True, check=True).stdout
            )
            for side in sides
        ]
        ratio = f" **{taken[0] / taken[1]:.2f}**" if given.faiss else ""
        print(f"| resident, MB | {taken[0]:,.0f} | {taken[1] if given.faiss else ''} |{ratio} |", flush=True)
        for line in erasing(place, given.rows, 5):
            print(line, flush=True)


if __name__ == "__main__":
    main()

"""Evaluation, features to mAP and CMC: reseen and torchreid in turn (docs/performance/evaluation.md).

    python benchmarks/evaluation.py --peer TORCHREID --peer-python VENV/bin/python
    python benchmarks/evaluation.py --peer TORCHREID --peer-python FILE --rerank --queries 1459 --gallery 8541

TORCHREID is a checkout whose Cython evaluator is built (``python setup.py build_ext --inplace`` in
torchreid/metrics/rank_cylib); its python needs torch and numpy. Without ``--peer`` reseen runs alone.

The peer does what its engine does: ``compute_distance_matrix``, with ``--rerank`` all three of them and ``re_ranking``,
then ``evaluate_rank`` in Cython. It gets the gallery without junk, which its reader leaves out; reseen gets all of it.
Only these modules of the peer are imported, which favours it.

Features are drawn (parts/query_gallery.py): 750 people and 6 cameras, so that a sixth of the correct images are by the
query's camera and ignored, distractors and junk. With ``--junk 0`` the peer ranks as many images as reseen.

A first round, which is not timed, compares what both sides make of the same distances, exact ones; without equality no
ratio is printed. The peer's own distances are rounded, and may order two images otherwise. Then come
``--pairs`` rounds of one fresh process of each side in turn, one thread each. ``scores``: CPU seconds (user and system)
and wall from features in memory to scores, after imports and a warm-up; ``process``: the whole of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

PARTS = Path(__file__).parent / "parts"
JUNK = 3819 / 19732  # share of Market-1501's gallery
RANKS = (1, 5, 10)
TOLERANCE = 1e-6  # of mAP and CMC
RERANKED_TOLERANCE = 1e-5  # of a re-ranked distance


def main() -> None:
    given = parse()
    if given.side:
        run_side(given)
        return
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        given.folder = Path(folder)
        call(given, "draw")
        sides = ["ours", "peer"] if given.peer else ["ours"]
        found = {side: call(given, side, "--check") for side in sides}
        equal = compare(given.folder, found, given.rerank) if given.peer else None
        rounds = [{side: call(given, side) for side in sides} for _ in range(given.pairs)]
    report(given, found, equal, rounds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=19732, help="junk and distractors included")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--junk", type=float, default=JUNK, metavar="SHARE", help="of the gallery")
    parser.add_argument("--rerank", action="store_true", help="re-rank before scoring")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--peer", type=Path, metavar="TORCHREID")
    parser.add_argument("--peer-python", default=sys.executable, metavar="FILE")
    parser.add_argument("--scratch", metavar="DIR", help="where features are written (default: temporary)")
    parser.add_argument("--side", choices=("draw", "ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def call(given: argparse.Namespace, side: str, *more: str) -> dict[str, Any]:
    """Run one side in a process of its own. Adds what the whole process took to what it says."""
    python = given.peer_python if side == "peer" else sys.executable
    words = [python, __file__, "--side", side, "--folder", str(given.folder), *more]
    for name in ("queries", "gallery", "dim", "junk"):
        words += [f"--{name}", str(getattr(given, name))]
    words += ["--peer", str(given.peer)] if given.peer else []
    words += ["--rerank"] if given.rerank else []
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    before, started = children(), time.perf_counter()
    done = subprocess.run(words, env=os.environ | threads, stdout=subprocess.PIPE, text=True, check=True)
    taken = {"process_cpu": children() - before, "process_wall": time.perf_counter() - started}
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) | taken
    if side != "draw" and not more:
        print(
            f"{side}: {said['cpu']:.2f} s CPU, {said['wall']:.2f} s wall, load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
        )
    return said


def children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# --- one side, in its own process ---


def run_side(given: argparse.Namespace) -> None:
    if given.side == "draw":
        sys.path.insert(0, str(PARTS))
        import query_gallery

        query_gallery.draw(given.folder, given.queries, given.gallery, given.dim, given.junk)
        print("{}")
        return
    import numpy as np
    import torch

    torch.set_num_threads(1)
    score = ours(given.rerank) if given.side == "ours" else peer(given.peer, given.rerank)
    loaded = dict(np.load(given.folder / "labels.npz"))
    sets = [np.load(given.folder / f"{name}.npy") for name in ("query", "gallery")]
    if given.side == "peer":
        kept = loaded["gallery_identities"] != -1
        sets[1] = sets[1][kept]
        loaded |= {name: loaded[name][kept] for name in ("gallery_identities", "gallery_cameras")}
    names = ("query_identities", "gallery_identities", "query_cameras", "gallery_cameras")
    labels = [loaded[name] for name in names]
    score(
        *(rows[:40] for rows in sets),
        *(np.array(label[:40]) * 0 + 1 + (i == 3) for i, label in enumerate(labels)),
    )
    base = memory_mib("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    mean_ap, cmc = score(*sets, *labels)
    said = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "mean_ap": mean_ap,
        "cmc": cmc,
    }
    said |= {"base_mib": base, "peak_mib": memory_mib("VmHWM"), "versions": versions()}
    if given.check:
        save(given, sets, labels)
    print(json.dumps(said))


def memory_mib(field: str) -> float:
    """VmRSS, resident now, or VmHWM, its peak (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"no {field} in /proc/self/status")


def versions() -> dict[str, str]:
    import numpy
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}


def ours(rerank: bool) -> Any:
    if rerank:
        from reseen.evaluation import rerank as reranked

    from reseen.metrics import reid_scores, reid_scores_from_blocks

    def score(query: Any, gallery: Any, *labels: Any) -> tuple[float, list[float]]:
        if rerank:  # as reseen.evaluation.evaluate_reranked, which takes records instead of arrays
            kept = labels[1] != -1
            labels = (labels[0], labels[1][kept], labels[2], labels[3][kept])
            scores = reid_scores_from_blocks(reranked(query, gallery[kept]), *labels, ranks=RANKS)
        else:
            scores = reid_scores(query, gallery, *labels, ranks=RANKS)
        return scores.mean_ap, [scores.cmc[rank] for rank in RANKS]

    return score


def peer(checkout: Path, rerank: bool) -> Any:
    import torch

    compute_distance_matrix, evaluate_rank, re_ranking = peer_functions(checkout)

    def score(query: Any, gallery: Any, *labels: Any) -> tuple[float, list[float]]:
        asked, found = torch.from_numpy(query), torch.from_numpy(gallery)
        distances = compute_distance_matrix(asked, found, "euclidean").numpy()
        if rerank:
            among_queries = compute_distance_matrix(asked, asked, "euclidean")
            among_gallery = compute_distance_matrix(found, found, "euclidean")
            distances = re_ranking(distances, among_queries, among_gallery)
        cmc, mean_ap = evaluate_rank(distances, *labels)
        return float(mean_ap), [float(cmc[rank - 1]) for rank in RANKS]

    return score


def peer_functions(checkout: Path) -> tuple[Any, Any, Any]:
    """Its distances, its evaluator and its re-ranking, without the rest of the package."""
    for name in ("torchreid", "torchreid.metrics", "torchreid.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout.resolve() / name.replace(".", "/"))]
        sys.modules[name] = package
    rank = importlib.import_module("torchreid.metrics.rank")
    if not rank.IS_CYTHON_AVAI:
        raise SystemExit(f"{checkout}: build its Cython evaluator first (see --help)")
    distance = importlib.import_module("torchreid.metrics.distance")
    return (
        distance.compute_distance_matrix,
        rank.evaluate_rank,
        importlib.import_module("torchreid.utils.rerank").re_ranking,
    )


# --- equality ---


def save(given: argparse.Namespace, sets: list[Any], labels: list[Any]) -> None:
    """What is compared: average precision of each query, and re-ranked distances."""
    import numpy as np

    if given.side == "ours":
        from reseen.evaluation import rerank
        from reseen.metrics import reid_scores

        if given.rerank:
            kept = sets[1][labels[1] != -1]
            np.save(given.folder / "ours.npy", np.concatenate(list(rerank(sets[0], kept))))
        else:
            np.save(given.folder / "ours.npy", reid_scores(*sets, *labels).average_precision)
        return
    import torch

    compute_distance_matrix, evaluate_rank, re_ranking = peer_functions(given.peer)
    if given.rerank:
        pairs = [(sets[0], sets[1]), (sets[0], sets[0]), (sets[1], sets[1])]
        own = [compute_distance_matrix(torch.from_numpy(a), torch.from_numpy(b)).numpy() for a, b in pairs]
        np.save(given.folder / "own.npy", re_ranking(own[0], own[1], own[2]))
        del own
        same = [np.maximum(0, 2 - 2 * exact_similarities(a, b)) for a, b in pairs]
        np.save(given.folder / "peer.npy", re_ranking(same[0], same[1], same[2]))
        return
    distances = -exact_similarities(*sets)
    precisions, firsts = np.full(len(distances), np.nan), np.full((len(distances), len(RANKS)), np.nan)
    for q in range(len(distances)):  # one by one: the mean over queries is summed in float32 there
        try:
            cmc, precisions[q] = evaluate_rank(
                distances[[q]], labels[0][[q]], labels[1], labels[2][[q]], labels[3]
            )
        except AssertionError:  # "all query identities do not appear in gallery"
            continue
        firsts[q] = [cmc[rank - 1] for rank in RANKS]
    np.save(given.folder / "peer.npy", precisions)
    np.save(given.folder / "cmc.npy", np.nanmean(firsts, axis=0))


def exact_similarities(one: Any, other: Any) -> Any:
    """As reseen has them: inner products summed in float64, rounded to float32."""
    import numpy as np

    columns = other.T.astype(np.float64)
    parts = [(one[top : top + 512] @ columns).astype(np.float32) for top in range(0, len(one), 512)]
    return np.concatenate(parts)


def compare(folder: Path, found: dict[str, Any], rerank: bool) -> list[str]:
    """Lines about equality; ends the benchmark without it."""
    import numpy as np

    mine, theirs = np.load(folder / "ours.npy"), np.load(folder / "peer.npy")
    if rerank:
        own = np.abs(mine - np.load(folder / "own.npy"))
        off = np.abs(mine - theirs)
        lines = [
            f"re-ranked distances, same original distances to both: largest difference {off.max():.1e}",
            f"the peer's own float32 distances: largest {own.max():.1e}, {np.mean(own > RERANKED_TOLERANCE):.1e} "
            f"of all differ by more than {RERANKED_TOLERANCE:.0e}",
            f"mAP {found['ours']['mean_ap']:.7f} and {found['peer']['mean_ap']:.7f}; CMC {found['ours']['cmc']} "
            f"and {found['peer']['cmc']}",
        ]
        return finish(lines, bool((off <= RERANKED_TOLERANCE).all()))
    said, cmc = found["ours"], np.load(folder / "cmc.npy")
    off = [abs(said["mean_ap"] - float(np.nanmean(theirs))), float(np.abs(np.array(said["cmc"]) - cmc).max())]
    own = np.abs(np.array(said["cmc"]) - found["peer"]["cmc"]).max()
    lines = [
        f"mAP {said['mean_ap']:.7f}, of {int(np.isfinite(mine).sum())} valid queries",
        f"same distances to both: mAP differs by {off[0]:.1e}, CMC at {RANKS} by {off[1]:.1e}, the precision of "
        f"a query by {np.nanmax(np.abs(mine - theirs)):.1e} at most",
        f"the peer's own float32 distances and sums: mAP {abs(said['mean_ap'] - found['peer']['mean_ap']):.1e}, "
        f"CMC {own:.1e}",
    ]
    return finish(lines, max(off) <= TOLERANCE and bool((np.isfinite(mine) == np.isfinite(theirs)).all()))


def finish(lines: list[str], equal: bool) -> list[str]:
    if not equal:
        raise SystemExit("the sides are not equal, so no ratio is printed:\n" + "\n".join(lines))
    return lines


# --- the table ---


def report(
    given: argparse.Namespace, found: dict[str, Any], equal: list[str] | None, rounds: list[dict[str, Any]]
) -> None:
    spoken = ", ".join(f"{name} {version}" for name, version in found["ours"]["versions"].items())
    what = "re-ranked" if given.rerank else "plain"
    print(
        f"{what}: {given.queries:,} queries, gallery {given.gallery:,} ({given.junk:.0%} junk), D {given.dim}, "
        f"{spoken}, 1 thread, {given.pairs} rounds in turn\n"
    )
    print("\n".join(equal or ["no peer"]), end="\n\n")
    print("| | ours, median | peer, median | peer / ours, min / median / max |\n| --- | --- | --- | --- |")
    for name, key in (
        ("scores, CPU s", "cpu"),
        ("scores, wall s", "wall"),
        ("process, CPU s", "process_cpu"),
        ("process, wall s", "process_wall"),
        ("peak above base, MiB", "above"),
        ("peak, MiB", "peak_mib"),
    ):
        values = {side: [value(r[side], key) for r in rounds] for side in rounds[0]}
        middle = {side: f"{statistics.median(v):,.2f}" for side, v in values.items()}
        ratio = ""
        if "peer" in values:
            ratios = sorted(b / a for a, b in zip(values["ours"], values["peer"], strict=True))
            ratio = f"{ratios[0]:.2f} / {statistics.median(ratios):.2f} / {ratios[-1]:.2f}"
        print(f"| {name} | {middle['ours']} | {middle.get('peer', '')} | {ratio} |")


def value(said: dict[str, Any], key: str) -> float:
    """``above``: what was resident beyond the features, the libraries and the interpreter."""
    return float(said["peak_mib"] - said["base_mib"] if key == "above" else said[key])


if __name__ == "__main__":
    main()

"""Clustering, features to labels: reseen against a peer's own code, interleaved (docs/performance/clustering.md).

    python benchmarks/clustering.py --size 4000 12936 --peer SPCL --peer-python VENV/bin/python --out RESULTS.jsonl
    python benchmarks/clustering.py --size 100000 --pairs 1 --verify 20 --out RESULTS.jsonl
    python benchmarks/clustering.py --out RESULTS.jsonl --table --figure clustering.png

The peer is a checkout of SpCL or Cluster Contrast, used as it is in its CPU mode; its python needs torch, scikit-learn
and faiss-cpu. Without ``--peer`` reseen runs alone. Features are drawn (parts/features.py) or a file of unit rows.

For every set of features a first round, which is not timed, fills the caches and compares what both sides found; a
ratio is printed only where the labels are equal on equal neighbour lists. Then come ``--pairs`` rounds of one fresh
process of each side in turn. The figures are those of whole processes, imports included: CPU seconds (user and system,
all threads), wall, and resident peak; ``above base`` leaves out what was resident once the features were loaded.
Results are lines of JSON; finished measurements are skipped, so the script can be stopped and started at will.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PARTS = Path(__file__).parent / "parts"
PACKAGE = Path(__file__).parents[1] / "src" / "reseen"
PACKAGES = {"spcl": "spcl", "cluster-contrast": "clustercontrast"}
PEER_MATRICES, ROOM = 3, 1.25  # float32 [N, N] that the peers hold at once, and what to leave beside them

Record = dict[str, Any]


def main() -> None:
    given = parse()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if not given.table:
        for case in cases(given):
            measure_case(given, case)
    records = read(given.out)
    sys.path.insert(0, str(PARTS))
    import report

    print(report.tables(records, code_digest()))
    if given.figure:
        report.save_growth(records, given.figure, rank=given.rank[-1])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs="+", default=[4000], help="images of the drawn sets")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--sets", nargs="+", choices=("usual", "hard", "copies"), default=["usual"])
    parser.add_argument(
        "--rank",
        nargs="+",
        choices=("latent", "full"),
        default=["latent", "full"],
        help="of drawn features: 160, or all dimensions; the figure shows the last one named",
    )
    parser.add_argument(
        "--features", type=Path, nargs="+", default=[], help=".npy files of float32 unit rows"
    )
    parser.add_argument("--pairs", type=int, default=3, help="timed processes of each side")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1], help="one set of pairs for each number"
    )
    parser.add_argument("--device", default="cpu", help="of reseen's neighbour search")
    parser.add_argument("--peer", type=Path, help="checkout of the peer")
    parser.add_argument("--peer-kind", choices=PACKAGES, help="default: by what the checkout holds")
    parser.add_argument("--peer-python", default=sys.executable, metavar="FILE")
    parser.add_argument(
        "--verify", type=int, default=0, metavar="ROWS", help="check a sample against float64"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench/clustering.jsonl"))
    parser.add_argument("--work", type=Path, help="folder of drawn features (default: beside --out)")
    parser.add_argument("--table", action="store_true", help="print what is finished, measure nothing")
    parser.add_argument("--figure", type=Path, help="draw cost against N here")
    given = parser.parse_args()
    given.work = given.work or given.out.parent / "features"
    if given.peer and not given.peer_kind:
        found = [kind for kind, package in PACKAGES.items() if (given.peer / package).is_dir()]
        if not found:
            parser.error(
                f"{given.peer} holds none of {', '.join(PACKAGES.values())}: name the checkout's root"
            )
        given.peer_kind = found[0]
    return given


def cases(given: argparse.Namespace) -> list[Record]:
    """What is to be clustered; drawn sets are written when they are first needed."""
    common = {"device": given.device, "peer": given.peer_kind or ""}
    if given.features:
        return [
            {"set": file.stem, "rank": "own", "file": file.resolve(), **common} for file in given.features
        ]
    return [
        {
            "set": kind,
            "rank": rank,
            "file": (given.work / f"{kind}-{rank}-{size}x{given.dim}.npy").resolve(),
            "draw": (kind, size, rank, given.dim),
            **common,
        }
        for size in given.size
        for kind in given.sets
        for rank in given.rank
    ]


def measure_case(given: argparse.Namespace, case: Record) -> None:
    file: Path = case["file"]
    if "draw" in case and not file.exists():
        kind, size, rank, dim = case["draw"]
        call = f"write_features(Path({str(file)!r}), {kind!r}, {size}, rank={rank!r}, dim={dim})"
        code = f"from pathlib import Path; from features import write_features; {call}"
        subprocess.run([sys.executable, "-c", code], env=environment(1), check=True)
    size, dim = shape_of(file)
    case = {**case, "size": size, "dim": dim}
    if given.peer and not enough_memory(size):
        return
    kept = given.work / f"{file.stem}-{case['device'].replace(':', '')}-{case['peer'] or 'alone'}"
    once(given.out, key(case, "first"), lambda: first_round(given, case, kept))
    if given.verify:
        words = ["--rows", str(given.verify)]
        saved = kept.with_suffix(".ours.npz")
        once(
            given.out,
            key(case, "verify"),
            lambda: {"verify": child([sys.executable, PARTS / "verify.py", file, saved, *words], 1)},
        )
    for threads in given.threads:
        for number in range(given.pairs):
            once(given.out, key(case, "pair", threads, number), lambda t=threads: pair(given, case, t))


def first_round(given: argparse.Namespace, case: Record, kept: Path) -> Record:
    """Fills the caches; what both sides found, compared, and what reseen's refinement costs besides."""
    given.work.mkdir(parents=True, exist_ok=True)
    ours, theirs = kept.with_suffix(".ours.npz"), kept.with_suffix(".peer.npz")
    found = child([*ours_command(case), "--save", ours], 1)
    result: Record = {name: found[name] for name in ("clusters", "outliers", "pairs", "versions")}
    result["refine_cpu"] = found["cpu"]["refine"]
    if given.peer:
        result["peer_versions"] = child([*peer_command(given, case), "--save", theirs], 1)["versions"]
        result["equality"] = child([sys.executable, PARTS / "equality.py", case["file"], ours, theirs], 1)
    return result


def pair(given: argparse.Namespace, case: Record, threads: int) -> Record:
    result = {"ours": child([*ours_command(case), "--threads", threads], threads)}
    if given.peer:
        result["theirs"] = child(peer_command(given, case), threads)
    return result


def ours_command(case: Record) -> list[Any]:
    return [sys.executable, PARTS / "sides.py", "ours", case["file"], "--device", case["device"]]


def peer_command(given: argparse.Namespace, case: Record) -> list[Any]:
    checkout = given.peer.resolve()
    return [given.peer_python, PARTS / "sides.py", given.peer_kind, case["file"], "--peer", checkout]


def child(command: list[Any], threads: int) -> Record:
    """Run a process and add what all of it cost to the JSON line it ends with."""
    before, started = children(), time.perf_counter()
    words = [str(word) for word in command]
    done = subprocess.run(words, env=environment(threads), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        hint = "" if words[0] == sys.executable else "; this python needs torch, scikit-learn and faiss-cpu"
        raise SystemExit(f"stopped: {' '.join(words)} failed{hint}")
    whole = {"whole_cpu": children() - before, "whole_wall": time.perf_counter() - started}
    return {**json.loads(done.stdout.splitlines()[-1]), **whole}


def children() -> float:
    """CPU seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment(threads: int) -> dict[str, str]:
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    return os.environ | limits | {"PYTHONPATH": str(PARTS)}


def enough_memory(size: int) -> bool:
    """Whether the peer's dense matrices fit beside what else runs on this machine."""
    need = PEER_MATRICES * 4 * size**2 * ROOM
    found = Path("/proc/meminfo")
    if not found.exists():
        return True
    lines = dict(line.split(":") for line in found.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    if free < need:
        print(
            f"{size}: skipped, the peer needs {need / 2**30:.1f} GiB and {free / 2**30:.1f} are free",
            file=sys.stderr,
        )
    return free >= need


def shape_of(file: Path) -> tuple[int, int]:
    """Of an .npy file, from its header: this process must stay small (a child's peak may count it)."""
    import ast

    with open(file, "rb") as handle:
        head = handle.read(1024)
    start, stop = head.index(b"{"), head.index(b"}") + 1
    size, dim = ast.literal_eval(head[start:stop].decode())["shape"]
    return size, dim


def key(case: Record, what: str, threads: int = 1, number: int = 0) -> Record:
    named = {name: case[name] for name in ("set", "rank", "size", "dim", "peer", "device")}
    return {"what": what, **named, "threads": threads, "number": number}


def once(out: Path, name: Record, measure: Any) -> None:
    """Measure what has no line yet and append it."""
    if any(all(record.get(k) == v for k, v in name.items()) for record in read(out)):
        return
    words = " ".join(str(name[k]) for k in ("set", "rank", "size", "peer", "what", "number"))
    print(f"{words} ...", file=sys.stderr, flush=True)
    record = {**name, **measure(), **made_with()}
    with open(out, "a") as lines:
        lines.write(json.dumps(record) + "\n")


def read(out: Path) -> list[Record]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def made_with() -> Record:
    cpu = Path("/proc/cpuinfo")
    names = (
        [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        if cpu.exists()
        else []
    )
    model = names[0].partition(":")[2].strip() if names else platform.processor()
    machine = f"{model}, {os.cpu_count()} cores"
    return {"machine": machine, "date": datetime.date.today().isoformat(), "code": code_digest()}


def code_digest() -> str:
    """Of reseen's clustering: lines of other code stay, and the table says so."""
    files = [*sorted((PACKAGE / "clustering").rglob("*.py")), PACKAGE / "compiled.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


if __name__ == "__main__":
    main()

"""benchmarks/clustering.py: measures once, compares, and its checks notice what is wrong."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from processes import start
from reseen.clustering import dbscan, jaccard_graph, nearest_neighbours

ROOT = Path(__file__).parents[1]
PARTS = ROOT / "benchmarks" / "parts"
# Stands in for a checkout of SpCL: the dense oracle of the tests behind the interface that the benchmark calls.
PEER = """
import numpy as np

class Exact:
    def __init__(self, dim):
        self.rows = None
    def add(self, rows):
        self.rows = rows.astype(np.float64)
    def search(self, rows, k):
        products = (rows.astype(np.float64) @ self.rows.T).astype(np.float32)
        order = np.argsort(-products, axis=1, kind="stable")[:, :k]
        return 2 - 2 * np.take_along_axis(products, order, axis=1), order

index_init_cpu = Exact

def compute_jaccard_distance(features, k1, k2, print_flag, search_option):
    from tests.oracles.clustering import jaccard
    assert not print_flag and search_option == 3
    rows = features.numpy()
    index = index_init_cpu(rows.shape[1])
    index.add(rows)
    index.search(rows, k1)
    return jaccard(rows, k1, k2).astype(np.float32)
"""


@pytest.fixture
def parts(monkeypatch):
    """The benchmark's modules, imported as its processes import them."""
    monkeypatch.syspath_prepend(PARTS)
    import equality
    import features
    import report
    import verify

    return SimpleNamespace(equality=equality, features=features, report=report, verify=verify)


BENCHMARK = ROOT / "benchmarks" / "clustering.py"
WORDS = ("--size", "120", "--dim", "32", "--rank", "full", "--pairs", "1", "--verify", "8", "--out")


def measured(out: Path, *words: object) -> tuple[str, list[dict]]:
    job = Path(__file__).with_name("clustering_job.py").read_text()
    status, said = start(job, BENCHMARK, *WORDS, out, *words).wait()
    assert status == 0, said
    table = said[said.index("| features") :]  # before it, on the other output, what is being done
    return table, [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture
def printed(monkeypatch, capsys):
    """What the benchmark prints where nothing is left to measure: it may start no process."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(BENCHMARK), *WORDS, *map(str, words)])
        monkeypatch.setattr(subprocess, "run", None)
        monkeypatch.setattr(sys, "path", [*sys.path])
        capsys.readouterr()
        runpy.run_path(str(BENCHMARK), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_both_sides_are_measured_once_and_compared_first(printed, tmp_path):
    module = tmp_path / "peer" / "spcl" / "utils" / "faiss_rerank.py"
    module.parent.mkdir(parents=True)
    module.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{PEER}")
    out = tmp_path / "results.jsonl"
    table, records = measured(out, "--peer", tmp_path / "peer")
    first, verified, pair = records
    assert [record["what"] for record in records] == ["first", "verify", "pair"]
    assert first["equality"]["end_to_end"]["labels"] == [True, True]
    assert first["equality"]["same_lists"]["labels"] == [True, True]
    assert first["equality"]["end_to_end"]["max_difference"] < 1e-6
    assert first["equality"]["other_rows"]["count"] == 0
    assert (verified["verify"]["other_lists"], verified["verify"]["labels"]) == (0, [True, True])
    for side in (pair["ours"], pair["theirs"]):
        assert side["whole_cpu"] >= sum(side["cpu"].values()) - 0.1
        assert side["cpu"]["search"] > 0
        assert side["peak_mib"] >= side["base_mib"] > 0
    ratio = pair["theirs"]["whole_cpu"] / pair["ours"]["whole_cpu"]
    assert f"**{ratio:.2f}**" in table

    assert printed(out, "--peer", tmp_path / "peer") == table
    assert len(out.read_text().splitlines()) == 3
    first["equality"]["same_lists"]["labels"] = [True, False]
    out.write_text("".join(json.dumps(record) + "\n" for record in (first, verified, pair)))
    table = printed(out, "--table")
    assert "none: other labels" in table
    assert "**" not in table


def record(size: int, cost: float, **more: object) -> dict:
    side = {"cpu": {"search": cost, "graph": 0.0, "dbscan": 0.0}, "peak_mib": 500 + cost, "base_mib": 500}
    case = {"set": "usual", "rank": "full", "device": "cpu", "threads": 1, "peer": "spcl"}
    return {"what": "pair", **case, "size": size, "ours": side, "theirs": side, **more}


def test_growth_is_the_slope_of_the_medians(parts, tmp_path):
    rows = [record(size, size**2 / 1e6 * noise) for size in (1000, 4000, 9000) for noise in (0.5, 1, 3)]
    rows += [
        record(50_000, 1.0, rank="latent"),
        record(50_000, 1.0, threads=2),
        record(50_000, 1.0, set="hard"),
    ]
    found = parts.report.curves(rows, "full", parts.report.work)
    assert found == {side: [(1000, 1.0), (4000, 16.0), (9000, 81.0)] for side in ("", "spcl")}
    assert parts.report.exponent(found["spcl"]) == pytest.approx(2)
    assert "SpCL, usual set, full rank: N^2.00 over 1,000 to 9,000 images" in parts.report.growth_lines(rows)
    parts.report.save_growth(rows, tmp_path / "growth.png", rank="full")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def clustered():
    """Features, and what reseen makes of them, under the names that the benchmark saves."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(12, 16))[draw.integers(0, 12, 150)] + 0.5 * draw.normal(size=(150, 16))
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    lists = nearest_neighbours(features, 30)
    graph = jaccard_graph(features, neighbours=lists)
    distances = graph.distances(0.6)
    saved = dict(zip(("indices", "similarities"), lists, strict=True))
    for name, matrix in (("weights", graph.weights), ("distances", distances)):
        saved |= {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
    saved |= {f"labels{place}": dbscan(distances, eps=eps) for place, eps in enumerate((0.6, 0.58))}
    return features, saved


def check(parts, clustered, **changed: np.ndarray) -> dict:
    features, saved = clustered
    saved = {**saved, **changed}
    graph, weights = (parts.equality.matrix(saved, 150, name) for name in ("distances", "weights"))
    result = parts.verify.check_sample(features, saved, graph, weights, np.arange(150))
    labels = [
        parts.verify.follows_definition(graph, saved[f"labels{i}"], eps) for i, eps in enumerate((0.6, 0.58))
    ]
    return {**result, "labels": labels}


def test_verification_notices_each_kind_of_error(parts, clustered):
    _, saved = clustered
    right = check(parts, clustered)
    assert (right["other_lists"], right["missing_pairs"], right["labels"]) == (0, 0, [True, True])
    assert max(right["weight_difference"], right["distance_difference"]) < 1e-6

    lists = saved["indices"].copy()
    lists[7, [0, 1]] = lists[7, [1, 0]]
    assert check(parts, clustered, indices=lists)["other_lists"] == 1
    weights = saved["weights_data"] * np.float32(1.001)
    assert check(parts, clustered, weights_data=weights)["weight_difference"] > 1e-5
    distances = saved["distances_data"] + np.float32(1e-4)
    assert check(parts, clustered, distances_data=distances)["distance_difference"] > 5e-5
    for place in (0, 1):
        labels = saved[f"labels{place}"].copy()
        labels[np.flatnonzero(labels >= 0)[-1]] = -1
        assert not check(parts, clustered, **{f"labels{place}": labels})["labels"][place]


def without_a_pair(saved: dict) -> dict:
    pointers, indices, data = (saved[f"distances_{part}"] for part in ("indptr", "indices", "data"))
    row = int(np.argmax(np.diff(pointers)))
    gone = next(s for s in range(pointers[row], pointers[row + 1]) if indices[s] != row and data[s] < 0.59)
    return {
        "distances_indptr": pointers - (np.arange(len(pointers)) > row),
        "distances_indices": np.delete(indices, gone),
        "distances_data": np.delete(data, gone),
    }


def test_verification_notices_a_missing_pair(parts, clustered):
    assert check(parts, clustered, **without_a_pair(clustered[1]))["missing_pairs"] == 1


def test_comparison_notices_other_labels_distances_and_lists(parts, clustered):
    features, saved = clustered
    graph = jaccard_graph(features, neighbours=(saved["indices"], saved["similarities"]))
    labels = [saved["labels0"], saved["labels1"]]

    def compare(labels, **changed):
        return parts.equality.compare(
            graph, labels, parts.equality.matrix({**saved, **changed}, 150, "distances")
        )

    right = compare(labels)
    assert (right["labels"], right["max_difference"]) == ([True, True], 0)
    assert right["pairs"][0] == right["pairs"][1] > 0
    assert compare([labels[0], labels[1] + 1])["labels"] == [True, False]
    off = compare(labels, distances_data=saved["distances_data"] + np.float32(1e-4))
    assert off["max_difference"] == pytest.approx(1e-4, rel=0.01)
    assert off["pairs_over_1e-6"] >= right["pairs"][0]
    assert (right["not_0_to_itself"], off["not_0_to_itself"]) == (0, 150)
    fewer = compare(labels, **without_a_pair(saved))
    assert fewer["pairs"][0] - fewer["pairs"][1] == 1
    assert fewer["max_difference"] > 0.4  # a pair that one side has not is as far as can be

    other = saved["indices"].copy()
    other[3, [5, 6]] = other[3, [6, 5]]  # sixth and seventh: another set of k2 = 6
    other[4, [1, 2]] = other[4, [2, 1]]  # the same sets
    found = parts.equality.other_rows(features, saved["indices"], other)
    assert found["count"] == 1
    assert found["widest_gap"] == pytest.approx(
        float(saved["similarities"][3, 5] - saved["similarities"][3, 6]), abs=1e-6
    )


def test_drawn_sets(parts, tmp_path):
    for kind in ("usual", "hard", "copies"):
        for rank in ("latent", "full"):
            path = tmp_path / f"{kind}-{rank}.npy"
            parts.features.write_features(path, kind, 2000, rank=rank, dim=256)
            rows, known = np.load(path), np.load(path.with_suffix(".npz"))
            assert rows.dtype == np.float32
            assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
            assert np.linalg.matrix_rank(rows.astype(np.float64), tol=1e-3) == (
                160 if rank == "latent" else 256
            )
            _, number, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
            groups = dict(zip(*(part.tolist() for part in np.unique(sizes, return_counts=True)), strict=True))
            assert groups == ({1: 2000 - 4 * 56, 6: 4, 10: 4, 40: 4} if kind == "copies" else {1: 2000})
            for group in np.flatnonzero(sizes > 1):  # copies are of one person under one camera
                assert (
                    len(
                        {
                            *zip(
                                known["identities"][number == group],
                                known["cameras"][number == group],
                                strict=True,
                            )
                        }
                    )
                    == 1
                )

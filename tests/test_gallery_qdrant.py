"""What is Qdrant's own about a gallery there; the rest is the contract of tests/test_gallery.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from command_runs import done
from galleries import MODEL, filled, oracle, qdrant
from reseen.errors import ReseenError
from reseen.files import from_json, to_json
from reseen.gallery import Gallery, link
from reseen.gallery.compared import Compared, off_by
from reseen.gallery.places import new_rows_at, rows_at
from reseen.gallery.rows import HELD, unit
from reseen.gallery.store import About


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with qdrant(monkeypatch) as address:
        yield f"{address}/street"


class RoughClient:
    """Says similarities as wrong as a server's may be."""

    def __init__(self, vectors: Any, seed: int) -> None:
        self.vectors, self.asked, self.read = vectors.astype(np.float16), [], []
        self.filters: list[bool] = []
        off = np.random.default_rng(seed).uniform(-1, 1, len(vectors)) * off_by(vectors.shape[1])
        self.off = np.where(np.abs(off) > 0.5 * np.abs(off).max(), np.sign(off) * np.abs(off).max(), off)

    def query_points(
        self, name: str, query: list[float], *, limit: int, query_filter: Any, **more: Any
    ) -> Any:
        assert more["search_params"].exact
        numbers = np.arange(len(self.vectors)) if query_filter is None else query_filter.must[0].has_id
        scores = self.vectors[numbers].astype(np.float64) @ np.array(query) + self.off[numbers]
        order = np.argsort(-scores)[:limit]
        self.asked.append(limit)
        self.filters.append(query_filter is not None)
        return SimpleNamespace(
            points=[SimpleNamespace(id=int(np.asarray(numbers)[at]), score=scores[at]) for at in order]
        )

    def retrieve(self, name: str, rows: list[int], **more: Any) -> list[Any]:
        self.read.append(len(rows))
        found = [SimpleNamespace(id=row, vector=self.vectors[row].tolist()) for row in rows]
        return found[::-1]


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_those_of_an_exact_search_however_rough_the_server_is(seed: int) -> None:
    draw = np.random.default_rng(seed)
    near = draw.standard_normal((1, 24)) + 2e-3 * draw.standard_normal((300, 24))  # closer than the bound
    features = unit(np.concatenate([near, near[:40], draw.standard_normal((160, 24))]).astype(np.float32))
    query, client = features[3], RoughClient(features, seed)
    away = Compared("qdrant://", client, "rows", 24)
    rows, passes = np.arange(500), draw.random(500) < 0.5
    for k in (1, 10, 499, 500):
        places, similarities = away.nearest(rows, query, k, None)
        assert list(zip(places.tolist(), similarities.tolist(), strict=True)) == oracle(features, query, k)
    for listed in (4096, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("reseen.gallery.compared.LISTED", listed)
            places, similarities = away.nearest(rows, query, 10, np.flatnonzero(passes))
        found = list(zip(places.tolist(), similarities.tolist(), strict=True))
        assert found == oracle(features, query, 10, passes)
        assert client.filters[-1] == (listed > 0)
    assert client.asked[0] < 40
    away.nearest(rows, features[499], 1, None)
    assert client.read[-1] == 1  # of the 17 that were asked for no other is near enough to it
    every = dict(oracle(features, query, 500))
    assert away.similarities(rows, query).tolist() == [every[row] for row in rows.tolist()]
    assert len(away.similarities(rows[:0], query)) == 0


def test_how_far_a_server_is_off_covers_a_query_that_is_rounded_as_badly_as_can_be_and_little_more() -> None:
    """Every number of the query halfway between two of half precision, 1 / 4 + 2^-13, and the row along it."""
    query, row = np.full(16, (1 + 2.0**-11) / 4), np.full(16, 0.25)
    worst = float(row @ (query - query.astype(np.float16)))
    assert worst == 2.0**-11
    assert worst < off_by(16) < 1.02 * worst
    grows = off_by(4096) - off_by(2048)  # by one rounding of float32 with each number
    assert 2048 * 2.0**-24 < grows < 1.05 * 2048 * 2.0**-24


def test_settings_of_the_address_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr("reseen.gallery.qdrant.connect", lambda url: QdrantClient(":memory:"))
    create = QdrantClient.create_collection

    def noted(client: QdrantClient, name: str, **how: Any) -> None:
        made[name] = how
        create(client, name, **how)

    monkeypatch.setattr(QdrantClient, "create_collection", noted)
    new_rows_at("qdrant://box/cameras?shards=6&replicas=3", About(MODEL, "a model", 24))
    rows, notes = made[f"cameras-{MODEL}"], made["cameras-notes"]
    assert (rows["shard_number"], rows["replication_factor"], rows["write_consistency_factor"]) == (6, 3, 2)
    assert (notes["shard_number"], notes["replication_factor"]) == (1, 3)
    assert (rows["vectors_config"].datatype, rows["vectors_config"].distance) == ("float16", "Dot")
    assert (rows["hnsw_config"].m, rows["optimizers_config"].deleted_threshold) == (0, 0.0)


@pytest.mark.parametrize(
    "wrong", ["host:6333", "host/name/more", "host/na me", "host/n?shards=x", "host/n?shards=0", "host/n?c=2", "/n"]
)  # fmt: skip
def test_an_address_that_is_none_is_one_line(wrong: str) -> None:
    with pytest.raises(
        ReseenError, match=r"^[^\n]*is no address: give one like qdrant://HOST:6333/NAME[^\n]*$"
    ):
        Gallery.open(f"qdrant://{wrong}", MODEL)


def test_addresses() -> None:
    assert link.Address.of("qdrant://box/people") == link.Address("http://box:6333", "people", 1, 1)
    given = link.Address.of("qdrant://box:7000/people?https=1&shards=6&replicas=2")
    assert given == link.Address("https://box:7000", "people", 6, 2)


def test_nobody_there_is_one_line() -> None:
    with pytest.raises(ReseenError, match=r"^the gallery qdrant://127.0.0.1:9/x cannot be used [^\n]+$"):
        Gallery.open("qdrant://127.0.0.1:9/x", MODEL)


def test_without_the_extra_one_line_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "find_spec", lambda name: None)
    with pytest.raises(ReseenError, match=r"^[^\n]*pip install 'reseen\[qdrant\]'$"):
        Gallery.open("qdrant://box:1/elsewhere", MODEL)


def test_an_addition_that_is_cut_short_adds_nothing(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, features = filled(place, 9)
    monkeypatch.setattr("reseen.gallery.qdrant.WHOLE_PAGE", 4)
    client = gallery._store.files.client
    upsert, left = client.upsert, [2]

    def stop(*given: Any, **more: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionError("gone")
        upsert(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(client, "upsert", stop)
        with pytest.raises(ReseenError, match=r"^[^\n]*cannot be used \(gone\)[^\n]*$"):
            gallery.add(features, sources=["torn"] * 9)
    again = Gallery.open(place, MODEL)
    assert len(again) == len(again.search(features[0], 20)) == 9
    assert again.add(features[:2], sources=["whole"] * 2).tolist() == [9, 10]
    assert [hit.row for hit in Gallery.open(place, MODEL).search(features[5], 20)] == [
        row for row, _ in oracle(np.concatenate([features, features[:2]]), features[5], 20)
    ]


def test_an_erasure_that_is_cut_short_is_finished_by_the_next_addition(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, features = filled(place, 9)
    with monkeypatch.context() as patch:
        patch.setattr("reseen.gallery.qdrant.Collection.proof", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gallery.forget([4])
    assert gallery.unfinished == 1
    gallery.add(features[:1], sources=["new"])
    assert gallery.unfinished == 0
    assert Gallery.open(place).held.column("row").tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_another_version_is_refused(place: str) -> None:
    filled(place, 3)
    (rows,) = rows_at(place)
    record = f"model-{MODEL}"
    rows.files.write(record, to_json({**from_json(rows.files.read(record)), "reseen.gallery": "9"}))
    with pytest.raises(ReseenError, match=r"is of version 9, and this reseen reads version 1: index again"):
        Gallery.open(place)
    rows.files.client.overwrite_payload("street-notes", {"mine": 1}, points=models.Filter())
    with pytest.raises(ReseenError, match="is no gallery of reseen: give another name"):
        Gallery.open(place)


def test_a_gallery_moves_there_and_back(place: str, tmp_path: Path) -> None:
    gallery, features = filled(
        tmp_path / "here", 20, tracks=[3] * 4 + [-1] * 16, boxes=np.arange(80).reshape(20, 4)
    )
    gallery.forget([19])
    assert "19 rows of" in done("gallery", tmp_path / "here", "--copy-to", place)
    assert "19 rows of" in done("gallery", place)
    assert "19 rows of" in done("gallery", place, "--copy-to", tmp_path / "back")
    back = Gallery.open(tmp_path / "back", MODEL)
    for name in HELD:
        assert str(back.held.table[name].to_pylist()) == str(gallery.held.table[name].to_pylist())
    assert (np.concatenate(back.held.blocks) == np.concatenate(gallery.held.blocks)).all()
    assert back.thumbnails(range(20)) == gallery.thumbnails(range(20))
    assert math.isnan(Gallery.open(place).search(features[0], 1)[0].expiry)
    said = done("forget", place, "--row", "3", "--yes")
    assert "1 rows are erased" in said
    assert "no file of its disks was read" in said
    with pytest.raises(ReseenError, match="copy into another gallery"):
        gallery.copy_to(place)

"""The server's API: find, search, refine, read, group, export; see test_server_guard for what it refuses."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from galleries import DIM
from reseen.errors import ReseenError
from reseen.gallery import gallery as gallery_module
from reseen.gallery.rows import unit
from reseen.gallery.server.paging import Cursor, page_of
from reseen.gallery.server.problems import ProblemError
from reseen.gallery.server.state import WRONG, Served
from reseen.gallery.server.views import moment
from reseen.records import SceneDetections
from serving import (
    COLOURS,
    HOSTILE,
    SHOTS,
    START,
    client_of,
    encoded,
    feature_of,
    finished,
    picture_of,
    query_for,
    served,
)

RED, GREEN, BLUE = COLOURS[:3]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Shared by tests that erase nothing."""
    return served(tmp_path_factory.mktemp("served") / "gallery")


@pytest.fixture(scope="module")
def client(state: Served) -> Iterator[TestClient]:
    with client_of(state) as client:
        yield client


def search(client: TestClient, **given: Any) -> dict[str, Any]:
    answer = client.post("/api/search", json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows_of(page: dict[str, Any]) -> list[int]:
    return [match["row"] for match in page["matches"]]


def detail(answer: Any, status: int) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body = answer.json()
    assert body["status"] == status
    return str(body["detail"])


# --- find and search ---


def test_everybody_in_a_picture_is_found_and_each_is_searched_for(client: TestClient) -> None:
    found = client.post("/api/find", content=encoded(picture_of(RED, BLUE))).json()
    assert (found["width"], found["height"], found["left_out"]) == (80, 90, 0)
    assert [person["box"] for person in found["persons"]] == [[10, 15, 30, 75], [50, 15, 70, 75]]
    for person, number in zip(found["persons"], (0, 2), strict=True):
        page = search(client, query=person["query"], limit=7)
        matched = {row // SHOTS for row in rows_of(page)}
        assert matched == {number}
        assert all(match["similarity"] > 0.95 for match in page["matches"])
        (track,) = [match for match in page["matches"] if match["track"] is not None]
        assert (track["track"], len(track["track_rows"])) == (number, 1)  # of two rows, one stands for both


def test_a_box_is_taken_as_it_is_given_and_ends_at_the_border(client: TestClient) -> None:
    picture = encoded(picture_of(RED, BLUE))
    found = client.post("/api/find?box=45,10,75,80&box=-5,0,30,200", content=picture).json()
    assert [person["box"] for person in found["persons"]] == [[45, 10, 75, 80], [0, 0, 30, 90]]
    assert rows_of(search(client, query=found["persons"][0]["query"], limit=1))[0] // SHOTS == 2
    assert "80 x 90" in detail(client.post("/api/find?box=90,0,99,9", content=picture), 422)
    assert "80 x 90" in detail(client.post("/api/find?box=30,0,10,9", content=picture), 422)
    assert "pattern" in detail(client.post("/api/find?box=1,2,3", content=picture), 422)


def test_filters_by_camera_and_time(client: TestClient) -> None:
    query = query_for(client, RED)
    match = search(client, query=query, limit=1, cameras=[2])["matches"][0]
    assert (match["camera"], match["row"] % 4) == (2, 1)
    cameras = {m["camera"] for m in search(client, query=query, limit=50, not_cameras=[2, 3])["matches"]}
    assert cameras == {1, 4}
    bounds = {"after": str(moment(START + 120)), "before": str(moment(START + 300))}
    assert sorted(rows_of(search(client, query=query, limit=50, **bounds))) == [2, 3, 4]
    naive = {"after": bounds["after"].partition("+")[0]}  # UTC
    assert min(rows_of(search(client, query=query, limit=50, **naive))) == 2
    assert rows_of(search(client, query=query, cameras=[77])) == []
    assert "cameras" in detail(
        client.post("/api/search", json={"query": query, "cameras": ["1' OR 1=1"]}), 422
    )


def test_pages_hold_everybody_once_also_when_rows_are_added_between_them(tmp_path: Path) -> None:
    state = served(tmp_path / "gallery")
    with client_of(state) as client:
        query = query_for(client, GREEN)
        all_rows = rows_of(search(client, query=query, limit=100))
        assert len(all_rows) == 42  # six tracks of two rows
        page = search(client, query=query, limit=10)
        seen = rows_of(page)
        while page["next"]:
            added = client.post("/api/rows?camera=9", content=encoded(picture_of(GREEN)))
            assert added.status_code == 201, added.text
            page = search(client, query=query, limit=10, cursor=page["next"])
            seen += rows_of(page)
        assert seen == all_rows
        assert "cursor" in detail(client.post("/api/search", json={"query": query, "cursor": "1"}), 422)


def test_a_match_says_how_sure_it_is(state: Served, client: TestClient) -> None:
    query = query_for(client, RED)
    page = search(client, query=query, limit=42)
    hits = state.gallery.search(state.queries[query].feature, 42)
    assert page["no_probability"] is None
    for match, hit in zip(page["matches"], hits, strict=True):
        sure = match["probability"]
        assert (sure["value"], sure["low"]) == (hit.probability, hit.probability_low)
    assert page["matches"][0]["probability"]["words"] == "very likely"
    assert page["matches"][-1]["probability"]["words"] == "very unlikely"
    lines = list(csv.DictReader(io.StringIO(client.get(f"/api/export.csv?query={query}").text)))
    assert float(lines[0]["probability_high"]) == hits[0].probability_high


def test_a_query_of_several_images_has_no_probability_and_says_so(client: TestClient) -> None:
    def refined(**given: Any) -> tuple[str, dict[str, Any]]:
        query = client.post("/api/refine", json=given).json()["query"]
        return query, search(client, query=query, limit=3)

    first = query_for(client, RED)
    mixed, page = refined(query=first, right=[8])
    assert "made of several images" in page["no_probability"]
    assert [match["probability"] for match in page["matches"]] == [None] * 3
    assert refined(query=mixed)[1]["no_probability"]  # of one feature, which is made of two
    one, page = refined(right=[8])
    assert page["no_probability"] is None
    assert page["matches"][0]["probability"]["value"] > 0.9
    preview = "/api/forget/preview"
    assert "above_similarity" in detail(client.post(preview, json={"query": mixed, "above": 0.9}), 422)
    assert client.post(preview, json={"query": one, "above": 0.9}).status_code == 200


def test_a_page_ends_where_the_hits_do(state: Served, client: TestClient) -> None:
    feature = state.queries[query_for(client, RED)].feature
    asked: list[int] = []

    def first(k: int) -> list[Any]:
        asked.append(k)
        return state.gallery.search_many(feature[None], k)[0]

    page, following = page_of(first, Cursor(), 42)
    assert (len(page), following) == (42, None)
    page, following = page_of(first, Cursor(), 41)
    assert len(page) == 41
    assert following == Cursor.read(str(following))
    assert len(page_of(first, Cursor.read(str(following)), 41)[0]) == 1
    with pytest.raises(ProblemError):
        Cursor.read("ffffffff-1")


def test_what_the_gallery_holds(client: TestClient) -> None:
    about = client.get("/api/gallery").json()
    assert (about["rows"], about["cameras"], about["detects"]) == (48, [1, 2, 3, 4], True)
    assert about["first"] == moment(START).isoformat().replace("+00:00", "Z")  # type: ignore[union-attr]


# --- refine ---


def test_right_and_wrong_rows_make_a_query_of_its_own(state: Served, client: TestClient) -> None:
    first = query_for(client, RED)
    answer = client.post("/api/refine", json={"query": first, "right": [8, 9], "wrong": [16]}).json()
    assert (answer["right"], answer["wrong"]) == (2, 1)
    rows = state.gallery.held.vectors(np.array([8, 9, 16])).astype(np.float64)
    good = np.mean([state.queries[first].feature, rows[0], rows[1]], axis=0)
    expected = unit((good - WRONG * rows[2])[None].astype(np.float32))[0]
    np.testing.assert_allclose(state.queries[answer["query"]].feature, expected, atol=1e-5)
    assert answer["query"] != first
    assert rows_of(search(client, query=answer["query"], limit=3))[0] // SHOTS == 1


def test_a_row_is_a_query_too(client: TestClient) -> None:
    answer = client.post("/api/refine", json={"right": [17]}).json()
    assert rows_of(search(client, query=answer["query"], limit=1)) == [17]


def test_refining_needs_something_right_that_is_there(tmp_path: Path) -> None:
    state = served(tmp_path / "gallery")
    state.gallery.add(np.stack([feature_of(RED), -feature_of(RED)]), sources=["a", "b"])
    state.gallery.add(unit(np.ones((1, DIM))) * np.float32(1), sources=["c"])
    with client_of(state) as client:
        assert "wrong says nothing" in detail(client.post("/api/refine", json={"wrong": [3]}), 422)
        assert "cancel" in detail(client.post("/api/refine", json={"right": [48, 49]}), 422)
        assert "row 9999" in detail(client.post("/api/refine", json={"right": [1, 9999]}), 404)
        assert "no more" in detail(client.post("/api/refine", json={"query": "x" * 22}), 404)


# --- rows ---


def test_rows_are_read_one_by_one_and_in_pages(client: TestClient) -> None:
    page = client.get("/api/rows?limit=30").json()
    assert ([row["row"] for row in page["rows"]], page["next"]) == ([*range(30)], 30)
    page = client.get("/api/rows?limit=30&start=30").json()
    assert ([row["row"] for row in page["rows"]], page["next"]) == ([*range(30, 48)], None)
    row = client.get("/api/rows/14").json()
    assert (row["source"], row["track"], row["camera"]) == ("hall.mp4", 1, 3)
    assert (row["score"], row["frame"], row["expiry"]) == (None, None, None)
    detail(client.get("/api/rows/4800"), 404)


def test_thumbnails(state: Served, client: TestClient) -> None:
    answer = client.get("/api/rows/3/thumbnail")
    assert (answer.headers["content-type"], answer.content) == (
        "image/jpeg",
        state.gallery.thumbnails([3])[3],
    )
    detail(client.get("/api/rows/4800/thumbnail"), 404)


def test_persons_of_a_picture_are_added_and_found(tmp_path: Path) -> None:
    state = served(tmp_path / "gallery")
    with client_of(state) as client:
        when = "2026-02-03T04:05:06Z"
        white = (255, 255, 255)
        answer = client.post(f"/api/rows?camera=9&time={when}", content=encoded(picture_of(white, RED)))
        assert (answer.status_code, answer.json()["rows"]) == (201, [48, 49])
        row = client.get("/api/rows/48").json()
        assert (row["camera"], row["time"], row["box"]) == (9, when, [10, 15, 30, 75])
        assert row["source"] == answer.json()["source"]
        assert client.get("/api/rows/48/thumbnail").content[:3] == b"\xff\xd8\xff"
        assert rows_of(search(client, query=query_for(client, white), limit=1)) == [48]
        assert "nobody" in detail(client.post("/api/rows", content=encoded(picture_of())), 422)


def test_rows_that_have_expired_are_not_shown(tmp_path: Path) -> None:
    state = served(tmp_path / "gallery")
    state.gallery.add(feature_of(RED)[None], sources=["old.jpg"], expiries=[START], thumbnails=[b"jpeg"])
    with client_of(state) as client:
        for address in ("/api/rows/48", "/api/rows/48/thumbnail"):
            detail(client.get(address), 404)
        assert client.get("/api/rows?start=40").json()["rows"][-1]["row"] == 47
        assert 48 not in rows_of(search(client, query=query_for(client, RED), limit=100))


# --- groups ---


def test_the_whole_gallery_is_grouped_once_for_each_change(state: Served, client: TestClient) -> None:
    assert "POST" in detail(client.get("/api/groups"), 409)
    started = client.post("/api/groups")
    assert started.status_code == 202
    job = finished(client, started.json())
    assert (job["state"], job["kind"]) == ("done", "groups"), job
    first = client.get("/api/groups?limit=4").json()
    assert (len(first["groups"]), first["next"]) == (4, 4)
    rest = client.get("/api/groups?limit=100&start=4").json()
    assert rest["next"] is None
    groups = first["groups"] + rest["groups"]
    assert len(groups) == first["total"] >= len(COLOURS)
    assert sum(group["count"] for group in groups) + first["alone"] == 48
    assert groups[0]["cameras"] == [1, 2, 3, 4]
    assert all(len({row["row"] // SHOTS for row in group["shown"]}) == 1 for group in groups)
    assert client.post("/api/groups").json()["job"] == job["job"]  # nothing changed


def test_too_few_rows_are_not_grouped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reseen.gallery.server.state.MOST_ROWS", 47)
    with client_of(served(tmp_path / "gallery")) as client:
        assert "has 48" in detail(client.post("/api/groups"), 409)


# --- export ---


def test_export_is_safe_in_a_spreadsheet(client: TestClient) -> None:
    answer = client.get("/api/export.csv", params={"query": query_for(client, GREEN), "cameras": [1]})
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert {line["camera"] for line in lines} == {"1"}
    assert './=HYPERLINK("http:/x")' in [line["source"] for line in lines]
    assert (lines[0]["rank"], lines[0]["time"][:4]) == ("1", "2026")
    assert not any(line["source"][:1] in "=+-@" for line in lines)


def test_names_that_no_page_can_hold_are_shown_with_marks(client: TestClient) -> None:
    names = [client.get(f"/api/rows/{SHOTS * row}").json()["source"] for row in range(len(HOSTILE))]
    assert names[:2] == list(HOSTILE[:2])  # it is the page that must not take them for HTML
    assert names[2:] == ["??.jpg", "a?b?.jpg"]


def test_more_persons_than_the_limit_are_counted(tmp_path: Path) -> None:
    def crowd(images: Any, boxes: Any) -> list[SceneDetections]:
        count = 20_000
        features = unit(np.random.default_rng(0).standard_normal((count, DIM)).astype(np.float32))
        return [SceneDetections(np.tile([0.0, 0, 9, 9], (count, 1)), np.linspace(1, 0, count), features)]

    with client_of(served(tmp_path / "gallery", crowd)) as client:
        found = client.post("/api/find", content=encoded(picture_of(RED))).json()
        assert (len(found["persons"]), found["left_out"]) == (100, 19_900)
        assert client.post("/api/rows", content=encoded(picture_of(RED))).json()["rows"] == [*range(48, 148)]
        many = "&".join(["box=1,1,9,9"] * 101)
        assert "at most 100" in detail(
            client.post(f"/api/find?{many}", content=encoded(picture_of(RED))), 413
        )


def test_nobody_in_a_picture_is_no_error(client: TestClient) -> None:
    found = client.post("/api/find", content=encoded(picture_of())).json()
    assert (found["persons"], found["left_out"]) == ([], 0)


# --- forget ---


def test_whom_somebody_names_is_shown_and_nothing_erased_before_it_is_confirmed(tmp_path: Path) -> None:
    state = served(tmp_path / "gallery")
    with client_of(state) as client:
        preview = "/api/forget/preview"
        alone = client.post(preview, json={"rows": [14], "tracks": False}).json()
        assert alone["rows"] == [14]
        named = client.post(preview, json={"rows": [8, 14, 9999]}).json()
        assert named["rows"] == [8, 14, 15]  # with the other row of its track
        assert [row["row"] for row in named["shown"]] == named["rows"]
        query = query_for(client, BLUE)
        for least in ({"above": 0.9}, {"above_similarity": 0.9}):
            alike = client.post(preview, json={"query": query, **least}).json()["rows"]
            assert alike == [*range(16, 24)]
        assert "two things" in detail(client.post(preview, json={"query": query}), 422)
        assert "none of these" in detail(client.post(preview, json={}), 404)
        assert client.get("/api/rows?limit=100").json()["rows"][-1]["row"] == 47
        assert len(state.gallery) == 48


def test_an_erased_person_is_nowhere_any_more(tmp_path: Path) -> None:
    state = served(tmp_path / "gallery")
    with client_of(state) as client:
        finished(client, client.post("/api/groups").json())
        assert client.get("/api/rows/9/thumbnail").status_code == 200
        thumbnail = state.gallery.thumbnails([9])[9]
        job = client.post("/api/forget", json={"rows": [*range(8, 16), 9999]})
        assert job.status_code == 202
        ended = finished(client, job.json())
        assert ended["state"] == "done", ended
        assert ended["detail"].startswith("8 rows are erased")
        for address in ("/api/rows/9", "/api/rows/9/thumbnail"):
            detail(client.get(address), 404)
        assert not {*range(8, 16)} & {*rows_of(search(client, query=query_for(client, GREEN), limit=100))}
        detail(client.get("/api/groups"), 409)  # they are grouped anew
        assert not any(thumbnail in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        again = finished(client, client.post("/api/forget", json={"rows": [9]}).json())
        assert again["detail"] == "none of these rows was there"


def test_searches_are_answered_while_an_erasure_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = served(tmp_path / "gallery")
    begun, go_on = threading.Event(), threading.Event()
    original = gallery_module.erase

    def slowly(*given: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return original(*given)

    monkeypatch.setattr(gallery_module, "erase", slowly)
    monkeypatch.setattr(gallery_module, "LOOK", 0.0)
    with client_of(state) as client:
        job = client.post("/api/forget", json={"rows": [9]}).json()
        assert begun.wait(30)
        assert rows_of(search(client, query=query_for(client, RED), limit=1))
        assert client.get("/api/gallery").json()["rows"] == 48
        assert client.get(f"/api/jobs/{job['job']}").json()["state"] == "running"
        go_on.set()
        assert finished(client, job)["state"] == "done"


def test_a_job_that_fails_says_so_and_nothing_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = served(tmp_path / "gallery")

    def full(*given: Any, **more: Any) -> None:
        raise ReseenError(f"the gallery {tmp_path} cannot be used (No space left): free space and try again")

    monkeypatch.setattr(state.gallery, "forget", full)
    with client_of(state) as client:
        job = finished(client, client.post("/api/forget", json={"rows": [9]}).json())
        assert job["state"] == "failed"
        assert str(tmp_path) not in job["detail"]
        monkeypatch.setattr(state.gallery, "forget", lambda rows: 1 / 0)
        assert finished(client, client.post("/api/forget", json={"rows": [9]}).json())["state"] == "failed"
        detail(client.get(f"/api/jobs/{'x' * 22}"), 404)

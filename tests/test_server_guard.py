"""Who may ask the server what: Host, Origin, tokens, sizes, pictures that are none, and what it leaves behind."""

from __future__ import annotations

import asyncio
import hmac
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from galleries import DIM
from reseen.errors import ReseenError
from reseen.gallery.server import memory
from reseen.gallery.server.guard import COOKIE, JSON_BYTES, Token
from reseen.gallery.server.memory import Queries, Recent
from reseen.gallery.server.problems import ProblemError
from reseen.gallery.server.state import Served
from reseen.gallery.server.uploads import Limits
from serving import ADDRESS, COLOURS, client_of, encoded, picture_of, query_for, served
from test_server_api import detail

WORD = "a-token-of-some-length"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return served(tmp_path_factory.mktemp("guarded") / "gallery", limits=Limits(bytes=100_000, pixels=20_000))


@pytest.fixture(scope="module")
def client(state: Served) -> Iterator[TestClient]:
    with client_of(state) as client:
        yield client


@pytest.fixture
def locked(state: Served) -> TestClient:
    """With a token; not entered, so that the state's jobs go on."""
    return client_of(state, token=Token(WORD))


# --- Host and Origin ---


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost.", "127.0.0.2"]
)
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    assert "another name" in detail(client.get("/healthz", headers={"host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_this_machine_has_several_names(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).json() == {"status": "ok"}


def test_names_can_be_added(state: Served) -> None:
    client = client_of(state, names=["Search.example"])
    assert client.get("/healthz", headers={"host": "search.example"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:81", "http://[", ""])
def test_a_page_of_another_origin_may_not_ask(client: TestClient, origin: str) -> None:
    for method, address in (("GET", "/api/gallery"), ("POST", "/api/groups"), ("POST", "/api/find")):
        answer = client.request(method, address, headers={"origin": origin})
        assert "origin" in detail(answer, 403)


def test_the_own_page_may_ask(client: TestClient) -> None:
    headers = {"origin": ADDRESS, "sec-fetch-site": "same-origin"}
    assert client.get("/api/gallery", headers=headers).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_embeds_no_thumbnail_but_may_link(client: TestClient, site: str) -> None:
    headers = {"sec-fetch-site": site}
    assert "site" in detail(client.get("/api/rows/0/thumbnail", headers=headers), 403)
    assert client.get("/", headers=headers).status_code == 200


# --- tokens ---


def test_without_the_token_there_is_only_the_way_to_sign_in(locked: TestClient) -> None:
    for address in ("/api/gallery", "/api/rows/0/thumbnail", "/openapi.json", "/nothing"):
        answer = locked.get(address)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "/sign-in" in detail(answer, 401)
    sent = locked.get("/", follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in")
    for address in ("/sign-in", "/healthz", "/static/style.css"):
        assert locked.get(address).status_code == 200


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer wrong", f"Basic {WORD}", WORD, "Bearer \xe9", f"Bearer {WORD}x"]
)
def test_a_wrong_token_is_refused(locked: TestClient, value: str) -> None:
    detail(locked.get("/api/gallery", headers={"authorization": value.encode("latin-1")}), 401)
    detail(locked.get("/api/gallery", headers={"cookie": f"reseen={WORD}; \xe9=\xe9".encode("latin-1")}), 401)


def test_the_token_lets_in_as_a_header_and_by_a_cookie(locked: TestClient) -> None:
    assert locked.get("/api/gallery", headers={"authorization": f"bearer {WORD}"}).status_code == 200
    assert "not the token" in detail(locked.post("/api/sign-in", json={"token": "wrong"}), 401)
    answer = locked.post("/api/sign-in", json={"token": WORD})
    cookie = answer.headers["set-cookie"]
    assert WORD not in cookie
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert locked.get("/api/gallery").status_code == 200
    assert locked.get("/").status_code == 200


def test_the_cookie_goes_over_https_only_where_there_is_https(state: Served) -> None:
    client = client_of(state, token=Token(WORD))
    client.base_url = "https://127.0.0.1"  # type: ignore[assignment]
    assert "Secure" in client.post("/api/sign-in", json={"token": WORD}).headers["set-cookie"]


def test_without_a_token_nobody_signs_in(client: TestClient) -> None:
    assert "no token" in detail(client.post("/api/sign-in", json={"token": WORD}), 404)


def test_token_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{WORD}\n")
    assert Token.read(file).is_word(WORD)
    for content in (b"short", b"\xff" * 20, "é".encode() * 20):
        file.write_bytes(content)
        with pytest.raises(ReseenError, match=r"characters|cannot be read"):
            Token.read(file)
    with pytest.raises(ReseenError, match="cannot be read"):
        Token.read(tmp_path / "none")


# --- paths and headers ---


@pytest.mark.parametrize(
    "path",
    [
        "/static/../state.py",
        "/static/state.py",
        "/static/%2e%2e/state.py",
        "/static/..%2fstate.py",
        "/static//etc/passwd",
        "/static/",
    ],
)
def test_no_path_leads_out_of_the_files_of_the_page(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "address", ["/", "/sign-in", "/static/style.css", "/api/gallery", "/nothing", "/healthz"]
)
def test_every_answer_has_the_headers_that_fence_a_page_in(client: TestClient, address: str) -> None:
    headers = client.get(address).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; img-src 'self' data: blob:;")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert headers["cache-control"] == ("no-cache" if "static" in address else "no-store")


def test_errors_are_problems(client: TestClient) -> None:
    assert "openapi.json" in detail(client.get("/nothing"), 404)
    answer = client.delete("/api/gallery")
    assert "Allow" in detail(answer, 405)
    assert answer.headers["allow"] == "GET"
    assert "body" in detail(client.post("/api/search", content=b"{"), 422)
    assert "limit" in detail(client.post("/api/search", json={"query": "x" * 22, "limit": 0}), 422)
    assert "Extra" in detail(client.post("/api/search", json={"query": "x" * 22, "limits": 1}), 422)


def test_an_error_of_the_gallery_says_nothing_of_its_folder(
    state: Served, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = query_for(client, COLOURS[0])

    def broken(*given: Any, **more: Any) -> None:
        raise ReseenError(f"the gallery {state.gallery.place} cannot be used")

    monkeypatch.setattr(state.gallery, "search_many", broken)
    answer = client.post("/api/search", json={"query": query})
    assert "log" in detail(answer, 503)
    assert state.gallery.place not in answer.text
    monkeypatch.setattr(state.gallery, "search_many", lambda *given, **more: 1 / 0)
    assert "log" in detail(client.post("/api/search", json={"query": query}), 500)


def test_who_hangs_up_in_the_middle_is_no_error_of_the_server(state: Served) -> None:
    """ASGI by hand: the test client cannot break off."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/api/find",
        "query_string": b"",
    }
    scope |= {"headers": [(b"host", b"localhost")], "scheme": "http", "server": ("localhost", 80)}
    asyncio.run(client_of(state).app(scope, receive, send))
    assert [message.get("status") for message in sent if "status" in message] in ([], [400])


# --- pictures ---


def declared_png(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that declares that many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def test_too_many_bytes_are_refused_by_their_length_and_as_they_come(client: TestClient) -> None:
    data = b"\xff\xd8\xff" + b"x" * 100_000
    assert "100,000 bytes" in detail(client.post("/api/find", content=data), 413)
    pieces = (data[start : start + 10_000] for start in range(0, len(data), 10_000))
    assert "100,000 bytes" in detail(client.post("/api/find", content=pieces), 413)  # chunked
    assert "bytes" in detail(client.post("/api/search", content=b" " * (JSON_BYTES + 1)), 413)
    assert "bytes" in detail(client.post("/api/search", headers={"content-length": "-1"}), 413)


def test_a_body_that_trickles_in_is_given_up(state: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reseen.gallery.server.guard.BODY_SECONDS", 0.05)
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        pieces = iter([{"type": "http.request", "body": b"\xff\xd8", "more_body": True}])

        async def receive() -> Any:
            return next(pieces, None) or await asyncio.sleep(30)

        async def send(message: Any) -> None:
            answers.append(message)

        about = {
            "type": "http",
            "method": "POST",
            "path": "/api/find",
            "raw_path": b"/api/find",
            "scheme": "http",
        }
        scope = {
            **about,
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
        }
        await asyncio.wait_for(client_of(state).app({**scope, "http_version": "1.1"}, receive, send), 20)

    asyncio.run(ask())
    assert answers[0]["status"] == 408
    assert b"too long to arrive: send it again" in answers[1]["body"]


def test_tokens_are_compared_in_constant_time_and_never_printed(
    state: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(1) or compare(one, other))
    token = Token(WORD)
    locked = client_of(state, token=token)
    assert locked.get("/api/gallery", headers={"authorization": f"Bearer {WORD[:-1]}x"}).status_code == 401
    assert locked.get("/api/gallery", headers={"authorization": f"Bearer {WORD}"}).status_code == 200
    assert len(compared) == 2
    assert locked.get("/api/gallery", headers={"cookie": f"{COOKIE}=another"}).status_code == 401
    assert len(compared) == 3
    assert WORD not in repr(token) + str(vars(locked)) + caplog.text


@pytest.mark.parametrize("size", [(400, 400), (12_000, 12_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(
    client: TestClient, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*given: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("reseen.gallery.server.uploads.decode_image", decode)
    assert "pixels" in detail(client.post("/api/find", content=declared_png(*size)), 413)


RED = COLOURS[0]
NOT_USABLE = {
    "empty": (b"", 415),
    "text": (b"<svg onload=alert(1)>", 415),
    "truncated jpeg": (encoded(picture_of(RED), "JPEG")[:300], 422),
    "truncated png": (encoded(picture_of(RED))[:60], 422),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
    "32 bit": (encoded(Image.fromarray(np.zeros((40, 40), np.float32)), "TIFF"), 422),
}


@pytest.mark.parametrize("name", NOT_USABLE)
def test_what_is_no_picture_is_refused(client: TestClient, name: str) -> None:
    data, status = NOT_USABLE[name]
    assert "picture" in detail(client.post("/api/find", content=data), status)


def test_fuzzed_pictures_are_answered(client: TestClient) -> None:
    draw = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        good = encoded(picture_of(RED), kind)
        for _ in range(12):
            data = bytearray(good)
            for place in draw.integers(0, len(data), 4):
                data[place] = draw.integers(0, 256)
            answer = client.post("/api/find", content=bytes(data[: draw.integers(1, len(data) + 1)]))
            assert answer.status_code in (200, 413, 415, 422), answer.text


def turned() -> bytes:
    """People side by side, saved on their side with the note to turn them upright."""
    image = picture_of(RED, COLOURS[2])
    exif = image.getexif()
    exif[0x112] = 6  # turn by 90 degrees clockwise to see it
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def sixteen_bit() -> bytes:
    return encoded(Image.fromarray(np.asarray(picture_of(RED).convert("L")).astype(np.uint16) << 8))


ODD = {
    "turned by exif": turned(),
    "cmyk": encoded(picture_of(RED, COLOURS[2]).convert("CMYK"), "JPEG", quality=95),
    "16 bit": sixteen_bit(),
    "animated": encoded(picture_of(RED), "GIF", save_all=True, append_images=[picture_of(COLOURS[1])]),
    "palette": encoded(picture_of(RED).quantize(8)),
    "transparent": encoded(picture_of(RED).convert("RGBA"), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_read_and_boxes_fit_what_is_seen(client: TestClient, name: str) -> None:
    found = client.post("/api/find", content=ODD[name]).json()
    assert found["height"] == 90
    for place, person in enumerate(found["persons"]):
        x1, y1, x2, y2 = person["box"]
        assert abs(np.array([x1, y1, x2, y2]) - [40 * place + 10, 15, 40 * place + 30, 75]).max() <= 8
    assert len(found["persons"]) == found["width"] // 40


# --- what is left behind ---


def test_an_upload_is_written_nowhere(
    client: TestClient, state: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*given: Any, **more: Any) -> None:
        raise AssertionError("a temporary file")

    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, write)
    before = {path: path.stat().st_mtime_ns for path in Path(state.gallery.place).rglob("*")}
    assert client.post("/api/find", content=encoded(picture_of(RED))).status_code == 200
    assert {path: path.stat().st_mtime_ns for path in Path(state.gallery.place).rglob("*")} == before


def test_queries_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    queries = Queries()
    first, second = (queries.remember(np.full(DIM, value, np.float32)) for value in (1, 2))
    assert first != second
    assert len(first) == 22
    clock[0] += memory.SECONDS - 1
    assert queries[first].feature[0] == 1  # counts from its last use
    clock[0] += 2
    with pytest.raises(ProblemError, match="no more"):
        queries[second]
    assert queries[first].feature[0] == 1
    clock[0] += memory.SECONDS + 1
    with pytest.raises(ProblemError, match="no more"):
        queries[first]


def test_the_longest_unused_go_first() -> None:
    recent: Recent[int, str] = Recent(2, 60)
    for number in range(2):
        recent[number] = str(number)
    assert recent.get(0) == "0"
    recent[2] = "2"
    assert [recent.get(number) for number in range(3)] == ["0", None, "2"]
    recent.pop(0)
    assert len(recent) == 1


def test_a_body_that_is_no_upload_is_not_read_as_one(client: TestClient) -> None:
    detail(client.post("/api/search", content=encoded(picture_of(RED))), 422)

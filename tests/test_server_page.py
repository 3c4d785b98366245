"""The page in a browser: whole ways through it, by mouse and by keyboard, narrow, dark, and to who cannot see it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright

from galleries import DIM
from reseen.config import ClusterConfig
from reseen.footage.finding import Finder
from reseen.gallery.server import Served, Token, make_app
from reseen.gallery.server.scenes import Scenes
from serving import COLOURS, encoded, find_people, in_scenes, picture_of, served

RED, GREEN, BLUE = COLOURS[:3]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
REFUSED = "the server responded with a status of 4"  # the browser's own note of what the page then says
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
if not CHROMIUM:
    missing = "no Chromium: apt-get install chromium, or name one with CHROMIUM=FILE"
    if os.environ.get("RESEEN_NEEDS_CHROMIUM"):  # set by .ci/run, where nothing may be left out
        raise RuntimeError(missing)
    pytest.skip(missing, allow_module_level=True)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address of a server on loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server for tests that erase nothing."""
    with running(make_app(served(tmp_path_factory.mktemp("page") / "gallery"))) as address:
        yield address


@pytest.fixture
def opened(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opens a page; fails where it asks another origin, or says anything on the console."""
    contexts, wrong = [], []

    def open_page(address: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        asked = ("data:", f"blob:{address}", f"{address}/")
        page.on("request", lambda request: request.url.startswith(asked) or wrong.append(request.url))
        page.on(
            "console",
            lambda said: said.type == "error" and REFUSED not in said.text and wrong.append(said.text),
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def upload(*colours: Any) -> dict[str, Any]:
    return {"name": "picture.png", "mimeType": "image/png", "buffer": encoded(picture_of(*colours))}


def rows_on(page: Any) -> list[int]:
    return [
        int(row) for row in page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.row)")
    ]


def matched(page: Any, text: str = "The most similar one") -> list[int]:
    """The rows on the page once it says that they have come."""
    page.locator("#status", has_text=text).wait_for()
    return rows_on(page)


def persons_of(rows: list[int]) -> set[int]:
    return {row // 8 for row in rows}


def test_pick_choose_filter_mark_refine_page_and_export(opened: Any, address: str) -> None:
    page = opened(address)
    page.locator("#about", has_text="48 rows, 4 cameras").wait_for()
    page.set_input_files("#file", upload(RED, BLUE))
    page.locator("#persons-note", has_text="2 persons are found").wait_for()
    page.get_by_role("button", name="Search for person 2 of 2").click()
    rows = matched(page)
    assert (len(rows), persons_of(rows[:7])) == (24, {2})
    assert page.locator(".card .walk").first.text_content().startswith("1 more row")

    page.get_by_label("3", exact=True).check()
    expect(page.locator(".card")).to_have_count(12)
    assert {row % 4 for row in matched(page)} == {2}
    page.get_by_role("button", name="All cameras and times").click()
    expect(page.locator(".card")).to_have_count(24)

    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".card")).to_have_count(42)
    assert len(set(rows_on(page))) == 42
    assert page.locator("#more").is_hidden()

    other = page.locator(".card[data-row='8']")
    other.get_by_role("button", name="Right").click()
    page.locator(f".card[data-row='{rows[0]}']").get_by_role("button", name="Wrong").click()
    assert other.get_by_role("button", name="Right").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Search again with 1 right, 1 wrong").click()
    expect(page.locator("#trail li")).to_have_count(2)
    assert page.locator("#trail [aria-current]").text_content() == "with 1 right, 1 wrong"
    page.locator("#trail button").first.click()
    expect(page.locator("#trail [aria-current]")).to_have_text("Person 2")

    with page.expect_download() as download:
        page.get_by_role("link", name="Matches as CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert (download.value.suggested_filename, len(lines)) == ("matches.csv", 43)


def test_how_sure_a_match_is_or_why_that_is_not_known(opened: Any, address: str, tmp_path: Path) -> None:
    page = opened(address)
    page.set_input_files("#file", upload(RED))
    matched(page, "The most similar one, very likely (")
    first = page.locator(".card").first
    sure = first.locator(".sure").inner_text()
    assert re.fullmatch(r"very likely the same person \(\d\d to (>\s)?99\s%\)", sure)
    assert first.locator(".likeness").inner_text().endswith("%")
    assert "identifies nobody" in page.locator("#sure").inner_text()
    first.get_by_role("button", name="Right").click()
    page.get_by_role("button", name="Search again with 1 right").click()
    page.locator("#sure", has_text="No probability: the query is made of several images").wait_for()
    assert page.locator(".card .sure").count() == 0
    with running(make_app(served(tmp_path / "gallery", calibrated=False))) as older:
        page = opened(older)
        page.set_input_files("#file", upload(RED))
        page.locator("#sure", has_text="reseen report RUN --data PATH makes one").wait_for()
        page.get_by_role("button", name="Erase a person").click()
        page.get_by_label("similarity to the query").fill("0.9")
        page.locator("#erasing-note", has_text="8 rows. Look at each").wait_for()


def test_a_match_opens_the_scene_that_it_was_seen_in(opened: Any, tmp_path: Path) -> None:
    gallery, finder = in_scenes(tmp_path / "gallery", tmp_path), Finder(find_people, DIM, 8)
    state = Served(gallery, finder, detects=True, cluster=ClusterConfig(), scenes=Scenes({"": tmp_path}))
    with running(make_app(state)) as address:
        page = opened(address, viewport={"width": 390, "height": 800})
        page.set_input_files("#file", upload(GREEN))
        assert set(matched(page)) == {*range(6)}
        assert (
            page.get_by_role("button", name="Show the scene").count() == 1
        )  # neither crops nor what is gone
        card = page.locator(".card[data-row='1']")
        dialog = page.get_by_role("dialog", name="Where it was seen")
        (tmp_path / "street.png").rename(tmp_path / "away.png")
        card.get_by_role("button", name="Right").focus()
        page.keyboard.press("o")
        dialog.get_by_text("not where it was").wait_for()
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_be_hidden()
        (tmp_path / "away.png").rename(tmp_path / "street.png")
        card.get_by_role("button", name="Show the scene").click()
        dialog.get_by_text("street.png. The match is outlined.").wait_for()
        assert dialog.locator("img").evaluate("one => one.naturalWidth") == 120
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()


def test_by_keyboard_alone(opened: Any, address: str) -> None:
    page = opened(address)
    page.on("filechooser", lambda chooser: None)  # from here on, and not only once Enter is on its way
    page.locator("#about", has_text="48 rows").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(upload(GREEN, RED))
    page.locator("#persons-note", has_text="2 persons are found").wait_for()
    page.keyboard.press("Tab")
    assert "person 1 of 2" in page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("Enter")
    rows = matched(page)
    assert persons_of(rows[:7]) == {1}
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.card') !== null"):
            break
    focused = "document.activeElement.closest('.card').dataset"
    first = page.evaluate(f"{focused}.row")
    page.keyboard.press("ArrowRight")
    second = page.evaluate(f"{focused}.row")
    assert first != second
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(f"{focused}.row") == second
    for key, mark in (("r", "right"), ("w", "wrong"), ("w", "")):
        page.keyboard.press(key)
        assert page.evaluate(f"{focused}.mark") == mark
    page.keyboard.press("s")
    page.locator("#trail", has_text=f"Row {second}").wait_for()
    assert persons_of(matched(page)[:7]) == {1}


def test_a_box_is_drawn_typed_or_all_of_it(opened: Any, address: str) -> None:
    page = opened(address)
    page.set_input_files("#file", upload())
    page.locator("#persons-note", has_text="Nobody is found").wait_for()
    page.set_input_files("#file", upload(RED, BLUE))
    page.locator("#persons-note", has_text="2 persons are found").wait_for()
    page.get_by_role("button", name="Draw a box").click()
    frame = page.locator("#picture").bounding_box()
    page.mouse.move(frame["x"] + frame["width"] * 0.6, frame["y"] + 10)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.9, frame["y"] + frame["height"] - 5)
    page.mouse.up()
    assert persons_of(matched(page)[:7]) == {2}
    page.get_by_text("Type a box").click()
    for name, value in (("Left", 5), ("Top", 10), ("Right", 35), ("Bottom", 80)):
        page.get_by_label(name, exact=True).fill(str(value))
    page.get_by_role("button", name="Search in this box").click()
    page.locator("#trail", has_text="Person 4").wait_for()
    assert persons_of(matched(page)[:7]) == {0}
    page.get_by_label("Right", exact=True).fill("2")
    page.get_by_role("button", name="Search in this box").click()
    page.locator("#problem", has_text="shows nobody").wait_for()


def test_groups_are_made_and_searched_for(opened: Any, address: str) -> None:
    page = opened(address)
    page.get_by_role("button", name="Group the gallery").click()
    page.locator("#groups-status", has_text="groups").wait_for()
    assert page.locator(".group").count() >= 6
    page.get_by_role("button", name="Search for this person, group 1", exact=True).click()
    page.locator("#trail", has_text="Group 1").wait_for()
    assert len(persons_of(matched(page)[:6])) == 1


def test_names_of_files_are_text(opened: Any, address: str) -> None:
    page = opened(address)
    page.set_input_files("#file", upload(RED))
    matched(page)
    assert page.locator(".card[data-row='0'] dd").last.text_content().startswith("<img src=x onerror")
    assert page.locator(".card dd img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_scrolls_one_way_only(opened: Any, address: str, scheme: str) -> None:
    page = opened(address, viewport={"width": 390, "height": 800}, color_scheme=scheme, has_touch=True)
    page.set_input_files("#file", upload(*COLOURS))
    page.get_by_role("button", name="Search for person 1 of 6").click()
    matched(page)
    page.locator(".card .walk summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert (
        page.evaluate(
            "Math.min(...[...document.querySelectorAll('main > * button')].filter(b => "
            "b.offsetParent && !b.matches('.person')).map(b => b.offsetHeight))"
        )
        >= 24
    )


def test_dropped_and_pasted_pictures(opened: Any, address: str) -> None:
    page = opened(address)
    event = """([kind, field, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
      document.dispatchEvent(new (kind == "drop" ? DragEvent : ClipboardEvent)(kind, {[field]: data, bubbles: true}));
    }"""
    for kind, field, colours in (
        ("drop", "dataTransfer", (RED,) * 2),
        ("paste", "clipboardData", (RED,) * 3),
    ):
        page.evaluate(event, [kind, field, list(encoded(picture_of(*colours)))])
        page.locator("#persons-note", has_text=f"{len(colours)} persons are found").wait_for()


def test_signing_in(opened: Any, browser: Any, tmp_path: Path) -> None:
    with running(make_app(served(tmp_path / "gallery"), token=Token("a-token-of-some-length"))) as address:
        page = browser.new_context().new_page()
        page.goto(address)
        assert page.url == f"{address}/sign-in"
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        page.locator("#problem", has_text="not the token").wait_for()
        page.get_by_label("Token").fill("a-token-of-some-length")
        page.keyboard.press("Enter")
        page.locator("#about", has_text="48 rows").wait_for()
        page.context.close()


def test_whom_the_dialog_shows_is_erased_and_nobody_before(opened: Any, tmp_path: Path) -> None:
    state = served(tmp_path / "gallery")
    with running(make_app(state)) as address:
        page = opened(address)
        page.set_input_files("#file", upload(GREEN))
        assert persons_of(matched(page)[:7]) == {1}
        page.get_by_role("button", name="Erase a person").click()
        dialog = page.get_by_role("dialog", name="Erase a person")
        dialog.get_by_text("Nobody yet").wait_for()
        assert dialog.get_by_role("button", name="Erase").is_disabled()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()

        page.locator(".card", has=page.locator("summary")).first.get_by_role("button", name="Right").click()
        page.get_by_role("button", name="Erase a person").click()
        dialog.get_by_text("2 rows. Look at each").wait_for()  # the track that is marked
        dialog.get_by_label("probability (in percent)").fill("90")
        dialog.get_by_text("8 rows. Look at each").wait_for()
        assert dialog.locator("img").count() == 8
        assert len(state.gallery) == 48
        dialog.get_by_role("button", name="Erase 8 rows for good").click()
        page.locator("#status", has_text="8 rows are erased").wait_for()
        assert 1 not in persons_of(rows_on(page))
        assert len(state.gallery) == 40
        page.locator("#about", has_text="40 rows").wait_for()


# --- to who cannot see it ---


def full(open_page: Any, address: str) -> Any:
    """A page with everything on it: persons, matches with marks, a refined query, groups."""
    page = open_page(address)
    page.set_input_files("#file", upload(RED, BLUE))
    page.get_by_role("button", name="Search for person 1 of 2").click()
    matched(page)
    page.locator(".card").nth(0).get_by_role("button", name="Right").click()
    page.locator(".card").nth(9).get_by_role("button", name="Wrong").click()
    page.get_by_role("button", name="Search again with 1 right, 1 wrong").click()
    expect(page.locator("#trail li")).to_have_count(2)
    matched(page)
    page.get_by_role("button", name="Group the gallery").click()
    page.locator("#groups-status", has_text="groups").wait_for()
    return page


def axe_minds(page: Any) -> list[tuple[str, str, str]]:
    """Impact, rule and element of all that axe-core finds wrong in what is shown: light and wide, dark and narrow."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for scheme, width in (("light", 1280), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        for one in Axe().run(page).response["violations"]:
            found += [(one["impact"], one["id"], node["html"]) for node in one["nodes"]]
    return found


def test_axe_minds_nothing(opened: Any, address: str) -> None:
    page = opened(address)
    page.locator("#about", has_text="48 rows").wait_for()
    assert axe_minds(page) == []
    assert {"status", "alert"} <= set(page.locator("[role]").evaluate_all("all => all.map(one => one.role)"))
    page = full(opened, address)
    page.locator(".card").first.get_by_role("button", name="Right").click()
    assert axe_minds(page) == []
    page.get_by_role("button", name="Erase a person").click()
    page.locator("#erasing-list img").first.wait_for()
    assert axe_minds(page) == []


def test_axe_minds_nothing_in_a_scene_or_before_the_token(opened: Any, tmp_path: Path) -> None:
    gallery, finder = in_scenes(tmp_path / "gallery", tmp_path), Finder(find_people, DIM, 8)
    state = Served(gallery, finder, detects=True, cluster=ClusterConfig(), scenes=Scenes({"": tmp_path}))
    with running(make_app(state)) as address:
        page = opened(address)
        page.set_input_files("#file", upload(GREEN))
        page.get_by_role("button", name="Show the scene").click()
        page.locator("#seen-note", has_text="outlined").wait_for()
        assert axe_minds(page) == []
    with running(make_app(state, token=Token("a-token-of-some-length"))) as address:
        page = opened(address)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        page.locator("#problem", has_text="not the token").wait_for()
        assert axe_minds(page) == []

"""The two pictures of docs/serve.md: the page of `reseen serve` on drawn scenes, in a wide and in a narrow browser.

    reseen demo --run runs/demo && python benchmarks/serve_pictures.py runs/demo --out docs

Needs Chromium (CHROMIUM=FILE where it is not on the path). The scenes show people whom the run was not trained on. They
are indexed with the boxes that they were drawn with, and the picture that is searched with is left out of the gallery;
its persons stand where they were drawn too, as a run on crops finds nobody by itself. Nothing else is arranged.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from reseen.commands.index import index
from reseen.commands.serve import opened
from reseen.footage.finding import Find, Finder
from reseen.gallery.server import Served, make_app
from reseen.street import draw_scenes

FIRST, APART = datetime(2026, 2, 2, 8, 30, tzinfo=UTC), timedelta(seconds=37)
SEARCHED = 5  # number of the scene that is searched with: three persons stand in it
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def drawn(root: Path, seed: int) -> tuple[Path, list[list[float]]]:
    """Scenes below ``root``, with camera and time in their names: the one that is searched with, and its boxes."""
    draw_scenes(root, seed=seed, train_scenes=8, train_identities=80, test_scenes=48, test_identities=24)
    table = json.loads((root / "test.json").read_text())
    for number, image in enumerate(table["images"]):
        name = f"camera {image['camera']}/{FIRST + number * APART:%Y%m%d-%H%M%S}.jpg"
        place = root / "scenes" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (root / "test" / "images" / image["file_name"]).rename(place)
        image["file_name"] = name
    searched = table["images"].pop(SEARCHED)
    of = {True: [], False: []}
    for one in table["annotations"]:
        of[one["image_id"] == searched["id"]].append(one)
    table["annotations"] = of[False]
    (root / "scenes" / "train.json").write_text(json.dumps(table))
    boxes = [[x, y, x + width, y + height] for x, y, width, height in (one["bbox"] for one in of[True])]
    return (root / "scenes" / searched["file_name"]).rename(root / "searched.jpg"), boxes


def where_drawn(find: Find, boxes: NDArray[np.float32]) -> Find:
    """Persons of a picture stand in ``boxes``, unless it is said where."""
    return lambda images, given: find(images, [boxes if one is None else one for one in given])


def shown(page: Page, address: str, picture: Path) -> None:
    """Search for the second person of the picture, and mark the first match as right."""
    page.goto(address)
    page.set_input_files("#file", str(picture))
    page.get_by_role("button", name="Search for person 2").click()
    page.locator("#status", has_text="most similar").wait_for()
    page.locator(".card").first.get_by_role("button", name="Right").click()
    page.mouse.move(0, 0)
    page.locator(":focus").evaluate("one => one.blur()")


def pictures(address: str, picture: Path, out: Path) -> None:
    with sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        wide = browser.new_page(viewport={"width": 1200, "height": 1764}, locale="en-GB", timezone_id="UTC")
        shown(wide, address, picture)
        wide.evaluate("scrollTo(0, 0)")
        wide.wait_for_timeout(500)
        wide.screenshot(path=out / "serve.png")
        screen: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
        page = browser.new_page(color_scheme="dark", locale="en-GB", timezone_id="UTC", **screen)
        shown(page, address, picture)
        page.evaluate("document.querySelector('#cards').scrollIntoView()")
        page.wait_for_timeout(500)
        page.screenshot(path=out / "serve-narrow.png")
        browser.close()
    for name in ("serve.png", "serve-narrow.png"):
        Image.open(out / name).convert("RGB").quantize(256).save(out / name, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="of reseen demo")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--seed", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture, boxes = drawn(Path(folder), given.seed)
        place, scenes = str(Path(folder) / "gallery"), Path(folder) / "scenes"
        index(given.run, scenes, gallery=place, annotated=True, time_pattern=r"/(.*)\.jpg")
        state = opened(place, None, None, [str(scenes)])
        print(state.gallery.why_no_probability or "matches have a probability")
        find = where_drawn(state.finder.find, np.array(boxes, np.float32))
        finder = Finder(find, state.finder.dim, state.finder.batch)
        served = Served(state.gallery, finder, detects=True, cluster=state.cluster, scenes=state.scenes)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(make_app(served), log_level="warning"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            while not server.started:
                time.sleep(0.05)
            try:
                pictures(f"http://127.0.0.1:{listener.getsockname()[1]}", picture, given.out)
            finally:
                server.should_exit = True
                thread.join()


if __name__ == "__main__":
    main()

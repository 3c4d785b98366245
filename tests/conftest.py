"""What tests of several files share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from command_runs import SMALL, done, market, two_steps, words
from reseen.pages import page
from reseen.records import SearchData
from reseen.street import draw_scenes
from test_cli import tiny

# `make test` gives one answer: hypothesis draws the same cases every time. `make fuzz` draws others, round after round.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile(
    "fuzz", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fixed")

page.DPI = 60  # a seventh of the pixels: every training draws its pictures, and few tests look at them


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write tests/data/digests.json (make digests)")


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> SearchData:
    """A few scenes of the drawn street, 640 x 360 pixels; nobody may change its files."""
    return draw_scenes(
        tmp_path_factory.mktemp("street"),
        train_scenes=8,
        test_scenes=6,
        train_identities=6,
        test_identities=4,
        cameras=2,
        persons=(1, 3),
    )


def once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object], worker: str
) -> tuple[Path, str]:
    """A folder that the first who asks fills, for all processes of this test run, and what ``make`` said."""
    base = factory.getbasetemp()
    folder = (base if worker == "master" else base.parent) / name
    told = folder.with_name(f"{name}.told")
    with FileLock(f"{folder}.lock"):
        if not told.exists():
            said = make(folder)
            told.write_text(said if isinstance(said, str) else "")
    return folder, told.read_text()


# Person search from the command line: one folder of scenes, one run, and one in two steps; nobody may change them.


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    sizes = {"train_scenes": 8, "test_scenes": 6, "train_identities": 5, "test_identities": 3}

    def draw(root: Path) -> None:
        draw_scenes(root, seed=1, cameras=2, persons=(1, 3), **sizes)

    return once(tmp_path_factory, "scenes", draw, worker_id)[0]


@pytest.fixture(scope="session")
def searched(
    scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> tuple[Path, str]:
    """A finished run that finds some of its persons, and what the command said."""
    given = ("--data", scenes_folder, "--weights", "none", *words((*SMALL, "train.epochs=30")))
    return once(
        tmp_path_factory, "searched", lambda run: done("train", "r-siamnet", *given, "--run", run), worker_id
    )


@pytest.fixture(scope="session")
def stepped(
    scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> tuple[Path, str]:
    given = ("--data", scenes_folder, "--weights", "none", *two_steps())
    return once(
        tmp_path_factory, "stepped", lambda run: done("train", "two-step", *given, "--run", run), worker_id
    )


@pytest.fixture
def search_run(searched: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(searched[0], tmp_path / "search")


@pytest.fixture
def two_step_run(stepped: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(stepped[0], tmp_path / "two")


# Crops from the command line: a folder in Market-1501's layout, and one run.


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    return once(tmp_path_factory, "market", market, worker_id)[0]


@pytest.fixture(scope="session")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Path, str]:
    """A finished run of two epochs, and what the command said."""
    given = ("--data", world, "--weights", "none", *tiny("train.evaluate_every=1"))
    return once(
        tmp_path_factory, "trained", lambda run: done("train", "cacl", *given, "--run", run), worker_id
    )


@pytest.fixture
def finished(trained: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished run, to do things to."""
    return shutil.copytree(trained[0], tmp_path / "finished")

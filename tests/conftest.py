"""What tests of several files share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from command_runs import SMALL, done, market, two_steps, words
from reseen.records import SearchData
from reseen.street import draw_scenes
from test_cli import tiny

# `make test` gives one answer: hypothesis draws the same cases every time. `make fuzz` draws others, round after round.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile(
    "fuzz", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fixed")


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


# Person search from the command line: one folder of scenes, one run, and one in two steps.


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    draw_scenes(
        root,
        seed=1,
        train_scenes=8,
        test_scenes=6,
        train_identities=5,
        test_identities=3,
        cameras=2,
        persons=(1, 3),
    )
    return root


@pytest.fixture(scope="session")
def searched(scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run that finds some of its persons, and what the command said."""
    run = tmp_path_factory.mktemp("runs") / "search"
    given = ("--data", scenes_folder, "--run", run, "--weights", "none", *words((*SMALL, "train.epochs=30")))
    return run, done("train", "r-siamnet", *given)


@pytest.fixture(scope="session")
def stepped(scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("runs") / "two"
    given = ("--data", scenes_folder, "--run", run, "--weights", "none", *two_steps())
    return run, done("train", "two-step", *given)


@pytest.fixture
def search_run(searched: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(searched[0], tmp_path / "search")


@pytest.fixture
def two_step_run(stepped: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(stepped[0], tmp_path / "two")


# Crops from the command line: a folder in Market-1501's layout, and one run.


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="session")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run of two epochs, and what the command said."""
    run = tmp_path_factory.mktemp("runs") / "cacl"
    settings = tiny("train.evaluate_every=1")
    return run, done("train", "cacl", "--data", world, "--run", run, "--weights", "none", *settings)


@pytest.fixture
def finished(trained: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished run, to do things to."""
    return shutil.copytree(trained[0], tmp_path / "finished")

"""What tests of several files share."""

from __future__ import annotations

import pytest

from reseen.data import draw_search_street
from reseen.records import SearchData


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write tests/data/digests.json (make digests)")


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> SearchData:
    """A few scenes of the drawn street, 640 x 360 pixels; nobody may change its files."""
    return draw_search_street(
        tmp_path_factory.mktemp("street"),
        train_scenes=8,
        test_scenes=6,
        train_identities=6,
        test_identities=4,
        cameras=2,
        persons=(1, 3),
    )

"""What tests of several files share."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from reseen.data import draw_search_street
from reseen.records import SearchData

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
    return draw_search_street(
        tmp_path_factory.mktemp("street"),
        train_scenes=8,
        test_scenes=6,
        train_identities=6,
        test_identities=4,
        cameras=2,
        persons=(1, 3),
    )

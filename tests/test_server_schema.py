"""The API as its OpenAPI document says: requests drawn from the document get no 5xx and no answer outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from reseen.gallery.server import make_app
from reseen.gallery.server.api import api
from serving import ADDRESS, served

EXAMPLES = 6  # of each operation
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    state = served(tmp_path_factory.mktemp("drawn") / "gallery")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state.jobs, "close", lambda: None)  # every call starts and stops the application
        yield make_app(state)
    state.jobs.close()


@pytest.fixture(scope="module")
def document(app: FastAPI) -> Any:
    return schemathesis.openapi.from_dict(app.openapi())


OPERATIONS = [(route.path, method) for route in api.routes for method in route.methods]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_requests_drawn_from_the_document_are_answered_as_it_says(
    path: str, method: str, app: FastAPI, document: Any
) -> None:
    @settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=document[path][method].as_strategy())
    def answered(case: Any) -> None:
        case.operation.app = app
        case.validate_response(case.call(base_url=ADDRESS), checks=CHECKS)

    answered()


def test_every_operation_names_its_errors_and_has_a_summary(app: FastAPI) -> None:
    document = app.openapi()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {"401", "403", "422"} <= set(operation["responses"]), path
            assert operation["summary"], path
    assert "detail" in document["components"]["schemas"]["ProblemBody"]["properties"]
    assert "examples" in document["components"]["schemas"]["Search"]["properties"]["query"]

"""Every error is an answer of type application/problem+json (RFC 9457), and none repeats what the client sent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from reseen.errors import ReseenError

MEDIA_TYPE = "application/problem+json"
LOG = logging.getLogger("reseen.server")
MEANINGS = {404: "there is nothing at this address: GET /openapi.json lists what there is"}
MEANINGS |= {405: "this address takes other methods: the header Allow names them"}


class ProblemBody(BaseModel):
    """What went wrong, and in ``detail`` what to do about it."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["this query is no more: find the person again"])


class ProblemError(Exception):
    """The request cannot be answered; raised by whatever handles it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def problem_of(error: Exception) -> ProblemError:
    """What is said of an error outside; of folders, which are nobody's business there, the log says more."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ReseenError):
        LOG.error("%s", error)
        return ProblemError(503, "the gallery cannot be used at the moment: the server's log says why")
    return ProblemError(500, "an error of the server: its log says more")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    body = ProblemBody(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def answer_problems(app: FastAPI) -> None:
    """Have every error of ``app`` answered so."""

    @app.exception_handler(ProblemError)
    @app.exception_handler(ReseenError)
    @app.exception_handler(Exception)  # which is raised again for the server's log
    def own(request: Request, error: Exception) -> Response:
        told = problem_of(error)
        return problem(told.status, told.detail)

    @app.exception_handler(HTTPException)
    def of_framework(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, MEANINGS.get(error.status_code, error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and part.isidentifier())
        return problem(422, f"{where}: {first['msg']}")

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return problem(400, "the request ended early")  # nobody reads it; but it is no error of the server


def described(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The errors of a route for OpenAPI; those of every route are among them."""
    of_all = (400, 401, 403, 413, 421, 422, 503)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*of_all, *statuses})
    }

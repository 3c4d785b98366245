"""The parts of the server put together: routes, page, files, and who guards them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import PurePosixPath

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

import reseen
from reseen.gallery.server.api import api
from reseen.gallery.server.guard import Guard, Token
from reseen.gallery.server.problems import ProblemBody, ProblemError, answer_problems
from reseen.gallery.server.state import Served
from reseen.gallery.server.uploads import TOGETHER
from reseen.pages.page import TEMPLATES

KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGES = files("reseen.gallery.server") / "static"
STATIC = {
    file.name: file.read_bytes() for file in PAGES.iterdir() if PurePosixPath(file.name).suffix in KINDS
}
STATIC["style.css"] = (files("reseen.pages") / "templates" / "style.css").read_bytes()


def make_app(served: Served, *, token: Token | None = None, names: Iterable[str] = ()) -> FastAPI:
    """The application.

    Args:
        token: without it, everybody who reaches the server is let in.
        names: hosts that it may be reached as, beside those of this machine.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        served.jobs.close()

    app = FastAPI(
        title="reseen",
        version=reseen.__version__,
        summary="Where else was this person seen?",
        docs_url=None,  # it would load scripts of another origin
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.served, app.state.token = served, token
    app.state.uploads = asyncio.Semaphore(TOGETHER)
    app.add_middleware(Guard, hosts=names, token=token, upload_bytes=served.limits.bytes)
    answer_problems(app)
    app.include_router(api)
    _pages(app)
    document = app.openapi()  # made once, and kept by the application
    document["components"]["schemas"]["ProblemBody"] = ProblemBody.model_json_schema()
    return app


def _pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(TEMPLATES.get_template("search.html").render(heading="Find a person again"))

    @app.get("/sign-in", include_in_schema=False)
    def sign_in_page() -> HTMLResponse:
        return HTMLResponse(TEMPLATES.get_template("sign-in.html").render(heading="Sign in"))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in STATIC:  # names of a dictionary: there is no path to forge
            raise ProblemError(404, "there is no such file")
        kind = KINDS[PurePosixPath(name).suffix]
        return Response(STATIC[name], headers={"cache-control": "no-cache"}, media_type=kind)

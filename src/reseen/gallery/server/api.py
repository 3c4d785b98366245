"""The routes: from requests to the state and back, nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from reseen.gallery.rows import seconds_since_1970
from reseen.gallery.server import schemas as s
from reseen.gallery.server.grouping import MOST_ROWS
from reseen.gallery.server.guard import COOKIE, Token
from reseen.gallery.server.paging import MOST, Cursor
from reseen.gallery.server.problems import ProblemError, described
from reseen.gallery.server.state import Served
from reseen.gallery.server.uploads import upload
from reseen.gallery.server.views import csv_of, match_of, moment, row_of
from reseen.records import UNKNOWN_CAMERA

FACES = 6  # rows that are shown of a group
NAMED = 60  # and of whom is to be erased
NUMBER = r"-?[0-9]{1,7}(\.[0-9]{1,7})?"
PICTURE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "the file of a picture as it is",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
        },
    }
}
JPEG: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"image/jpeg": {}}}, **described(404)},
}


def served(request: Request) -> Served:
    state: Served = request.app.state.served
    return state


State = Annotated[Served, Depends(served)]
Upload = Annotated[bytes, Depends(upload)]
Boxes = Annotated[
    list[Annotated[str, Query(pattern=f"^{NUMBER}(,{NUMBER}){{3}}$")]],
    Query(description="x1,y1,x2,y2 of a person in pixels; repeatable", examples=[["12,30,64,170"]]),
]
RowNumber = Annotated[int, Path(ge=0, lt=2**53)]
Start = Annotated[int, Query(ge=0, lt=2**53)]
Limit = Annotated[int, Query(ge=1, le=100)]
api = APIRouter()


@api.get("/healthz", responses=described())
def healthz() -> s.Health:
    """Whether the server answers."""
    return s.Health()


@api.post("/api/sign-in", responses=described(404))
def sign_in(given: s.SignIn, request: Request, response: Response) -> s.SignedIn:
    """Trade the token for a cookie, which ends with the browser or the server."""
    token: Token | None = request.app.state.token
    if token is None:
        raise ProblemError(404, "this server has no token: go to /")
    if not token.is_word(given.token):
        raise ProblemError(401, "this is not the token")
    safe = request.url.scheme == "https"
    response.set_cookie(COOKIE, token.cookie, httponly=True, samesite="strict", secure=safe)
    return s.SignedIn()


@api.get("/api/gallery", responses=described())
def about(state: State) -> s.About:
    """What the gallery holds."""
    state.gallery.look()
    held, limits = state.gallery.held, state.limits
    times = held.column("time")
    known = times[times == times]
    return s.About(
        rows=len(held),
        model=state.gallery.about.name,
        detects=state.detects,
        cameras=sorted({*held.column("camera").tolist()} - {UNKNOWN_CAMERA}),
        first=moment(known.min()) if len(known) else None,
        last=moment(known.max()) if len(known) else None,
        groups_at_most=MOST_ROWS,
        upload_bytes=limits.bytes,
        upload_pixels=limits.pixels,
    )


@api.post("/api/find", responses=described(408, 415), openapi_extra=PICTURE)
def find(state: State, picture: Upload, box: Boxes = []) -> s.Found:  # noqa: B006 (FastAPI copies it)
    """Find the persons of a picture; each becomes a query. Features are kept for half an hour, the picture is not."""
    (width, height), found, left_out = state.find(picture, box)
    persons = [
        s.Person(query=state.queries.remember(feature), box=where.tolist(), score=float(score))
        for where, score, feature in zip(found.boxes, found.scores, found.features, strict=True)
    ]
    return s.Found(width=width, height=height, persons=persons, left_out=left_out)


@api.post("/api/search", responses=described(404))
def search(given: s.Search, state: State) -> s.Matches:
    """Whom the gallery holds that is like a query, a page at a time."""
    hits, following = state.search(given.query, given.limit, Cursor.read(given.cursor), filters_of(given))
    return s.Matches(
        matches=[match_of(hit, state.scenes) for hit in hits],
        no_probability=state.why_no_probability(given.query),
        next=None if following is None else str(following),
    )


@api.post("/api/refine", responses=described(404))
def refine(given: s.Refine, state: State) -> s.Refined:
    """A new query from an old one and rows that are right or wrong."""
    query = state.refine(given.query, given.right, given.wrong)
    return s.Refined(query=query, right=len(given.right), wrong=len(given.wrong))


@api.get(
    "/api/export.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}}, **described(404)},
)
def export(given: Annotated[s.Export, Query()], state: State) -> Response:
    """The first 10,000 matches of a query as CSV."""
    content = csv_of(state.first(given.query, MOST, filters_of(given)))
    name = {"content-disposition": 'attachment; filename="matches.csv"'}
    return Response(content, headers=name, media_type="text/csv")


@api.get("/api/rows", responses=described())
def read_rows(state: State, start: Start = 0, limit: Limit = 24) -> s.Rows:
    """The rows of the gallery in the order of their numbers."""
    hits, following = state.rows_from(start, limit)
    return s.Rows(rows=[row_of(hit, state.scenes) for hit in hits], next=following)


@api.post("/api/rows", status_code=201, responses=described(408, 415), openapi_extra=PICTURE)
def add_rows(
    state: State,
    picture: Upload,
    box: Boxes = [],  # noqa: B006
    camera: Annotated[int | None, Query(ge=0, lt=2**53)] = None,
    time: datetime | None = None,
) -> s.Added:
    """Add the persons of a picture to the gallery: their features and thumbnails, not the picture."""
    rows, source = state.add(picture, box, camera, None if time is None else seconds_since_1970(time))
    return s.Added(rows=rows.tolist(), source=source)


@api.get("/api/rows/{row}", responses=described(404))
def read_row(row: RowNumber, state: State) -> s.Shown:
    return row_of(state.row(row), state.scenes)


@api.get("/api/rows/{row}/thumbnail", **JPEG)
def read_thumbnail(row: RowNumber, state: State) -> Response:
    return Response(state.thumbnail(row), media_type="image/jpeg")


@api.get("/api/rows/{row}/scene", **JPEG)
def read_scene(row: RowNumber, state: State) -> Response:
    """The picture or frame that the row was seen in, with the person outlined."""
    return Response(state.scenes.picture(state.row(row)), media_type="image/jpeg")


@api.post("/api/groups", status_code=202, responses=described(409))
def make_groups(state: State) -> s.JobBody:
    """Group the whole gallery: a job, unless nothing changed since the last one."""
    return state.start_groups()


@api.get("/api/groups", responses=described(409))
def read_groups(state: State, start: Start = 0, limit: Limit = 24) -> s.GroupPage:
    """The groups of the last such job, without rows that were erased since."""
    groups = state.groups
    if groups is None:
        raise ProblemError(409, "nothing is grouped yet: POST /api/groups, and wait for its job")
    page = [state.rows(members) for members in groups.members[start : start + limit]]
    bodies = [
        s.Group(
            count=len(hits),
            cameras=sorted({hit.camera for hit in hits} - {UNKNOWN_CAMERA}),
            shown=[row_of(hit, state.scenes) for hit in hits[:FACES]],
        )
        for hits in page
        if hits
    ]
    state.fetch(row.row for body in bodies for row in body.shown)
    total = len(groups.members)
    following = start + limit if start + limit < total else None
    return s.GroupPage(groups=bodies, total=total, alone=groups.alone, next=following)


@api.post("/api/forget/preview", responses=described(404))
def preview_forget(given: s.Naming, state: State) -> s.Named:
    """Who would be erased: nothing is, before the rows are named to /api/forget."""
    rows = state.named(given)
    hits = state.rows(rows[:NAMED])
    state.fetch(hit.row for hit in hits)
    return s.Named(rows=rows, shown=[row_of(hit, state.scenes) for hit in hits])


@api.post("/api/forget", status_code=202, responses=described())
def forget(given: s.Forget, state: State) -> s.JobBody:
    """Erase rows so that their bytes are gone: a job."""
    return state.start_forget(given.rows)


@api.get("/api/jobs/{job}", responses=described(404))
def read_job(job: Annotated[str, Path(pattern=s.NAME)], state: State) -> s.JobBody:
    return state.jobs.get(job)


def filters_of(given: s.Filters) -> dict[str, Any]:
    """As :meth:`reseen.Gallery.search` takes them."""
    return given.model_dump(include=set(s.Filters.model_fields), exclude_defaults=True)

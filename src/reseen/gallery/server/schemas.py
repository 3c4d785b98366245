"""What requests and answers hold, as OpenAPI shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reseen.gallery.server.paging import CURSOR

Row = Annotated[int, Field(ge=0, lt=2**53, examples=[7])]  # exact in JavaScript too
Camera = Annotated[int, Field(ge=-(2**53), lt=2**53)]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]
NAME = r"^[A-Za-z0-9_-]{22}$"
QueryName = Annotated[str, Field(pattern=NAME, examples=["Jx0Zr2uB3mQ5w8eVt1yKpA"])]


class Given(BaseModel):
    """What a client sends: a name that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class Person(BaseModel):
    query: str = Field(
        description="name of the query, for half an hour after its last use",
        examples=["Jx0Zr2uB3mQ5w8eVt1yKpA"],
    )
    box: Box = Field(description="x1, y1, x2, y2 in pixels of the picture as it is seen, upright")
    score: float = Field(description="of the detection; 1 where the box was given")


class Found(BaseModel):
    width: int
    height: int
    persons: list[Person] = Field(description="surest first")
    left_out: int = Field(description="persons beyond the limit, the least sure ones")


class Filters(Given):
    cameras: list[Camera] = Field(
        [], max_length=1000, description="of these cameras; empty: of all", examples=[[1, 2]]
    )
    not_cameras: list[Camera] = Field([], max_length=1000, description="of no such camera", examples=[[3]])
    after: datetime | None = Field(None, description="from then on; UTC unless it says otherwise")
    before: datetime | None = Field(None, description="before then", examples=["2026-05-01T14:30:00Z"])


class Search(Filters):
    query: QueryName
    limit: int = Field(24, ge=1, le=100)
    cursor: str | None = Field(None, pattern=f"^{CURSOR}$", description="`next` of the page before")


class Export(Filters):
    query: QueryName


class Shown(BaseModel):
    """A row of the gallery; what is not known is null."""

    row: int
    source: str = Field(description="file relative to the root that was indexed", examples=["hall/0007.jpg"])
    frame: int | None
    seconds: float | None = Field(description="since the beginning of the video")
    time: datetime | None
    camera: int | None
    box: Box
    score: float | None
    track: int | None = Field(description="of one walk through a video")
    expiry: datetime | None = Field(description="when the row has to go")
    scene: bool = Field(description="whether /api/rows/N/scene shows where the row was seen")


class Probability(BaseModel):
    """That a match shows the person of the query, as the gallery's model and rows say: no identification."""

    value: float = Field(ge=0, le=1, examples=[0.93])
    low: float = Field(description="of the interval that holds 95 % of a bootstrap", examples=[0.88])
    high: float = Field(examples=[0.96])
    words: str = Field(examples=["very likely"])


class Match(Shown):
    similarity: float = Field(description="-1 to 1; not a probability", examples=[0.71])
    probability: Probability | None
    track_rows: list[int] = Field(description="other rows of the same track that the search came across")


class Matches(BaseModel):
    matches: list[Match] = Field(description="most similar first; a track counts once")
    no_probability: str | None = Field(
        description="why matches have no probability; null: they have",
        examples=["the query is made of several images, and a calibration is of pairs of images"],
    )
    next: str | None = Field(description="cursor of the next page; null: this is the last")


class Refine(Given):
    query: QueryName | None = Field(
        None, description="whom was searched for; null: start from the right rows"
    )
    right: list[Row] = Field([], max_length=1000, description="rows that show the person")
    wrong: list[Row] = Field([], max_length=1000, description="rows that show somebody else")


class Refined(BaseModel):
    query: str
    right: int
    wrong: int


class Rows(BaseModel):
    rows: list[Shown]
    next: int | None = Field(description="`start` of the next page; null: this is the last")


class Added(BaseModel):
    rows: list[int] = Field(description="numbers of the persons that were found and added")
    source: str


class Group(BaseModel):
    count: int
    cameras: list[int]
    shown: list[Shown] = Field(description="some of its rows")


class GroupPage(BaseModel):
    groups: list[Group] = Field(description="largest first")
    total: int
    alone: int = Field(description="rows in no group")
    next: int | None


class Naming(Given):
    """Who is to be erased: rows, and everybody who is like a query: by a probability, or by a similarity."""

    rows: list[Row] = Field([], max_length=100_000, examples=[[7, 8]])
    tracks: bool = Field(True, description="with all rows of their tracks")
    query: QueryName | None = None
    above: float | None = Field(None, gt=0, le=1, description="a probability", examples=[0.9])
    above_similarity: float | None = Field(None, ge=-1, le=1, examples=[0.9])


class Named(BaseModel):
    rows: list[int] = Field(description="what /api/forget takes")
    shown: list[Shown] = Field(description="the first of them")


class Forget(Given):
    rows: list[Row] = Field(min_length=1, max_length=100_000, examples=[[7, 8]])


class JobBody(BaseModel):
    job: str
    kind: Literal["groups", "forget"]
    state: Literal["waiting", "running", "done", "failed"]
    detail: str = Field(description="how it ended")


class About(BaseModel):
    rows: int
    model: str
    detects: bool = Field(
        description="whether persons are found in a picture; else the picture is the person"
    )
    cameras: list[int]
    first: datetime | None
    last: datetime | None
    groups_at_most: int = Field(description="rows beyond which no groups are made")
    upload_bytes: int
    upload_pixels: int


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class SignIn(Given):
    token: str = Field(max_length=1000)


class SignedIn(BaseModel):
    signed_in: Literal[True] = True

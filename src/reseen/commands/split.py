"""``reseen split``: training, validation, query and gallery of labelled images, as a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reseen.data.benchmarks import persons
from reseen.data.parts import folder_per_person
from reseen.data.paths import shown
from reseen.data.queries import across_cameras
from reseen.data.readers import PERSON_FOLDER
from reseen.data.split import Shares, split_persons, validation_split, without_doubles, write_manifest
from reseen.errors import ReseenError
from reseen.progress import Progress
from reseen.records import ReidData, cameras_of
from reseen.tasks import Reading
from reseen.tasks.opening import open_crops
from reseen.tasks.usable import say_read, say_skipped, usable


def split(
    data: Path,
    *,
    out: Path = Path("split.csv"),
    queries: int | None = None,
    test: float | None = None,
    validation: float | None = None,
    seed: int | None = None,
    held_out: int | None = None,
    identities: int | None = None,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
) -> ReidData:
    """Write a manifest for --data in which nobody is trained on who is tested, and no picture is twice.

    See :func:`reseen.data.split.split_persons`. In a plain folder without ``identity_pattern`` every sub-folder is a
    person. With ``held_out`` the last training identities become query and gallery, and everything else is left out
    (:func:`reseen.data.split.validation_split`): settings that are chosen by its scores never saw the test set.

    Raises:
        ReseenError: images without persons, too few of them, options of both ways, or ``out`` cannot be written.
    """
    dealt = {"queries": queries, "test": test, "validation": validation, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in dealt.items() if value is not None}
    if out.is_dir() or not out.parent.is_dir():  # said before the images are looked at, not after
        raise ReseenError(f"cannot write {out}: name a file in a folder that exists with --out")
    opened = _labelled(data, Reading(camera_pattern, identity_pattern))
    if held_out is not None:
        if given:
            raise ReseenError(f"--held-out takes the last identities: leave --{next(iter(given))} out")
        say_read(opened, opened.skipped, print)
        parts = validation_split(opened, held_out, identities=identities)
    else:
        if identities is not None:
            raise ReseenError("--identities goes with --held-out: leave it out")
        if (
            opened.query is not None
            and opened.gallery is not None
            and ("test" in given or "queries" in given)
        ):
            raise ReseenError(
                f"{shown(data)} has query and gallery, which stay: leave --test and --queries out"
            )
        with Progress() as progress:
            whole = usable(opened, 1.0, progress)
        parts = split_persons(without_doubles(replace(whole, skipped=())), Shares(**given))
        say_skipped(parts.skipped, print)
    write_manifest(out, parts)
    print(_said(out, parts))
    return parts


def _labelled(data: Path, how: Reading) -> ReidData:
    opened = open_crops(data, "reseen split", how)
    if opened.train_identities is None and how.identity_pattern is None and folder_per_person(opened):
        print("each sub-folder is a person (--identity-pattern says otherwise)")
        return open_crops(data, "reseen split", replace(how, identity_pattern=PERSON_FOLDER))
    return opened


def _said(out: Path, parts: ReidData) -> str:
    words = [f"{len(parts.train):,} training images of {persons(parts.train_identities):,} persons"]
    if parts.validation is not None:
        count = persons(parts.validation.identities)
        words.append(f"{len(parts.validation):,} for validation of {count:,} others (--test-on validation)")
    if parts.query is not None and parts.gallery is not None:
        count = persons(parts.query.identities)
        words.append(
            f"{len(parts.query):,} queries and {len(parts.gallery):,} gallery images of {count:,} others"
        )
        if not across_cameras(cameras_of((*parts.query.crops, *parts.gallery.crops))):
            words.append("fewer than two cameras are known, so a match may be of the query's own")
    return f"{out}: {'; '.join(words)}"

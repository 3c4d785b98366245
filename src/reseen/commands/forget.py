"""``reseen forget``: rows of a gallery are erased, after a question, and their bytes with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reseen.commands.search import line_of
from reseen.errors import ReseenError
from reseen.gallery import Gallery, Receipt
from reseen.gallery.places import models_in
from reseen.gallery.queries import model_of

SHOWN = 10  # rows before the question


def forget(
    gallery: str,
    *,
    rows: Sequence[int] = (),
    tracks: Sequence[str] = (),
    sources: Sequence[str] = (),
    like: Path | None = None,
    above: float | None = None,
    above_similarity: float | None = None,
    expired: bool = False,
    finish: bool = False,
    run: Path | None = None,
    dry_run: bool = False,
    yes: bool = False,
) -> list[Receipt]:
    """Say who would be erased, ask, erase, and say what was proven.

    Sources and expired rows go from the tables of all models; rows, tracks and persons are of one.

    Args:
        tracks: ``SOURCE#N`` each.
        like: the person of an image: all rows that show them with a probability of ``above``, or are as similar as
            ``above_similarity`` says.
        finish: erase nobody new; only finish what was stopped.
        run: of which model the rows are; None: the gallery's own.

    Raises:
        ReseenError: nobody is named, a row that is not there, no answer to the question, no space, bytes that are left.
    """
    given = {
        "row": rows, "track": tracks, "source": sources, "like": [like] if like else [], "expired": [True] * expired
    }  # fmt: skip
    why = ", ".join(name for name, value in given.items() if value)
    if not why and not finish:
        raise ReseenError("say who is to be erased: --row, --track, --source, --like or --expired")
    named: dict[str, Any] = {"sources": sources, "expired": expired}
    if rows or tracks or like or above is not None or above_similarity is not None:
        model = model_of(gallery, run) if like or run else None
        galleries = [Gallery.open(gallery, model)]
        named |= {"rows": rows, "tracks": [_track(word) for word in tracks]}
        named |= {"like": like, "above": above, "above_similarity": above_similarity}
    else:
        galleries = [Gallery.open(gallery, about.fingerprint) for about in models_in(gallery)]
    receipts = []
    for one in galleries:
        chosen = one.matching(**named)
        _show(one, chosen, dry_run)
        if dry_run or not (len(chosen) or one.unfinished):
            continue
        if len(chosen) and not yes:
            _ask(len(chosen), gallery)
        receipt = one.forget(chosen.tolist(), why=why or "finished")
        if receipt is not None:
            receipts.append(receipt)
            print(_proof(receipt, gallery))
    return receipts


def _show(gallery: Gallery, chosen: Any, dry_run: bool) -> None:
    held = gallery.held
    places = np.flatnonzero(np.isin(held.column("row"), chosen))
    for hit in held.hits(places[:SHOWN], np.zeros(min(SHOWN, len(places)), np.float32)):
        print(f"  {line_of(hit)}")
    if len(places) > SHOWN:
        print(f"  and {len(places) - SHOWN} more")
    if dry_run or not len(places):
        print(
            f"{len(places)} of {len(held)} rows of {gallery.about} would be erased"
            if dry_run
            else "nobody is found"
        )
    if gallery.unfinished:
        print(f"an erasure of {gallery.unfinished} rows was stopped; it is finished by the next one")


def _ask(count: int, place: str) -> None:
    try:
        answer = input(f"erase {count} rows of {place} for good? [y/N] ")
    except EOFError:
        raise ReseenError("nobody answers: say --yes to erase without a question") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise ReseenError("nothing was erased")


def _proof(receipt: Receipt, place: str) -> str:
    if not receipt.files:
        return (
            f"{receipt.rows} rows are erased: {place} answers with none of them; no file of its disks was read "
            "(docs/gallery.md says when their bytes leave those)"
        )
    copies = (
        f"; {receipt.shared} of them stand in rows that stay (the name, or a copy)" if receipt.shared else ""
    )
    return (
        f"{receipt.rows} rows are erased: {receipt.needles} pieces of them were looked for in {receipt.files} files "
        f"({receipt.bytes / 1e6:.1f} MB){copies or ' and not found'} -> {place}/audit.jsonl"
    )


def _track(word: str) -> tuple[str, int]:
    source, mark, number = word.rpartition("#")
    if not mark or not number.isdecimal():
        raise ReseenError(f"--track {word} names no track: give SOURCE#N as reseen search shows it")
    return source, int(number)

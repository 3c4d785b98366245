"""A gallery: persons with features, to be searched for whom an image shows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.errors import ReseenError
from reseen.files import to_json
from reseen.gallery.erasing import Receipt, check_likeness, erase, named_rows, unfinished
from reseen.gallery.files import is_remote, locked
from reseen.gallery.how_sure import HowSure
from reseen.gallery.places import Rows, copied, models_in, new_rows_at, only_model, rows_at
from reseen.gallery.queries import about_of, feature_of
from reseen.gallery.ranking import hits_of
from reseen.gallery.rows import SMALL, DamagedError, Held, Hit, new_rows, numbered, unit
from reseen.gallery.store import About, give_back

if TYPE_CHECKING:
    from reseen.gallery.queries import Model
    from reseen.metrics.calibration import Calibration

LOOK = 1.0  # seconds for which a search does not look for what others wrote
RETRIES = 3  # of reading while somebody else erases and files go


class Gallery:
    """Rows of one model, in a folder or on object storage, answered from memory; or on Qdrant, which answers.

    One writer at a time, any number of readers; threads may share one. What other processes add or erase is seen
    within a second.
    """

    def __init__(self, place: str, about: About, model: Model | None = None) -> None:
        """As :meth:`open`, without reading what is there."""
        self.place, self.about, self.model = place, about, model
        self._store: Rows | None = None
        self._version: object = None
        self._held, self._looked = Held(), -float("inf")
        self._sure, self._lock = HowSure(), threading.RLock()

    @classmethod
    def open(
        cls, place: str | Path, model: Model | str | None = None, *, run: str | Path | None = None
    ) -> Gallery:
        """Open, or begin, a gallery.

        Args:
            place: a folder, ``s3://bucket/prefix``, or ``qdrant://host:port/name`` (docs/gallery.md).
            model: whose features are added and searched: an Embedder, a PersonSearcher, or the fingerprint of one.
                None: whose rows the gallery holds, where that is one model.
            run: where the model lies, noted for ``reseen search``.

        Raises:
            ReseenError: no gallery, one of another version, or one that is damaged.
        """
        where = str(place).rstrip("/") if is_remote(str(place)) else os.path.expanduser(str(place))
        if model is None:
            gallery = cls(where, only_model(where))
        elif isinstance(model, str):
            gallery = cls(where, About(model, "a model", 0))
        else:
            gallery = cls(where, about_of(model, where, run), model)
        gallery.refresh()
        return gallery

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held(self) -> Held:
        """What is searched: an unchanging picture of the rows."""
        return self._held

    # --- writing ---

    def add(
        self, features: ArrayLike, *, thumbnails: Sequence[bytes] | None = None, **details: Any
    ) -> NDArray[np.int64]:
        """Add rows, all of them or none: when this returns, they survive whatever happens to the process.

        Args:
            features: ``[n, D]`` of this gallery's model. Rows of length 1 are kept, in half precision.
            thumbnails: a small JPEG file of each.
            details: values ``[n]`` of ``sources`` (required: a path of each, relative to a root), ``frames``,
                ``seconds``, ``times``, ``cameras``, ``boxes`` (``[n, 4]``), ``scores``, ``tracks``, ``expiries``: see
                :class:`Hit`.

        Returns:
            Their numbers ``[n]``, above all that there ever were.

        Raises:
            ReseenError: NaN, another number of dimensions or details, a full disk, or another writer that goes on.
        """
        rows = new_rows(features, details, thumbnails)
        dim = rows.schema.field("vector").type.list_size
        self._check_dim(dim)
        with self._lock, locked(self.place):
            self.refresh()
            self._tidy()
            if self._store is None:
                self.about = replace(self.about, dim=dim)
                self._store = new_rows_at(self.place, self.about)
            first = self._store.next_number(self._last + 1)
            if len(rows):
                self._store.append(numbered(rows, first))
                self.refresh()
        return np.arange(first, first + len(rows))

    def matching(
        self,
        rows: Iterable[int] = (),
        *,
        like: Any = None,
        above: float | None = None,
        above_similarity: float | None = None,
        sources: str | Iterable[str] = (),
        tracks: Iterable[tuple[str, int]] = (),
        expired: bool = False,
    ) -> NDArray[np.int64]:
        """Numbers of the rows that :meth:`forget` would erase, rising.

        Args:
            rows: their numbers.
            like: an image or a feature as :meth:`search` takes it: all rows that show the same person with a
                probability of ``above`` or more, or whose similarity is ``above_similarity`` or more.
            sources: files, or folders with all below them.
            tracks: source and number of each.
            expired: those whose time has come.

        Raises:
            ReseenError: a number of no row, ``like`` without how much, or ``above`` where there is no probability.
        """
        held = self._held
        check_likeness(like is not None, above, above_similarity)
        chosen = named_rows(held, list(rows), sources, tracks, expired=expired)
        if like is not None:
            feature = unit(self.feature(like)[None])
            self._check_dim(feature.shape[1])
            alike = held.similarities(feature[0])
            if above is not None:
                chosen |= self._sure.probabilities(held, alike)[0] >= above
            elif above_similarity is not None:
                chosen |= alike >= above_similarity
        numbers: NDArray[np.int64] = held.column("row")[chosen]
        return numbers

    def forget(self, rows: Iterable[int] = (), *, why: str = "asked", **named: Any) -> Receipt | None:
        """Erase rows so that their bytes are gone from the gallery, and prove it: see :mod:`reseen.gallery.erasing`.

        What an eraser that was killed left is finished too. Backups and copies are nothing that this knows of.

        Args:
            rows, named: which, as :meth:`matching` takes it.
            why: a word for the receipt.

        Returns:
            The receipt, also a line of audit.jsonl; None where there is nothing to erase.

        Raises:
            ReseenError: as :meth:`matching`; no space; another writer; bytes that are still there.
        """
        with self._lock, locked(self.place):
            self.refresh()
            found = self.matching(rows, **named)
            if self._store is None or not (len(found) or unfinished(self._store)):
                return None
            receipt = erase(self._store, found.tolist(), why)
            self.refresh()
            return receipt

    def keep_calibration(self, calibration: Calibration) -> None:
        """Note how sure the model of these rows is: hits then have probabilities. Nothing where there is no row yet."""
        text = to_json(calibration.as_json())
        with self._lock, locked(self.place):
            self.refresh()
            if self._store is not None and text != self._sure.text:
                self._store.keep_calibration(text)
                self.refresh()

    @property
    def unfinished(self) -> int:
        """Rows of an erasure that was cut short: the next addition or erasure finishes it."""
        return 0 if self._store is None else len(unfinished(self._store))

    def _tidy(self) -> None:
        """Finish an erasure that was cut short; join the fragments that small additions leave."""
        if self._store is None:
            return
        if unfinished(self._store):
            erase(self._store, [], "finished")
        elif self._store.scattered():
            self._store.compact()
        self.refresh()

    def look(self) -> None:
        """Refresh, where a second has passed; not while another thread adds or erases: answers need not wait for it."""
        if time.monotonic() - self._looked > LOOK and self._lock.acquire(blocking=False):
            try:
                self.refresh()
            finally:
                self._lock.release()

    def refresh(self) -> None:
        """See what other processes added or erased; searches do so once a second."""
        with self._lock:
            self._looked = time.monotonic()
            if self._store is None:
                own = [
                    rows for rows in rows_at(self.place) if rows.about.fingerprint == self.about.fingerprint
                ]
                if not own:
                    return
                self._store, self.about = own[0], own[0].about
            for _ in range(RETRIES):
                try:
                    self._read(self._store)
                    return
                except ReseenError:
                    time.sleep(0.05)
            self._read(self._store)

    def _read(self, store: Rows) -> None:
        now = store.latest()
        if now.version == self._version:
            return
        try:
            held = replace(self._held, away=store.away).and_more(store.batches(now, after=self._last))
        except DamagedError as error:
            raise ReseenError(f"{self.place} is damaged: {error}; index again into another gallery") from None
        held = held.only(store.kept(now, held.column("row")))
        if len(held) > len(self) + SMALL:
            give_back()
        if (text := store.calibration(now)) != self._sure.text:
            self._sure = HowSure(text)
        self._held, self._version = held, now.version

    @property
    def _last(self) -> int:
        return int(self._held.column("row")[-1]) if len(self) else -1

    # --- searching ---

    def search(self, query: Any, k: int = 10, *, rerank: bool = False, **filters: Any) -> list[Hit]:
        """The k most similar rows, best first; ties go to the row that was added first.

        Rows of one track count once, by the most similar of them. Rows that have expired are not found. Hits have a
        probability where the gallery has a calibration of its model, and none where they are re-ranked.

        Args:
            query: an image of a person (path, PIL image, array uint8 ``[H, W, 3]``), where the gallery was opened with
                a model; or a feature ``[D]`` of this gallery's model.
            rerank: order the first 200 (or 10 k) by k-reciprocal distances among them (Zhong et al. 2017).
            filters: ``cameras``, ``not_cameras`` (one or several), ``after``, ``before`` (a datetime, ISO text or
                seconds since 1970; rows without a time pass neither), ``sources`` (files, or folders).

        Raises:
            ReseenError: an image that cannot be read, NaN, or the feature of another model.
        """
        return self.search_many(self.feature(query)[None], k, rerank=rerank, **filters)[0]

    def feature(self, query: Any) -> NDArray[np.float32]:
        """The feature ``[D]`` of a query as :meth:`search` takes it."""
        if isinstance(query, np.ndarray) and query.ndim == 1:
            return query
        if self.model is None:
            raise ReseenError(
                "a gallery that is searched by images is opened with their model: Gallery.open(path, model)"
            )
        return feature_of(self.model, query)

    def search_many(
        self, features: ArrayLike, k: int = 10, *, rerank: bool = False, refined: bool = False, **filters: Any
    ) -> list[list[Hit]]:
        """As :meth:`search`, for features ``[Q, D]`` at once: the matrix is read once for all of them.

        ``refined``: they are made of several images each, so that no hit has a probability.
        """
        self.look()
        queries = unit(features)
        self._check_dim(queries.shape[1])
        if self._store is None:
            self._refuse_others()
        held = self._held
        if not len(held):
            return [[] for _ in queries]
        passes = held.where(now=time.time(), **filters)
        chosen = None if passes.all() else np.flatnonzero(passes)
        hits = hits_of(held, queries, k, chosen, reranked=rerank)
        return hits if rerank or refined else self._sure.said(held, hits)

    @property
    def why_no_probability(self) -> str:
        """Why hits have none, and what to do; "" where they have one."""
        return self._sure.why_not(self._held)

    def sources(self) -> set[str]:
        """Names of all files of which there are rows."""
        if self._held.table is None:
            return set()
        return {os.fsdecode(name) for name in self._held.table["source"].unique().to_pylist()}

    def copy_to(self, place: str) -> int:
        """Copy all rows, with their numbers, into another gallery; how many.

        Raises:
            ReseenError: rows of this model are there, or there is no space.
        """
        if self._store is None:
            return 0
        with locked(place):
            if any(about.fingerprint == self.about.fingerprint for about in models_in(place)):
                raise ReseenError(f"{place} holds rows of {self.about}: copy into another gallery")
            return copied(self._store, place)

    def thumbnails(self, rows: Sequence[int]) -> dict[int, bytes]:
        """JPEG files by number of row; of rows that are no more, none."""
        if self._store is None:
            return {}
        places = np.searchsorted(self._held.column("row"), rows)  # unless somebody has just erased others
        return self._store.thumbnails(rows, places.tolist())

    def _check_dim(self, dim: int) -> None:
        if self.about.dim not in (0, dim):
            raise ReseenError(
                f"these features have {dim} dimensions and those of {self.about} {self.about.dim}: "
                "features of two models cannot be compared"
            )

    def _refuse_others(self) -> None:
        others = ", ".join(map(str, models_in(self.place)))
        if others:
            raise ReseenError(
                f"{self.place} holds rows of {others} and none of {self.about}: features of two models cannot be "
                "compared; search with the run that indexed it, or index with this one"
            )

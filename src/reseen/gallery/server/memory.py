"""What the server remembers for a short while: whom somebody searches for, as a feature and nothing else."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from reseen.gallery.server.problems import ProblemError

SECONDS = 1800.0  # for which a query is remembered after its last use
QUERIES = 5000  # that are remembered at most: 40 MB of 2048 dimensions; the longest unused goes first
Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The last ``most`` values, each for ``seconds`` since it was last asked for; threads may share it."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self._values: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._lock = threading.RLock()

    def __setitem__(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = (time.monotonic(), value)
            self._values.move_to_end(key)
            self._forget_old()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            self._forget_old()
            found = self._values.get(key)
            if found is None:
                return None
            self[key] = found[1]
            return found[1]

    def pop(self, key: Key) -> None:
        with self._lock:
            self._values.pop(key, None)

    def __len__(self) -> int:
        with self._lock:
            self._forget_old()
            return len(self._values)

    def _forget_old(self) -> None:
        """The longest unused come first."""
        oldest = time.monotonic() - self.seconds
        while self._values:
            used, _ = next(iter(self._values.values()))
            if used >= oldest and len(self._values) <= self.most:
                return
            self._values.popitem(last=False)


@dataclass(frozen=True)
class Query:
    """A feature ``[D]``, and whether it is made of several images."""

    feature: NDArray[np.float32]
    refined: bool


class Queries:
    """Queries by names that nobody guesses."""

    def __init__(self) -> None:
        self._queries: Recent[str, Query] = Recent(QUERIES, SECONDS)

    def remember(self, feature: NDArray[np.float32], *, refined: bool = False) -> str:
        name = secrets.token_urlsafe(16)
        self._queries[name] = Query(feature, refined)
        return name

    def __getitem__(self, name: str) -> Query:
        found = self._queries.get(name)
        if found is None:
            raise ProblemError(
                404, "this query is no more (they are kept for half an hour): find the person again"
            )
        return found

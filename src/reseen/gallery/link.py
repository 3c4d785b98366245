"""How a Qdrant server is reached: its address, a client, and its errors in one line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from reseen.errors import ReseenError

TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Address:
    """``qdrant://HOST:PORT/NAME?shards=S&replicas=R&https=1``; shards and replicas hold for a gallery that begins."""

    url: str
    name: str
    shards: int
    replicas: int

    @classmethod
    def of(cls, place: str) -> Address:
        usage = f"{place} is no address: give one like qdrant://HOST:6333/NAME?shards=6&replicas=2"
        try:
            parts = urlsplit(place)
            given = dict(parse_qsl(parts.query, strict_parsing=True) if parts.query else [])
            numbers = [int(given.pop(key, "1")) for key in ("shards", "replicas")]
            scheme, name = "https" if given.pop("https", "0") == "1" else "http", parts.path.strip("/")
            if given or min(numbers) < 1 or not parts.hostname or not re.fullmatch(r"[\w.-]+", name):
                raise ReseenError(usage)
            return cls(f"{scheme}://{parts.hostname}:{parts.port or 6333}", name, *numbers)
        except ValueError:
            raise ReseenError(usage) from None


@lru_cache(maxsize=8)
def connect(url: str) -> Any:
    """A client, which connects when it is first used; the key comes from ``QDRANT_API_KEY``.

    Raises:
        ReseenError: the extra is not installed.
    """
    if not find_spec("qdrant_client"):
        raise ReseenError(
            "a gallery on Qdrant needs packages that are not installed: pip install 'reseen[qdrant]'"
        )
    from qdrant_client import QdrantClient

    key = os.environ.get("QDRANT_API_KEY")
    return QdrantClient(url=url, api_key=key, timeout=TIMEOUT, check_compatibility=False)


@contextlib.contextmanager
def answering(place: str) -> Iterator[None]:
    """Turn whatever the client says into one line."""
    try:
        yield
    except (ReseenError, GeneratorExit):
        raise
    except Exception as error:
        said = " ".join(str(getattr(error, "source", error)).split())[:200]
        raise ReseenError(
            f"the gallery {place} cannot be used ({said}): check that Qdrant answers there, and QDRANT_API_KEY"
        ) from error


def settings_of(address: Address) -> dict[str, Any]:
    """A write is acknowledged by most replicas, and most of them are asked: what was written is read."""
    counts = {"shard_number": address.shards, "replication_factor": address.replicas}
    return {**counts, "write_consistency_factor": address.replicas // 2 + 1}


def pages(
    client: Any, collection: str, size: int, first: int | None = None, **what: Any
) -> Iterator[list[Any]]:
    """Points in the order of their numbers, from ``first`` on."""
    while True:
        points, first = client.scroll(collection, limit=size, offset=first, consistency="majority", **what)
        if points:
            yield points
        if first is None:
            return

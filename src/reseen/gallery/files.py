"""The files of a gallery, in a folder or on object storage: the one way to look at them and to take notes there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from pyarrow import fs

from reseen.errors import ReseenError
from reseen.files import write_file

WAIT = 60.0  # seconds for another writer's batch; an erasure may take longer
CHUNK, REMOTE_CHUNK = 2**19, 2**24  # bytes that are read together; each time is a request to a server


def is_remote(place: str) -> bool:
    """Whether it is an address, and no folder."""
    return place.startswith("s3://") or is_qdrant(place)


def is_qdrant(place: str) -> bool:
    return place.startswith("qdrant://")


class Files:
    """Everything below ``place``: a folder, or ``s3://bucket/prefix`` (keys, endpoint and region from the
    environment, as S3's own tools read them; keys are read by Arrow)."""

    def __init__(self, place: str) -> None:
        self.place = place
        if is_remote(place):
            self.system, self.root = _s3(), place.removeprefix("s3://").rstrip("/")
        else:
            self.system, self.root = fs.LocalFileSystem(), os.path.abspath(place)

    def names(self) -> list[str]:
        """All files, relative, sorted; none where nothing is."""
        return sorted(one.path[len(self.root) + 1 :] for one in self._all() if one.is_file)

    def size(self) -> int:
        return sum(one.size or 0 for one in self._all())

    def _all(self) -> list[fs.FileInfo]:
        where = fs.FileSelector(self.root, recursive=True, allow_not_found=True)
        return list(self.system.get_file_info(where))

    def has(self, name: str) -> bool:
        return bool(self.system.get_file_info(f"{self.root}/{name}").is_file)

    def chunks(self, name: str, overlap: int) -> Iterator[memoryview]:
        """The content in pieces, each with the last ``overlap`` bytes of the one before it. A piece is gone with the
        next: all of them lie in one buffer, which stays in the processor's cache."""
        buffer = memoryview(bytearray(overlap + (REMOTE_CHUNK if is_remote(self.place) else CHUNK)))
        end = 0
        with self.system.open_input_stream(f"{self.root}/{name}") as file:
            while count := file.readinto(buffer[end:]):
                end += count
                yield buffer[:end]
                buffer[: min(overlap, end)] = bytes(buffer[max(0, end - overlap) : end])
                end = min(overlap, end)

    def read(self, name: str) -> bytes:
        if not self.has(name):
            return b""
        with self.system.open_input_stream(f"{self.root}/{name}") as file:
            return bytes(file.read())

    def write(self, name: str, content: str) -> None:
        """Object storage replaces a file whole; a folder does so here."""
        if is_remote(self.place):
            with self.system.open_output_stream(f"{self.root}/{name}") as file:
                file.write(content.encode())
        else:
            write_file(Path(self.root) / name, content, "free space and try again")

    def remove(self, name: str) -> None:
        if self.has(name):
            self.system.delete_file(f"{self.root}/{name}")


@contextlib.contextmanager
def locked(place: str) -> Iterator[None]:
    """Alone among the writers of this machine. For an address the lock lies on this machine too.

    Raises:
        ReseenError: another process goes on writing.
    """
    if is_remote(place):
        key = hashlib.blake2b(place.partition("?")[0].encode(), digest_size=10).hexdigest()
        path = Path(tempfile.gettempdir()) / f"reseen-{key}.lock"
    else:
        path = Path(place) / "writer.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=WAIT):
            yield
    except Timeout as error:
        raise ReseenError(
            f"another process is writing to {place}: wait until it is done, then try again"
        ) from error


def _s3() -> fs.FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    scheme, _, host = endpoint.partition("://") if endpoint else ("https", "", None)
    region = os.environ.get("AWS_REGION")  # Arrow alone would prefer AWS_DEFAULT_REGION
    return fs.S3FileSystem(scheme=scheme, endpoint_override=host, region=region)

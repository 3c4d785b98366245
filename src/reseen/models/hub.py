"""Models by their name on the Hugging Face hub: out of its cache, or from the network if somebody asks for that."""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from reseen.errors import ReseenError

FILES = ("*.safetensors", "config.json", "README.md")  # nothing that could run
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def local_copy(source: str | Path, *, download: bool = False) -> Path:
    """``source`` as a path; where nothing lies there and it could be a name on the hub, its copy in the hub's cache.

    Args:
        download: fetch it, or what is newer. Without it nothing is asked of any network.

    Raises:
        ReseenError: the cache has no such model, or it could not be fetched.
    """
    place = Path(source)
    if isinstance(source, Path) or place.exists() or not _NAME.fullmatch(source):
        return place
    try:
        copy = huggingface_hub.snapshot_download(
            source, allow_patterns=list(FILES), local_files_only=not download
        )
    except LocalEntryNotFoundError as error:
        more = "could not be fetched" if download else "download=True fetches it, if it is a model on the hub"
        raise ReseenError(f"{source} is neither here nor in the hub's cache: {more}") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ReseenError(f"{source} could not be fetched from the hub ({reason})") from error
    return Path(copy)

"""``reseen serve``: the page and the HTTP API of a gallery."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from reseen.errors import ReseenError
from reseen.footage.finding import finder
from reseen.gallery import Gallery
from reseen.gallery.queries import model_of
from reseen.gallery.server import Served, Token, make_app
from reseen.gallery.server.guard import LOOPBACK
from reseen.gallery.server.scenes import Scenes
from reseen.inference import PersonSearcher

CONNECTIONS = 256  # at a time


def serve(
    gallery: str,
    *,
    run: Path | None = None,
    detector: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: Sequence[str] = (),
    token_file: Path | None = None,
    images: Sequence[str] = (),
) -> None:
    """Serve until it is interrupted; the address is printed when it can be reached.

    Args:
        images: ``[NAME=]PATH`` each: folders that were indexed (with ``--prefix NAME``), so that a match can show the
            scene that it was seen in.

    Raises:
        ReseenError: no gallery, model or folder, a port that is taken, or an address beyond this machine without a
            token.
    """
    import uvicorn

    token = None if token_file is None else Token.read(token_file)
    if host not in LOOPBACK and token is None:
        raise ReseenError(
            f"{host} can be reached from other machines: give a token with --token-file, or leave --host out"
        )
    app = make_app(opened(gallery, run, detector, images), token=token, names=(host, *names))
    with _bound(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listener.getsockname()[1]}/ (Ctrl+C stops it)", flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # queries are in it
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
        with suppress(KeyboardInterrupt):  # not raised where the shell has SIGINT ignored
            uvicorn.Server(config).run(sockets=[listener])
        print("stopped; what was searched for is forgotten")


def opened(place: str, run: Path | None, detector: Path | None, images: Sequence[str] = ()) -> Served:
    """The gallery with the model of its rows: in ``run``, or where it was when the gallery was indexed."""
    scenes = Scenes(dict(map(root_of, images)))
    model = model_of(place, run)
    gallery = Gallery.open(place, model)
    # Refuses another model, and compiles the kernels.
    gallery.search_many(np.ones((1, model.dim), np.float32), 1)
    return Served(
        gallery,
        finder(model, detector=detector),
        detects=isinstance(model, PersonSearcher) or detector is not None,
        cluster=model.config.cluster,
        scenes=scenes,
    )


def root_of(words: str) -> tuple[str, Path]:
    """``[NAME=]PATH``: a folder may have = in its name, where it begins with / or ./"""
    name, found, path = words.partition("=")
    if not found or "/" in name.rstrip("/"):
        name, path = "", words
    if not Path(path).expanduser().is_dir():
        raise ReseenError(
            f"--images {words}: there is no such folder: give the one that was indexed, as [NAME=]PATH"
        )
    return name.rstrip("/"), Path(path).expanduser()


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ReseenError(f"--port {port} is none: give 0 (a free one) to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ReseenError(
            f"cannot listen at {host}, port {port} ({error}): choose another with --port"
        ) from error

"""The gallery in a browser and over HTTP: ``reseen serve``."""

from importlib.util import find_spec

from reseen.errors import ReseenError

if not (find_spec("fastapi") and find_spec("uvicorn")):
    raise ReseenError("serving needs packages that are not installed: pip install 'reseen[gallery]'")

from reseen.gallery.server.app import make_app
from reseen.gallery.server.guard import Token
from reseen.gallery.server.state import Served

__all__ = ["Served", "Token", "make_app"]

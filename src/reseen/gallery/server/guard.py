"""Who may ask what, decided before a request is read: Host, Origin, token and size; and headers of every answer.

A page of another site must not make a browser ask on its behalf: a name that resolves to this machine (DNS rebinding)
fails on ``Host``, a form or script of another origin on ``Origin`` and ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reseen.errors import ReseenError
from reseen.gallery.server.problems import problem

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "reseen"
LEAST_TOKEN = 16  # characters: what cannot be guessed needs no limit on guesses
JSON_BYTES = 2**21  # of a body that is no picture
BODY_SECONDS = 60.0  # in which all of a body has to arrive: who sends a byte a minute holds no place for long
UPLOADS = ("/api/find", "/api/rows")
OPEN = ("/healthz", "/sign-in", "/api/sign-in")  # without a token, and /static/
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",  # pictures of persons stay in no browser's cache
}


class Token:
    """The word that lets somebody in: as ``Authorization: Bearer WORD``, or as a cookie made of it."""

    def __init__(self, word: str) -> None:
        if len(word) < LEAST_TOKEN or not word.isascii():
            raise ReseenError(
                f"a token has {LEAST_TOKEN} characters (ASCII) or more: python -c 'import secrets; "
                "print(secrets.token_urlsafe())' makes one"
            )
        self._word = word.encode()
        # the cookie is not the word itself, and ends with the process
        self.cookie = hmac.new(secrets.token_bytes(32), self._word, hashlib.sha256).hexdigest()

    @classmethod
    def read(cls, file: Path) -> Token:
        try:
            return cls(file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ReseenError(f"the token file {file} cannot be read ({error})") from error

    def is_word(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self._word)

    def admits(self, headers: Headers) -> bool:
        kind, _, word = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_word(word.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.cookie.encode())


class Guard:
    """ASGI middleware: answers what is not to be handled, and adds :data:`HEADERS` to every answer."""

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str] = (), token: Token | None = None, upload_bytes: int
    ) -> None:
        self.app, self.token, self.upload_bytes = app, token, upload_bytes
        self.hosts = LOOPBACK | {name.lower() for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the server's own start and stop; there are no websockets
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
        else:
            await self.app(scope, self._counted(scope, receive), send_with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, path = Headers(scope=scope), scope["path"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or name_of(hosts[0]) not in self.hosts:
            return problem(421, "this server has another name: --name NAME of reseen serve allows one more")
        origin = headers.get("origin")
        if origin is not None and netloc_of(origin) != hosts[0].lower():
            return problem(403, "a page of another origin may not ask")
        if path.startswith("/api/") and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return problem(403, "a page of another site may not ask")
        shown = path in OPEN or path.startswith("/static/")
        if self.token is not None and not shown and not self.token.admits(headers):
            if path == "/":
                return RedirectResponse("/sign-in", 303)
            hint = "send the token: Authorization: Bearer TOKEN, or sign in at /sign-in"
            return problem(401, hint, {"www-authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._most(path):
            return problem(413, too_large(self._most(path)), {"connection": "close"})
        return None

    def _most(self, path: str) -> int:
        return self.upload_bytes if path in UPLOADS else JSON_BYTES

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """A body may come without its length, and slowly."""
        most, count, whole = self._most(scope["path"]), 0, False
        until = asyncio.get_running_loop().time() + BODY_SECONDS

        async def counted() -> Message:
            nonlocal count, whole
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request took too long to arrive: send it again") from None
            whole = not message.get("more_body", False)
            count += len(message.get("body", b""))
            if count > most:
                raise HTTPException(413, too_large(most), {"connection": "close"})
            return message

        return counted


def too_large(most: int) -> str:
    return f"at most {most:,} bytes may be sent: make the picture smaller"


def name_of(host: str) -> str:
    """``Host`` without its port and the brackets of an IPv6 address; "" where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def netloc_of(origin: str) -> str:
    """Name and port of an origin; "" for ``null``. The scheme is the proxy's where there is one."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""

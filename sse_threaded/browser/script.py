"""The file that browsers get, under a name with its hash, so that they may keep it for ever."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.wrappers import Request, Response

from ..protocol.problem import problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_TYPE = "text/javascript; charset=utf-8"

# A year is the longest time that caches honour (RFC 9111). The name changes with the content.
_FOR_EVER = "public, max-age=31536000, immutable"


class Script(NamedTuple):
    """The file.

    :ivar name: such as ``live-0123456789abcdef.js``; it has the beginning of the SHA-256 of the content.
    :ivar data: its bytes, an ES module.
    """

    name: str
    data: bytes


@lru_cache(maxsize=1)
def script() -> Script:
    """Return ``live.js`` for browsers; it is read once."""
    data = (files(__package__ or __name__) / "static" / "sse_threaded" / "live.min.js").read_bytes()
    return Script(f"live-{hashlib.sha256(data).hexdigest()[:16]}.js", data)


@lru_cache(maxsize=1)
def _compressed() -> bytes:
    return gzip.compress(script().data, mtime=0)


class LiveScript:
    """A WSGI app that serves the file to any path whose last part is its name; mount it where you like.

    ::

        from werkzeug.middleware.dispatcher import DispatcherMiddleware

        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/live": LiveScript()})

    Then the page imports ``/live/<name>``; see :func:`script`. Browsers and caches keep the file for a year, and
    do not ask again. Pages of other origins may load it, too.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self.answer(Request(environ))(environ, start_response)

    def answer(self, request: Request) -> Response:
        """Return the response to one request: the file, or 404.

        :param request: Werkzeug's or Flask's.
        """
        if request.path.rpartition("/")[2] != script().name:
            return problem(404, f"There is no such file here; the newest is {script().name}.")
        if request.method not in ("GET", "HEAD"):
            return problem(405, "The file is read with GET.", {"Allow": "GET, HEAD"})
        response = Response(script().data, content_type=_TYPE)
        if request.accept_encodings["gzip"]:
            response.set_data(_compressed())
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Cache-Control"] = _FOR_EVER
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["X-Content-Type-Options"] = "nosniff"
        # A module that a page of another origin imports is fetched with CORS. Everybody may read this file.
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

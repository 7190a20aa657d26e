"""Werkzeug's response around a stream. It is made in full only if an app looks at it or changes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response

from .event import CONTENT_TYPE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# No cache keeps an answer, no proxy buffers it, and its kind depends on Accept.
HEADERS = (("X-Accel-Buffering", "no"), ("Vary", "Accept"))
# Development proxies (express, Vite, Next) compress answers that may be transformed, and wait for a few kilobytes
# first.
STREAM_HEADERS = (("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-cache, no-transform"), *HEADERS)


class StreamResponse(Response):
    """A response with status 200 whose body is a stream of events.

    Most apps return it as it is. So at first it has only its body, and costs little. The first use of another part
    makes all of them: a header, the status, a function to be called on close, or another class (Flask does that).

    :param body: an iterable of bytes.
    """

    def __init__(self, body: Iterable[bytes]) -> None:
        vars(self)["response"] = body

    def _complete(self) -> None:
        attributes = vars(self)
        if "headers" not in attributes and "response" in attributes:
            whole = Response(self.response, headers=STREAM_HEADERS, direct_passthrough=True)
            attributes.update({**vars(whole), **attributes})

    def __getattr__(self, name: str) -> Any:
        # Python calls this if the attribute is missing.
        self._complete()
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._complete()
        super().__setattr__(name, value)

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """See Werkzeug, which would look for a Location and a length. A stream has neither."""
        return self.headers

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """See Werkzeug."""
        if len(vars(self)) > 1 or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response("200 OK", list(STREAM_HEADERS))  # a middleware may change the list (PEP 3333)
        return self.response  # type: ignore[return-value]  # of bytes, as it was given

"""Pages of other origins (CORS: WHATWG Fetch, section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Response

from ..protocol.problem import problem

# As a browser writes an origin: in lower case, without a path and without the scheme's own port.
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")

# Fields that clients other than EventSource set. EventSource never asks before (a preflight): a page can set no
# field, and the browser sends Last-Event-ID by itself.
_HEADERS = "Authorization, Cache-Control, Last-Event-ID"

# Seconds for which a browser remembers that it may ask.
_MAX_AGE = "7200"


class CrossOrigin:
    """The origins whose pages may read streams, with their cookies.

    :param origins: such as ``"https://app.example"``, exactly as browsers send them.
    :raises ValueError: one of them is not an origin.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        if isinstance(origins, str):
            raise ValueError(f"origins must be a list of origins, not the text {origins!r}")
        self._origins = frozenset(origins)
        for origin in self._origins:
            if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
                how = "write it as a browser does, such as 'https://app.example' or 'http://localhost:5173'"
                raise ValueError(f"{origin!r} is not an origin; {how}")

    def answer(self, environ: Mapping[str, Any]) -> Response | None:
        """Return the answer to a preflight, and to a page that may not read; ``None`` for all other requests.

        :param environ: the request's WSGI environ.
        """
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not self._may_read(origin, environ):
            response = problem(403, f"Pages of {origin[:100]} may not read these events.")
        elif environ.get("REQUEST_METHOD") == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            allowed = {"Access-Control-Allow-Methods": "GET", "Access-Control-Allow-Headers": _HEADERS}
            response = Response(status=204, headers={**allowed, "Access-Control-Max-Age": _MAX_AGE})
        else:
            return None
        self.mark(response, environ)
        return response

    def mark(self, response: Response, environ: Mapping[str, Any]) -> None:
        """Add the fields that let a page read the response, if it may."""
        response.vary.add("Origin")
        origin = environ.get("HTTP_ORIGIN")
        if origin in self._origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"

    def _may_read(self, origin: str, environ: Mapping[str, Any]) -> bool:
        # A browser may name the origin also in a request to that origin itself.
        return origin in self._origins or origin.partition("://")[2] == environ.get("HTTP_HOST")

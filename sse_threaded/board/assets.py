"""The page and its files, read once at the start and answered with an ETag."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import PurePosixPath

from markupsafe import escape
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Request, Response

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Nothing but our own files, and no inline script or style: a title that is markup stays text even if the
# page should forget to treat it so.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_MISSING = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Not found</title>
<link rel="icon" href="/static/favicon.svg">
<link rel="stylesheet" href="/static/board.css">
<main><p class="waiting">{} <a href="/boards/board-1">Go to the first board</a></p></main>
</html>
"""


class Assets:
    """The package's own files by name: ``page.html`` and what is in ``static``."""

    def __init__(self) -> None:
        here = files(__package__ or __name__)
        found = [here / "page.html", *(here / "static").iterdir()]
        self._files = {item.name: item.read_bytes() for item in found if _suffix(item.name) in _TYPES}

    def missing(self, detail: str) -> Response:
        """A page that says what is not there, for people in a browser; everybody else gets a problem.

        :param detail: the sentence.
        """
        response = Response(_MISSING.format(escape(detail)), 404, content_type=_TYPES[".html"])
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Cache-Control"] = "no-store"
        return response

    def answer(self, request: Request, name: str) -> Response:
        """The file, or 304 when the client has it (RFC 9110, section 13).

        :param name: the file's name, without a folder.
        :raises NotFound: there is none.
        """
        data = self._files.get(name)
        if data is None:
            raise NotFound("There is no such file; the board is at /boards/board-1.")
        response = Response(data, content_type=_TYPES[_suffix(name)])
        response.headers["Cache-Control"] = "no-cache"  # keep it, but ask: a new release shows at once
        response.headers["Content-Security-Policy"] = _POLICY
        response.set_etag(hashlib.sha256(data).hexdigest()[:16])
        return response.make_conditional(request)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix

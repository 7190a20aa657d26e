"""The page and its files: read once at the start, answered with an ETag. ``live.js`` has a name with its hash."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import PurePosixPath

from markupsafe import escape
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Request, Response

from ..browser import LiveScript, script
from .model import Board
from .page import Page

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# The page may load its own files only, and no inline script or style. So a title that contains markup stays text,
# even if the page has a bug there.
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
        "require-trusted-types-for 'script'",  # browsers that support it never turn text into HTML
    )
)

_PROBLEM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/static/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/board.css">
</head>
<body>
<main class="problem"><h1>{title}</h1> <p>{detail}</p> <p>{way}</p></main>
</body>
</html>
"""

_WAY_ON = '<a href="/boards/board-1">Go to the first board</a>'
_WAY_AGAIN = '<a href="">Try again</a>'


class Assets:
    """The files that the board serves, by name; any thread may read them."""

    def __init__(self) -> None:
        here = files(__package__ or __name__)
        found = (here / "static").iterdir()
        self._files = {item.name: item.read_bytes() for item in found if _suffix(item.name) in _TYPES}
        self._live = LiveScript()
        self._page = Page((here / "page.html").read_text(encoding="utf-8"), f"/static/{script().name}")

    def page(self, request: Request, board: Board) -> Response:
        """Answer with the page of a board, or with 304 when the client has just this one."""
        return _answer(request, self._page.render(board).encode(), ".html")

    def for_people(self, problem: Response) -> None:
        """Replace the body of a problem by a page that says the same, for people in a browser.

        :param problem: a response of :func:`sse_threaded.protocol.problem.problem`; its status and headers stay.
        """
        fields = json.loads(problem.get_data())
        way = _WAY_AGAIN if problem.status_code >= 500 else _WAY_ON
        if problem.status_code == 421:  # every address at this host is refused
            way = ""
        page = _PROBLEM.format(title=escape(fields["title"]), detail=escape(fields["detail"]), way=way)
        problem.set_data(page)
        problem.content_type = _TYPES[".html"]
        problem.headers["Content-Security-Policy"] = _POLICY

    def answer(self, request: Request, name: str) -> Response:
        """Answer with a file, or with 304 when the client has it already (RFC 9110, section 13).

        :param name: the file's name, without a folder.
        :raises NotFound: there is no such file.
        """
        if name == script().name:
            return self._live.answer(request)
        data = self._files.get(name)
        if data is None:
            raise NotFound("There is no such file; the board is at /boards/board-1.")
        return _answer(request, data, _suffix(name))


def _answer(request: Request, data: bytes, suffix: str) -> Response:
    response = Response(data, content_type=_TYPES[suffix])
    # the browser keeps it but asks each time, so a new release shows at once
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = _POLICY
    response.set_etag(hashlib.sha256(data).hexdigest()[:16])
    return response.make_conditional(request)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix

"""The differences between gunicorn's releases, 23 to 27."""

from __future__ import annotations

from typing import Any

from gunicorn import http
from gunicorn.http import errors, wsgi
from gunicorn.http.parser import RequestParser

# The errors of a response's invalid field. From 25 on they are own ones, as the fault is the app's.
InvalidResponseName = getattr(errors, "InvalidResponseHeaderName", errors.InvalidHeaderName)
InvalidResponseValue = getattr(errors, "InvalidResponseHeader", errors.InvalidHeader)


def new_parser(cfg: Any, sock: Any, client: Any) -> Any:
    """gunicorn's parser for the setting ``protocol``, which came with 25."""
    return getattr(http, "get_parser", RequestParser)(cfg, sock, client)


_make_early_hints = getattr(wsgi, "_make_early_hints_callback", None)

# Whether the environ has ``wsgi.early_hints``, which came with 25.
HAS_EARLY_HINTS = _make_early_hints is not None


def send_early_hints(resp: Any, headers: Any) -> None:
    """Send fields before a response, as gunicorn does."""
    if _make_early_hints is not None:
        _make_early_hints(resp.req, resp.sock, resp)(headers)


def wants_http2(cfg: Any) -> bool:
    """Whether a setting asks for HTTP/2, which came with 25."""
    return "h2" in getattr(cfg, "http_protocols", ()) or getattr(cfg, "http2_cleartext", "off") != "off"


def leave_out_http2(cfg: Any) -> None:
    """Have TLS clients choose HTTP/1.1."""
    if wants_http2(cfg):
        cfg.set("http_protocols", "h1")

"""The differences between gunicorn's releases, 23 to 27. No other module of this room asks for the release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gunicorn import http
from gunicorn.http import errors, unreader, wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser

# The errors of a response's invalid field. From 27 on they are not those of a request, as it is the app's fault.
InvalidResponseName = getattr(errors, "InvalidResponseHeaderName", errors.InvalidHeaderName)
InvalidResponseValue = getattr(errors, "InvalidResponseHeader", errors.InvalidHeader)

# The errors of a malformed chunked body. Before 27 some are socket errors, which gunicorn does not answer.
MALFORMED = (
    ParseException,
    errors.InvalidChunkSize,
    errors.ChunkMissingTerminator,
    getattr(errors, "InvalidChunkExtension", ParseException),  # came with 25
)

# Whether the parser refuses a malformed request as soon as it can: from 27 on. Before, it may wait for more.
REFUSES_AT_ONCE = issubclass(errors.InvalidChunkSize, ParseException)

# Whether the parser says how many bytes it still wants: from 27 on.
_HINTS_SIZE = "size_hint" in unreader.SocketUnreader.chunk.__code__.co_varnames


class MalformedRequest(errors.InvalidHeader):  # type: ignore[misc]  # gunicorn has no annotations
    """A client's fault for which gunicorn before 27 has no error with an answer; this one is answered with 400.

    :param reason: its words.
    """

    def __str__(self) -> str:
        return str(self.hdr)


class _Response(wsgi.Response):  # type: ignore[misc]  # gunicorn has no annotations
    _omits_body: bool

    def sendfile(self, respiter: Any) -> bool:
        if self._omits_body:
            self.send_headers()
            return True
        return bool(super().sendfile(respiter))


# gunicorn's response. Before 26 it would send a file also where there is no body, such as to HEAD.
Response: Any = wsgi.Response if hasattr(wsgi.Response, "_response_omits_body") else _Response


def answered(fault: Exception) -> Exception:
    """The error to raise for one of :data:`MALFORMED`, so that gunicorn answers the request with 400."""
    return fault if isinstance(fault, ParseException) else MalformedRequest(str(fault))


def receive(source: Any, size_hint: int | None) -> bytes:
    """Wait for the next bytes of a request, as many as its parser wants if that is known."""
    hint = (size_hint,) if _HINTS_SIZE else ()
    data: bytes = unreader.SocketUnreader.chunk(source, *hint)
    return data


def has_failed(body: Any) -> bool:
    """Whether reading a body failed, which it says from 27 on; before, :func:`close_after` is what counts."""
    return bool(getattr(body, "failed", False))


def close_after(body: Any) -> None:
    """Close the connection after the response, as reading this chunked body failed: its end is unknown."""
    force_close = getattr(getattr(getattr(body, "reader", None), "req", None), "force_close", None)
    if force_close is not None:
        force_close()


def gthread_call_soon(worker: Any) -> Callable[..., None] | None:
    """The function by which gthread's main thread is to call another soon, which came with 24; else ``None``."""
    queue = getattr(worker, "method_queue", None)
    return None if queue is None else queue.defer


def new_parser(cfg: Any, sock: Any, client: Any) -> Any:
    """gunicorn's parser for the setting ``protocol``, which came with 24."""
    return getattr(http, "get_parser", RequestParser)(cfg, sock, client)


def speaks_uwsgi(cfg: Any) -> bool:
    """Whether requests have uWSGI's form, with lengths and no lines: the setting ``protocol`` came with 24."""
    return bool(getattr(cfg, "protocol", "http") == "uwsgi")


def has_proxy_line(cfg: Any) -> bool:
    """Whether a connection may begin with a PROXY line: the setting was a bool, and is a word from 24 on."""
    return str(getattr(cfg, "proxy_protocol", "off")) not in ("off", "False")


_make_early_hints = getattr(wsgi, "_make_early_hints_callback", None)

# Whether the environ has ``wsgi.early_hints``, which came with 25.
HAS_EARLY_HINTS = _make_early_hints is not None


def send_early_hints(resp: Any, headers: Any) -> None:
    """Send fields before a response, as gunicorn does."""
    if _make_early_hints is not None:
        _make_early_hints(resp.req, resp.sock, resp)(headers)


def wants_http2(cfg: Any) -> bool:
    """Whether a setting asks for HTTP/2, which came with 25, and without TLS with 26."""
    return "h2" in getattr(cfg, "http_protocols", ()) or getattr(cfg, "http2_cleartext", "off") != "off"


def leave_out_http2(cfg: Any) -> None:
    """Have TLS clients choose HTTP/1.1."""
    if wants_http2(cfg):
        cfg.set("http_protocols", "h1")


def writes_access_log(log: Any) -> bool:
    """Whether there is an access log, which gunicorn's logger says from 25 on."""
    found = getattr(log, "access_log_enabled", None)
    if found is not None:
        return bool(found)
    cfg = log.cfg
    configured = cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json
    return bool(configured or (cfg.syslog and not cfg.disable_redirect_access_to_syslog))

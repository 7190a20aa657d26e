"""Requests: the plain ones are read here, fast; all others by gunicorn's parser.

A request is plain if it is complete, and valid by the narrowest reading of RFC 9112: no repeated field, no transfer
coding, no field that gunicorn has a rule for but those below. What is not certainly plain is left to gunicorn, so
its rules hold, those of future releases too. For a plain one the result is gunicorn's, field for field
(tests/unit/test_plain_request.py compares thousands).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.util import unquote_to_wsgi_str

from .connection import Connection

# gunicorn's limits are higher, and a request near them is rare: gunicorn counts those.
_LONGEST_HEAD = 4000
_MOST_FIELDS = 50

_REQUEST_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/(?!/)[!-~]*) HTTP/1\.([01])")

# RFC 9110, section 5. No underscore in the name: it could be taken for a hyphen.
_FIELD = re.compile(rb"([!#$%&'*+\-.^`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*)")

# gunicorn has a rule for these, which the fast way does not know.
_LEFT_TO_GUNICORN = ("EXPECT", "TRANSFER-ENCODING", "UPGRADE", "TRAILER")

# How many different field lines are remembered: most clients send the same ones with each request.
_REMEMBERED = 2048
_LONGEST_REMEMBERED = 256


class _Field(NamedTuple):
    """A valid field line.

    :ivar pair: its name in capitals and its value.
    :ivar key: its key in the environ.
    :ivar kind: what else it says; ``None`` for most.
    """

    pair: tuple[str, str]
    key: str
    kind: str | None


class PlainRequest(Request):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's request, made from parts that are known to be valid."""

    fragment = ""
    proxy_protocol_info = None
    trailers: list[Any] = []  # noqa: RUF012  # of a chunked body, which no plain request has

    def __init__(self, cfg: Any, client: Any) -> None:
        # Not the base class's, which reads from the socket.
        self.cfg = cfg
        self.peer_addr = self.remote_addr = client
        self.must_close = False
        self._closes = False

    def should_close(self) -> bool:
        """Whether the client wants the connection closed, or :meth:`force_close` was called."""
        return self.must_close or self._closes


class RequestReader:
    """Reads plain requests, for one worker.

    :param cfg: gunicorn's settings.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        self._scheme_fields: dict[str, str] = cfg.secure_scheme_headers
        limits = (cfg.limit_request_line or _LONGEST_HEAD, cfg.limit_request_field_size or _LONGEST_HEAD)
        self._longest_head = min(_LONGEST_HEAD, *limits)
        self._most_fields = min(_MOST_FIELDS, cfg.limit_request_fields)
        has_proxy_line = str(getattr(cfg, "proxy_protocol", "off")) not in ("off", "False")
        self._first = 2 if has_proxy_line else 1  # the first request of a connection that may be plain
        self._fields: dict[bytes, _Field] = {}
        self._trusted: dict[Any, bool] = {}

    def read(self, conn: Connection, environ: dict[str, Any]) -> PlainRequest | None:
        """Read the request whose bytes have arrived, if it is plain; else return ``None``.

        :param environ: gets the keys of the request's fields, its method and its target.
        """
        data = conn.received
        end = data.find(b"\r\n\r\n")
        if not 0 < end <= self._longest_head or conn.requests < self._first:
            return None
        lines = data[:end].split(b"\r\n")
        start = _REQUEST_LINE.fullmatch(lines[0])
        if start is None or len(lines) > self._most_fields:
            return None
        del lines[0]
        fields = self._fields
        req = PlainRequest(self._cfg, conn.client)
        headers: list[tuple[str, str]] = []
        length = "0"
        scheme = None
        connection = None
        for line in lines:
            field = fields.get(line) or self._learn(line)
            if field is None:
                return None
            pair, key, kind = field
            if key in environ:
                return None
            environ[key] = pair[1]
            headers.append(pair)
            if kind is None:
                continue
            if kind == "length":
                length = pair[1]
            elif kind == "connection":
                connection = pair[1].lower()
            elif scheme is not None:
                return None  # two of them, which may contradict each other
            else:
                scheme = kind
        body = data[end + 4 :]
        if len(body) != int(length):
            return None
        method, target, minor = start.groups()
        req.method = method.decode("ascii")
        req.uri = uri = target.decode("ascii")
        if "#" in uri:
            return None
        req.path, _, req.query = uri.partition("?")
        req.version = (1, 1) if minor == b"1" else (1, 0)
        req.headers = headers
        if connection != "keep-alive":
            req._closes = connection == "close" or minor == b"0"
        req.scheme = "http" if scheme is None or not self._is_trusted(conn.client) else scheme
        req.unreader = IterUnreader([body]) if body else _NOTHING
        req.body = Body(LengthReader(req.unreader, len(body)))
        req.req_number = conn.requests
        environ["REQUEST_METHOD"] = req.method
        environ["RAW_URI"] = uri
        environ["QUERY_STRING"] = req.query
        environ["PATH_INFO"] = unquote_to_wsgi_str(req.path) if "%" in uri else req.path
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor == b"1" else "HTTP/1.0"
        environ["wsgi.input"] = req.body
        environ["wsgi.url_scheme"] = req.scheme
        return req

    def _learn(self, line: bytes) -> _Field | None:
        """A field line that has not been seen; ``None`` if it is not plain."""
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name = match[1].decode("ascii").upper()
        value = match[2].decode("latin-1").rstrip(" \t")
        if name in _LEFT_TO_GUNICORN:
            return None
        kind = None
        key = "HTTP_" + name.replace("-", "_")
        if name == "CONTENT-LENGTH":
            if not (value.isascii() and value.isdigit()) or len(value) > 9:
                return None
            kind, key = "length", "CONTENT_LENGTH"
        elif name == "CONTENT-TYPE":
            key = "CONTENT_TYPE"
        elif name == "CONNECTION":
            kind = "connection"
        elif name in self._scheme_fields:
            kind = "https" if value == self._scheme_fields[name] else "http"
        field = _Field((name, value), key, kind)
        if len(line) <= _LONGEST_REMEMBERED:
            if len(self._fields) >= _REMEMBERED:
                self._fields.clear()  # a client that sends something else each time must not fill the memory
            self._fields[line] = field
        return field

    def _is_trusted(self, client: Any) -> bool:
        """Whether gunicorn takes the scheme from this client's fields."""
        peer = client[0] if isinstance(client, tuple) else client
        trusted = self._trusted.get(peer)
        if trusted is None:
            # gunicorn is asked: with a request of this client that says "https".
            name, value = next(iter(self._scheme_fields.items()))
            probe = f"GET / HTTP/1.1\r\n{name}: {value}\r\n\r\n".encode("latin-1")
            trusted = Request(self._cfg, IterUnreader([probe]), client, 2).scheme == "https"
            if len(self._trusted) >= _REMEMBERED:
                self._trusted.clear()
            self._trusted[peer] = trusted
        return trusted


_NOTHING = IterUnreader([])


class ErrorStream(wsgi.WSGIErrorsWrapper):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's ``wsgi.errors``, one for all requests: it looks for the error log's streams at each write, as a
    log that was rotated has another one.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def write(self, data: str) -> None:
        """Write into the error log."""
        wsgi.WSGIErrorsWrapper(self._cfg).write(data)

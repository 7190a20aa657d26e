"""Requests: the plain ones are read here, fast; all others by gunicorn's parser.

A request is plain if it is complete, and valid by the narrowest reading of RFC 9112: no repeated field, no
transfer coding, no field that gunicorn has a rule for but those below. gunicorn reads all other requests, so its
rules hold, those of future releases too. For a plain one the result is gunicorn's, field for field
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

from . import versions
from .connection import Connection

# gunicorn's limits are higher, and a request near them is rare: gunicorn counts those.
_LONGEST_HEAD = 4000
_MOST_FIELDS = 50

_REQUEST_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/(?!/)[!\x22$-~]*) HTTP/1\.([01])")

# RFC 9110, section 5. No underscore in the name: it could be taken for a hyphen. The value begins right after the
# colon: a part for its leading space would match the value's bytes, too, and a long invalid line would take the
# square of its length to refuse.
_FIELD = re.compile(rb"([!#$%&'*+\-.^`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)")

# gunicorn has a rule for these, which the fast way does not know.
_LEFT_TO_GUNICORN = ("EXPECT", "TRANSFER-ENCODING", "UPGRADE", "TRAILER")

# How many different field lines are remembered: most clients send the same ones with each request.
_REMEMBERED = 2048
_LONGEST_REMEMBERED = 256


class _Field(NamedTuple):
    """A valid field line.

    :ivar pair: its name in capitals and its value.
    :ivar key: its key in the environ.
    :ivar says: its meaning for the request: the ``length``, the ``connection``, or the ``scheme`` (the field
        itself if it says "https", else ""); ``None`` for most.
    """

    pair: tuple[str, str]
    key: str
    says: tuple[str, str] | None


_NOTHING = IterUnreader([])


class PlainRequest(Request):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's request, made from parts that are known to be valid.

    :ivar closes: whether the client wants the connection closed after the response.
    """

    _expected_100_continue = False
    closes = False
    fragment = ""
    must_close = False
    proxy_protocol_info = None
    scheme = "http"
    trailers: tuple[Any, ...] = ()  # of a chunked body, which no plain request has
    unreader = _NOTHING

    def __init__(self, cfg: Any, conn: Connection) -> None:
        # Not the base class's, which reads from the socket.
        self.cfg = cfg
        self.peer_addr = self.remote_addr = conn.client
        self.req_number = conn.requests
        self.headers: list[tuple[str, str]] = []

    def should_close(self) -> bool:
        """Whether the connection closes after the response."""
        return self.must_close or self.closes


class RequestReader:
    """Reads plain requests, for one worker.

    :param cfg: gunicorn's settings.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        self._scheme_fields: dict[str, str] = cfg.secure_scheme_headers
        limits = (cfg.limit_request_line or _LONGEST_HEAD, cfg.limit_request_field_size or _LONGEST_HEAD)
        self._longest_head = min(_LONGEST_HEAD, *limits)
        self._most_fields = min(_MOST_FIELDS, cfg.limit_request_fields or _MOST_FIELDS)
        # The first request of a connection that may be plain.
        self._first = 2 if versions.has_proxy_line(cfg) else 1
        self._fields: dict[bytes, _Field] = {}
        self._trusted: dict[Any, bool] = {}

    def read(self, conn: Connection, base: dict[str, Any]) -> tuple[PlainRequest, dict[str, Any]] | None:
        """Read the request whose bytes have arrived, if it is plain; returns it with its environ.

        :param base: the part of the environ that all requests share.
        """
        data = conn.received
        end = data.find(b"\r\n\r\n")
        if not 0 < end <= self._longest_head or conn.requests < self._first:
            return None
        start, *lines = data[:end].split(b"\r\n")
        parts = _REQUEST_LINE.fullmatch(start)
        if parts is None or len(lines) > self._most_fields:
            return None
        environ = base.copy()
        req = PlainRequest(self._cfg, conn)
        extra = self._add_fields(req, lines, environ)
        body = data[end + 4 :]
        if extra is None or len(body) != int(extra.get("length", "0")):
            return None
        method, target, minor = parts.groups()
        req.method = method.decode("ascii")
        req.uri = target.decode("ascii")
        req.path, _, req.query = req.uri.partition("?")
        req.version = (1, int(minor))
        connection = extra.get("connection")
        if connection != "keep-alive":
            req.closes = connection == "close" or minor == b"0"
        if extra.get("scheme") and self._is_trusted(conn.client, extra["scheme"]):
            req.scheme = "https"
        if body:
            req.unreader = IterUnreader([body])
        req.body = Body(LengthReader(req.unreader, len(body)))
        environ["REQUEST_METHOD"] = req.method
        environ["RAW_URI"] = req.uri
        environ["QUERY_STRING"] = req.query
        environ["PATH_INFO"] = unquote_to_wsgi_str(req.path) if "%" in req.path else req.path
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor == b"1" else "HTTP/1.0"
        environ["wsgi.input"] = req.body
        environ["wsgi.url_scheme"] = req.scheme
        return req, environ

    def _add_fields(self, req: PlainRequest, lines: list[bytes], environ: dict[str, Any]) -> dict[str, str] | None:
        """Add the fields; returns what some say beside their values, ``None`` if they are not plain."""
        headers = req.headers
        extra: dict[str, str] = {}
        for line in lines:
            field = self._fields.get(line) or self._learn(line)
            if field is None:
                return None
            pair, key, says = field
            if key in environ:
                return None
            environ[key] = pair[1]
            headers.append(pair)
            if says is not None:
                if says[0] in extra:
                    return None  # two of them may contradict each other
                extra[says[0]] = says[1]
        return extra

    def _learn(self, line: bytes) -> _Field | None:
        """A field line that has not been seen; ``None`` if it is not plain."""
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name = match[1].decode("ascii").upper()
        value = match[2].decode("latin-1").strip(" \t")
        if name in _LEFT_TO_GUNICORN:
            return None
        says = None
        key = "HTTP_" + name.replace("-", "_")
        if name in self._scheme_fields:
            if name in ("CONTENT-LENGTH", "CONNECTION"):
                return None  # it would say two things
            says = ("scheme", f"{name}:{value}" if value == self._scheme_fields[name] else "")
        if name == "CONTENT-LENGTH":
            if not (value.isascii() and value.isdigit()) or len(value) > 9:
                return None
            says, key = ("length", value), "CONTENT_LENGTH"
        elif name == "CONTENT-TYPE":
            key = "CONTENT_TYPE"
        elif name == "CONNECTION":
            says = ("connection", value.lower())
        field = _Field((name, value), key, says)
        if len(line) <= _LONGEST_REMEMBERED:
            if len(self._fields) >= _REMEMBERED:
                self._fields.clear()  # a client that sends other fields each time must not fill the memory
            self._fields[line] = field
        return field

    def _is_trusted(self, client: Any, field: str) -> bool:
        """Whether gunicorn takes the scheme from this client's fields.

        :param field: one of them, which says "https".
        """
        peer = client[0] if isinstance(client, tuple) else client
        trusted = self._trusted.get(peer)
        if trusted is None:
            # gunicorn is asked, with the smallest request that has this field: no limit refuses it if none
            # refuses the request at hand.
            probe = f"GET / HTTP/1.1\r\n{field}\r\n\r\n".encode("latin-1")
            trusted = Request(self._cfg, IterUnreader([probe]), client, 2).scheme == "https"
            if len(self._trusted) >= _REMEMBERED:
                self._trusted.clear()
            self._trusted[peer] = trusted
        return trusted


class ErrorStream(wsgi.WSGIErrorsWrapper):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's ``wsgi.errors``, one for all requests: it looks for the error log's streams at each write, as a
    log that was rotated has another one.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def write(self, data: str) -> None:
        """Write into the error log."""
        wsgi.WSGIErrorsWrapper(self._cfg).write(data)

    def close(self) -> None:
        """Do nothing: an app that closes it must not close that of other requests."""

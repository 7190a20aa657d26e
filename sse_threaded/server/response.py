"""The response to one request, as bytes: the head, and the framing of the body (RFC 9112, sections 4 to 7).

It is gunicorn's, made faster: fields that were sent before are not checked again, and the head leaves with the
first bytes of the body. tests/unit/test_response.py compares it with gunicorn's.
"""

from __future__ import annotations

import re
import time
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi

from . import versions

_STATUS = re.compile(r"[0-9]{3}(?: [ \t\x21-\x7e\x80-\xff]*)?")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+")
_VALUE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")

# How many different fields are remembered: apps send the same ones with most responses.
_REMEMBERED = 1024
_LONGEST_REMEMBERED = 256

# Fields that were checked, with the lines that they become; empty for those that the server does not pass on.
_lines: dict[tuple[str, str], bytes] = {}

# The status and the fields Server and Date, and the second in which they were made.
_starts: dict[tuple[str | None, Any, str], bytes] = {}
_made = 0


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn has no annotations
    """A response that sends its head with the first bytes of its body.

    :param req: the request.
    :param sock: has ``sendall`` and ``sendfile``.
    :param cfg: gunicorn's settings.

    What follows is what gunicorn's has: ``status``, ``headers``, ``headers_sent``, ``sent``, and so on.
    """

    status: str | None
    headers: list[tuple[str, str]]
    headers_sent: bool
    response_length: int | None

    def __init__(self, req: Any, sock: Any, cfg: Any) -> None:
        super().__init__(req, sock, cfg)
        self._omits_body = False
        self._omits_body_warned = False
        self._field_lines: list[bytes] = []

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """PEP 3333's."""
        if exc_info:
            try:
                if self.status and self.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise AssertionError("Response headers already set!")
        if not isinstance(status, str):
            raise TypeError(f"{status!r} is not a string")
        if not _STATUS.fullmatch(status):
            raise ValueError(f"Invalid status {status!r}")
        self.status = status
        self.status_code = code = int(status[:3])
        self.response_length = None
        self.headers = []
        self._field_lines = []
        for name, value in headers:
            self._add_field(name, value)
        self._omits_body = self.req.method == "HEAD" or code in (204, 304) or 100 <= code < 200
        if (code == 204 or 100 <= code < 200) and self.response_length is not None:
            # RFC 9110, section 8.6: these may not have a length.
            self.response_length = None
            self._drop_length()
        self.chunked = self.is_chunked()
        return self.write

    def _add_field(self, name: str, value: str) -> None:
        line = _lines.get((name, value))
        if line is None:
            line = _checked_line(name, value)
            if len(line) <= _LONGEST_REMEMBERED:
                if len(_lines) >= _REMEMBERED:
                    _lines.clear()
                _lines[name, value] = line
        size = len(name)
        if size == 14 and name.lower() == "content-length":
            self.response_length = int(value)
        elif size == 10 and name.lower() == "connection" and value.strip(" \t").lower() == "upgrade":
            self.upgrade = True
        if line:
            self.headers.append((name, value.strip(" \t")))
            self._field_lines.append(line)

    def _drop_length(self) -> None:
        kept = [at for at, (name, _) in enumerate(self.headers) if name.lower() != "content-length"]
        self.headers = [self.headers[at] for at in kept]
        self._field_lines = [self._field_lines[at] for at in kept]

    def is_chunked(self) -> bool:
        """Whether the body is sent in chunks: it has no length, and the client speaks HTTP/1.1."""
        if self.response_length is not None or self._omits_body:
            return False
        return self.req.version > (1, 0) and getattr(self.cfg, "protocol", "http") != "uwsgi"

    def _head(self) -> bytes:
        global _made
        second = int(time.time())
        if second != _made:
            _starts.clear()
            _made = second
        connection = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        key = (self.status, self.req.version, connection)
        start = _starts.get(key)
        if start is None:
            major, minor = self.req.version
            start = _starts[key] = (
                f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\n"
                f"Date: {util.http_date(second)}\r\nConnection: {connection}\r\n"
            ).encode("latin-1")
        coding = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        return b"%b%b%b\r\n" % (start, coding, b"".join(self._field_lines))

    def send_headers(self) -> None:
        """Send the head, if it was not sent yet."""
        if not self.headers_sent:
            self.headers_sent = True
            self.sock.sendall(self._head())

    def write(self, data: bytes) -> None:
        """Send a part of the body; the first with the head."""
        if not isinstance(data, bytes):
            raise TypeError(f"{data!r} is not a byte")
        head = b""
        if not self.headers_sent:
            head = self._head()
            self.headers_sent = True
        if self._omits_body:
            self._warn_of_body(data)
            data = b""
        elif self.response_length is not None:
            data = data[: max(0, self.response_length - self.sent)]  # never more than the head says
        self.sent += len(data)
        if self.chunked and data:
            data = b"%b%X\r\n%b\r\n" % (head, len(data), data)
        elif head:
            data = head + data
        if data:
            self.sock.sendall(data)

    def _warn_of_body(self, data: bytes) -> None:
        if data and not self._omits_body_warned:
            self._omits_body_warned = True
            wsgi.log.warning(
                "The app gave a body, which a response to %s with status %s does not have",
                self.req.method,
                self.status_code,
            )

    def close(self) -> None:
        """Send what is left: the head of an empty response, the end of the chunks."""
        if not self.headers_sent:
            self.headers_sent = True
            end = b"0\r\n\r\n" if self.chunked else b""
            self.sock.sendall(self._head() + end)
        elif self.chunked:
            self.sock.sendall(b"0\r\n\r\n")


def _checked_line(name: str, value: str) -> bytes:
    """The line of a field; empty if the server does not pass it on.

    :raises TypeError: a part is not text.
    :raises InvalidHeader: a part has characters that RFC 9110, section 5, does not allow.
    """
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is not a string")
    if not _NAME.fullmatch(name):
        raise versions.InvalidResponseName(repr(name))
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    if not _VALUE.fullmatch(value):
        raise versions.InvalidResponseValue(repr(name))  # not the value, which may be a secret
    value = value.strip(" \t")
    if name.lower() == "content-length":
        int(value)
    if util.is_hoppish(name) and not (name.lower() == "upgrade" and value.lower() == "websocket"):
        return b""
    return f"{name}: {value}\r\n".encode("latin-1")

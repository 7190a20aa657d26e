"""The response to one request, as bytes: the head, and the framing of the body (RFC 9112, sections 4 to 7).

It is gunicorn's, made faster: fields that were sent before are not checked again, and the head leaves with the
first bytes of the body. tests/unit/test_response.py compares it with gunicorn's.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, NamedTuple

from gunicorn import SERVER, util
from gunicorn.http import wsgi

from . import versions

_STATUS = re.compile(r"[0-9]{3}(?: [ \t\x21-\x7e\x80-\xff]*)?")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+")
_VALUE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")

# How many different fields and statuses are remembered, with at most so many characters. Apps send the
# same ones with most responses.
_REMEMBERED = 1024
_LONGEST_REMEMBERED = 256


class _Field(NamedTuple):
    """A field that was checked.

    :ivar line: its line in the head; empty if the server does not pass it on.
    :ivar pair: its name and value.
    :ivar says: another fact that it tells; ``None`` for most.
    """

    line: bytes
    pair: tuple[str, str]
    says: str | None


_fields: dict[tuple[str, str], _Field] = {}

# The codes of statuses that were checked.
_codes: dict[str, int] = {}

# The status and the fields Server, Date and Connection, with the second for which they are; and how many are
# remembered.
_starts: dict[tuple[str | None, Any, str, int], bytes] = {}
_MOST_STARTS = 64


class Response(versions.Response):  # type: ignore[misc]  # gunicorn has no annotations
    """A response that sends its head with the first bytes of its body.

    :param req: the request.
    :param sock: has ``sendall`` and ``sendfile``.
    :param cfg: gunicorn's settings.
    :param has_chunks: whether the worker's protocol has chunks; default ``True``.

    :ivar is_encoded: whether the body was encoded on the way.
    :ivar is_stream: whether it is a stream of events.

    The others are those of gunicorn's.
    """

    chunked = False
    headers_sent = False
    is_encoded = False
    is_stream = False
    must_close = False
    response_length: int | None = None
    sent = 0
    status: str | None = None
    status_code: int  # no value before the app has called start_response()
    upgrade = False
    version = SERVER
    _omits_body = False
    _omits_body_warned = False

    def __init__(self, req: Any, sock: Any, cfg: Any, has_chunks: bool = True) -> None:
        # Not the base class's, which sets all attributes above for each response.
        self.req = req
        self.sock = sock
        self.cfg = cfg
        self._has_chunks = has_chunks
        self.headers: list[tuple[str, str]] = []
        self._lines: list[bytes] = []

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """PEP 3333's."""
        if exc_info:
            try:
                if self.status and self.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
            self.response_length = None
            self.is_stream = self.is_encoded = self.upgrade = False
        elif self.status is not None:
            raise AssertionError("Response headers already set!")
        code = _codes.get(status) or _learn_code(status)
        self.status, self.status_code = status, code
        self.headers, self._lines = [], []
        for name, value in headers:
            line, pair, says = _fields.get((name, value)) or _learn(name, value)
            if says is not None:
                self._note(says, value)
            if line:
                self.headers.append(pair)
                self._lines.append(line)
        has_no_length = code == 204 or 100 <= code < 200
        self._omits_body = has_no_length or code == 304 or self.req.method == "HEAD"
        if has_no_length and self.response_length is not None:
            self._drop_length()
        self.chunked = self.is_chunked()
        return self.write

    def _note(self, says: str, value: str) -> None:
        if says == "length":
            self.response_length = int(value)
        elif says == "stream":
            self.is_stream = True
        elif says == "encoding":
            self.is_encoded = True
        else:
            self.upgrade = True

    def _drop_length(self) -> None:
        # RFC 9110, section 8.6: these responses may not have one.
        self.response_length = None
        kept = [at for at, (name, _) in enumerate(self.headers) if name.lower() != "content-length"]
        self.headers = [self.headers[at] for at in kept]
        self._lines = [self._lines[at] for at in kept]

    def early_hints(self, headers: Any) -> None:
        """``wsgi.early_hints`` of the environ: send fields before the response."""
        versions.send_early_hints(self, headers)

    def should_close(self) -> bool:
        """Whether the connection closes after it."""
        if self.must_close or self.req.should_close():
            return True
        if self.chunked or self.response_length is not None or self.req.method == "HEAD":
            return False
        return not (self.status_code < 200 or self.status_code in (204, 304))

    def is_chunked(self) -> bool:
        """Whether the body is sent in chunks: it has no length, and the client speaks HTTP/1.1."""
        if self.response_length is not None or self._omits_body:
            return False
        return self._has_chunks and self.req.version > (1, 0)

    def _head(self) -> bytes:
        if self.status is None:
            raise AssertionError("The app gave a body, but did not call start_response")
        second = int(time.time())
        connection = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        key = (self.status, self.req.version, connection, second)
        start = _starts.get(key)
        if start is None:
            major, minor = self.req.version
            start = (
                f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\n"
                f"Date: {util.http_date(second)}\r\nConnection: {connection}\r\n"
            ).encode("latin-1")
            if len(start) <= 2 * _LONGEST_REMEMBERED:
                if len(_starts) >= _MOST_STARTS:
                    _starts.clear()
                _starts[key] = start
        coding = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        return b"%b%b%b\r\n" % (start, coding, b"".join(self._lines))

    def send_headers(self) -> None:
        """Send the head, if it was not sent yet."""
        if not self.headers_sent:
            head = self._head()
            self.headers_sent = True
            self.sock.sendall(head)

    def write(self, data: bytes) -> None:
        """Send a part of the body; the first with the head."""
        framed = self.frame(data)
        if framed:
            self.sock.sendall(framed)

    def frame(self, data: bytes) -> bytes:
        """The bytes of a part of the body, for a caller that sends them; the first with the head."""
        if not isinstance(data, bytes):
            raise TypeError(f"{data!r} is not a byte")
        head = b""
        if not self.headers_sent:
            head = self._head()
            self.headers_sent = True
        if self._omits_body:
            self._warn_of_body(data)
            return head
        if self.response_length is not None:
            data = data[: max(0, self.response_length - self.sent)]  # never more than the head says
        self.sent += len(data)
        if self.chunked and data:
            return b"%b%X\r\n%b\r\n" % (head, len(data), data)
        return head + data if head else data

    def sendfile(self, respiter: Any) -> bool:
        """Have the system send a file; returns whether it did.

        gunicorn's would frame an empty file as a chunk, and an empty chunk ends the body: :meth:`close` would end
        it once more, in front of the next response.
        """
        return not (self.chunked and _is_at_end(respiter.filelike)) and bool(super().sendfile(respiter))

    def _warn_of_body(self, data: bytes) -> None:
        if data and not self._omits_body_warned:
            self._omits_body_warned = True
            wsgi.log.warning(
                "The app gave a body, which a response to %s with status %s does not have",
                self.req.method,
                self.status_code,
            )

    def close(self) -> None:
        """Send the head of a response without a body, and the end of the chunks."""
        if not self.headers_sent:
            head = self._head()
            self.headers_sent = True
            self.sock.sendall(head + b"0\r\n\r\n" if self.chunked else head)
        elif self.chunked:
            self.sock.sendall(b"0\r\n\r\n")


def _is_at_end(file: Any) -> bool:
    try:
        return os.fstat(file.fileno()).st_size <= os.lseek(file.fileno(), 0, os.SEEK_CUR)
    except (OSError, AttributeError):
        return False


def _learn_code(status: str) -> int:
    """The code of a status, which is checked.

    :raises TypeError: it is not text.
    :raises ValueError: it does not begin with three digits (RFC 9112, section 4).
    """
    if not isinstance(status, str):
        raise TypeError(f"{status!r} is not a string")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"Invalid status {status!r}")
    code = int(status[:3])
    if len(status) <= _LONGEST_REMEMBERED:
        if len(_codes) >= _REMEMBERED:
            _codes.clear()
        _codes[status] = code
    return code


def _learn(name: str, value: str) -> _Field:
    """Check a field.

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
    pair = (name, value.strip(" \t"))
    lower, word = name.lower(), pair[1].lower()
    is_passed_on = not util.is_hoppish(name) or (lower == "upgrade" and word == "websocket")
    line = f"{name}: {pair[1]}\r\n".encode("latin-1") if is_passed_on else b""
    says = None
    if lower == "content-length":
        int(value)
        says = "length"
    elif lower == "content-type" and word.startswith("text/event-stream"):
        says = "stream"
    elif lower == "content-encoding":
        says = "encoding"
    elif lower == "connection" and word == "upgrade":
        says = "upgrade"
    field = _Field(line, pair, says)
    if len(name) + len(value) <= _LONGEST_REMEMBERED:  # the line may be empty
        if len(_fields) >= _REMEMBERED:
            _fields.clear()
        _fields[name, value] = field
    return field

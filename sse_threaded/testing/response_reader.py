"""HTTP/1.1 for the clients of this package: a reader without I/O, and one request at a time.

``http.client`` is not enough for endless streams: its response cannot be read any more once a read has
timed out, and it does not give the bytes of half a chunk.
"""

from __future__ import annotations

import http.client
import json as json_module
import re
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from werkzeug.datastructures import Headers

from .errors import BadResponse

# Werkzeug, gunicorn and waitress send heads of a few hundred bytes; past this the server is not sending one.
_MAX_HEAD_BYTES = 64 * 1024


class Reply(NamedTuple):
    """The answer to :func:`request`; unpacks as ``status, headers, body``."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Read the body as JSON; raises ``ValueError`` when it is none."""
        return json_module.loads(self.body)


def split_url(url: str) -> tuple[SplitResult, str]:
    """Split an ``http://`` URL into its parts and the request target.

    :raises ValueError: on another scheme, or without a host.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL like http://127.0.0.1:3000/path")
    return parts, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 10.0,
) -> Reply:
    """Send one request on a connection of its own and read the whole answer; redirects are not followed.

    :param method: such as ``"POST"``.
    :param url: an ``http://`` URL.
    :param json: what to send as JSON, with its content type; default ``None``, no JSON.
    :param body: bytes to send instead, with the content type you give in ``headers``.
    :param headers: further header fields; they win over those made here.
    :param timeout: seconds that the connection may stay silent; default 10.
    :raises OSError: when there is no connection (``TimeoutError`` when it stays silent).
    """
    parts, target = split_url(url)
    fields = Headers({"Connection": "close"})
    if json is not None:
        body = json_module.dumps(json).encode()
        fields["Content-Type"] = "application/json"
    for name, value in (headers or {}).items():
        fields[name] = value
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, target, body, dict(fields))
        response = connection.getresponse()
        return Reply(response.status, Headers(response.getheaders()), response.read())
    finally:
        connection.close()


class ResponseReader:
    """One HTTP/1.x response without I/O (RFC 9112): feed it bytes, it gives the body's bytes back.

    :ivar status: the status code; 0 until the head is there.
    :ivar headers: the header fields; empty until the head is there.
    :ivar ended: whether the body is over.
    :ivar complete: whether it ended as its framing says, and not by a cut connection.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers = Headers()
        self.ended = False
        self.complete = False
        self._buffer = bytearray()
        self._chunked = False
        self._left: int | None = None  # bytes left of the body or the chunk; None: not known
        self._after_chunk = False
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they came from the socket; return what they hold of the body.

        :raises BadResponse: when they are not HTTP.
        """
        self._buffer += data
        if not self.status and not self._read_head():
            return b""
        return self._read_chunks() if self._chunked else self._read_plain()

    def feed_end(self) -> None:
        """Take note that the peer has closed the connection."""
        if not self.ended:
            self.ended = True
            # Without a length and without chunks the close is the end (RFC 9112, section 6.3, rule 8).
            self.complete = bool(self.status) and not self._chunked and self._left is None

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    raise BadResponse(f"no end of the response's head in {_MAX_HEAD_BYTES} bytes")
                return False
            first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            version, _, rest = first.partition(" ")
            if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
                raise BadResponse(f"{first[:100]!r} is not the status line of HTTP/1.x")
            if rest[0] != "1":  # else an interim response: the real one follows
                break
        for line in lines:
            name, _, value = line.partition(":")
            self.headers.add(name, value.strip(" \t"))
        self.status = int(rest[:3])
        self._chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        if self.status in {204, 304}:
            self._left, self._chunked = 0, False
        elif not self._chunked and "Content-Length" in self.headers:
            length = self.headers["Content-Length"]
            if not re.fullmatch("[0-9]+", length):
                raise BadResponse(f"{length[:100]!r} is not a Content-Length")
            self._left = int(length)
        return True

    def _read_plain(self) -> bytes:
        body = bytes(self._buffer if self._left is None else self._buffer[: self._left])
        del self._buffer[: len(body)]
        if self._left is not None:
            self._left -= len(body)
            self.ended = self.complete = self._left == 0
        return body

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while not self.ended:
            if self._left:
                piece = self._buffer[: self._left]
                if not piece:
                    break
                body += piece
                self._left -= len(piece)
                del self._buffer[: len(piece)]
                self._after_chunk = not self._left
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._take_line(line)
        return bytes(body)

    def _take_line(self, line: bytes) -> None:
        if self._in_trailer:
            self.ended = self.complete = not line
        elif self._after_chunk:
            self._after_chunk = False
            if line:
                raise BadResponse(f"a chunk is followed by {line[:100]!r}, not by the end of a line")
        else:
            size = line.partition(b";")[0].strip(b" \t")
            if not re.fullmatch(b"[0-9A-Fa-f]{1,16}", size):
                raise BadResponse(f"{line[:100]!r} is not the size of a chunk")
            self._left = int(size, 16)
            self._in_trailer = not self._left
